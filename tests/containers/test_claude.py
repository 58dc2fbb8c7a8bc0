"""Claude in a real container: it asks, sees what others did, is undone; and whatever is killed, it comes back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi, script
from tests.support.containers import ContainerGateway, docker
from tests.support.processes import until

KEY = "sk-ant-canary-container"

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]


class Talk:
    """A conversation with Claude in the container of `demo`."""

    def __init__(self, api: ClaudeApi, gateway: ContainerGateway) -> None:
        self.api = api
        self.gateway = gateway
        self.source = gateway.projects / "demo"
        self._numbers = iter(range(10_000))

    def prompt(self, *steps: dict[str, Any], words: str = "") -> asyncio.Task[dict[str, Any]]:
        name = f"t{next(self._numbers)}"
        return asyncio.create_task(self.gateway.send_surely(f"{words} {script(*steps)}".strip(), name))

    async def answered(self, *steps: dict[str, Any], words: str = "") -> str:
        answer = await asyncio.wait_for(self.prompt(*steps, words=words), 90 * patience())
        assert answer["fate"] == "answered", answer
        return "\n".join(answer["replies"])

    async def says(self, text: str) -> str:
        return await self.gateway.said(text, f"t{next(self._numbers)}")

    def inside(self, wanted: str) -> list[str]:
        """The pids in the container of processes whose command line contains `wanted`."""
        lines = self.gateway.inside("demo", "ps", "-eo", "pid,args").splitlines()
        return [line.split()[0] for line in lines if wanted in line and "ps -eo" not in line]

    def kill(self, pids: list[str]) -> None:
        docker("exec", self.gateway.container("demo"), "bash", "-c", f"kill -9 {' '.join(pids)}", check=False)


def bash(command: str) -> dict[str, Any]:
    return {"tools": [{"name": "Bash", "input": {"command": command, "description": "runs"}}]}


@pytest_asyncio.fixture
async def talk(engine: None, tmp_path: Path) -> AsyncIterator[Talk]:
    async with ClaudeApi(require_key=KEY) as api:
        agent = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url}
        people = {"cli:root": {"name": "Ana", "pronouns": "she/her"}}
        with ContainerGateway(tmp_path, {"agent": agent, "people": people}) as gateway:
            await gateway.start()
            await gateway.said("new project demo", "p")
            yield Talk(api, gateway)


async def test_it_asks_it_is_told_what_happened_and_it_is_undone(talk: Talk) -> None:
    await talk.says("permissions ask")
    asking = talk.prompt(bash("echo one > file"), {"text": "wrote it"})
    assert "echo one > file" in await talk.gateway.card()
    assert not (talk.source / "file").exists()
    # The gateway goes away while the agent waits; the card and its answer are none the worse.
    talk.gateway.kill()
    await talk.gateway.start()
    await talk.says("allow")
    assert (await asyncio.wait_for(asking, 60 * patience()))["replies"] == ["wrote it"]
    assert (talk.source / "file").read_text() == "one\n"

    await talk.says("permissions auto")
    choice = {
        "question": "Which?",
        "header": "Which",
        "multiSelect": False,
        "options": [{"label": label, "description": "one of them"} for label in ("A", "B")],
    }
    asking = talk.prompt({"tools": [{"name": "AskUserQuestion", "input": {"questions": [choice]}}]}, {"text": "asked"})
    assert "**Which?**" in await talk.gateway.card()
    await talk.says("b")
    assert (await asyncio.wait_for(asking, 60 * patience()))["replies"] == ["asked"]
    assert '"B"' in str(talk.api.main[-1].messages[-1]) or "=B" in str(talk.api.main[-1].messages[-1]).replace('"', "")

    # What people do over SSH, and type in the chat, reaches the agent with its next prompt.
    await talk.gateway.logs_in("demo", "echo two >> file; echo new > other")
    await talk.says("restart")
    await talk.answered(bash("echo three >> file; rm other; echo made > made"), {"text": "changed"})
    first = next(request for request in talk.api.main if "rm other" in request.prompt)
    assert "file" in first.prompt and "other" in first.prompt and "changed" in first.prompt
    assert "restart" in first.prompt
    assert "Ana (she/her)" in first.prompt

    shown = await talk.says("diff")
    assert "+three" in shown and "-new" in shown and "+made" in shown
    undone = await talk.says("undo")
    assert "Put back: `file`, `other`" in undone and "Removed: `made`" in undone
    assert (talk.source / "file").read_text() == "one\ntwo\n"
    assert (talk.source / "other").read_text() == "new\n"
    assert not (talk.source / "made").exists()
    # The turn before that made `file`, which somebody has changed since: it stays, and is named.
    assert "Left alone: `file` (it has changed since)" in await talk.says("undo")
    assert (talk.source / "file").read_text() == "one\ntwo\n"

    # A file comes out; its folder does not show in git.
    assert "sent" in await talk.answered(bash("cp file .huskies/outbox/result.txt"), {"text": "sent"})
    assert ".huskies/outbox" not in talk.gateway.inside("demo", "git", "-C", "/workspace", "status", "--short", "-uall")


async def test_whatever_is_killed_the_dialogue_comes_back(talk: Talk) -> None:
    await talk.answered({"text": "noted"}, words="the word is walrus")
    for number, victim in enumerate(("_bundled/claude", "sled.runner", "-m sled", "container", "gateway")):
        hold = bash(f"touch begun-{number}; sleep 300")
        asking = talk.prompt(hold, {"text": "never"})
        await until((talk.source / f"begun-{number}").exists, 60)
        if victim == "container":
            docker("kill", talk.gateway.container("demo"))
        elif victim == "gateway":
            talk.gateway.kill()
            await talk.gateway.start()
            assert "Stopped the run." in await talk.says("stop")
        else:
            runners = talk.inside("sled.runner")
            talk.kill([pid for pid in talk.inside(victim) if victim != "-m sled" or pid not in runners])
        answer = await asyncio.wait_for(asking, 90 * patience())
        assert answer["fate"] in ("interrupted", "failed"), (victim, answer)
        assert await talk.answered({"text": f"back after {victim}"}) == f"back after {victim}"
        assert "walrus" in talk.api.main[-1].prompt, f"the dialogue went on after {victim}"
        assert talk.inside("sleep 300") == []


async def test_stop_ends_daemons_and_leaves_the_agent_warm(talk: Talk) -> None:
    await talk.answered({"text": "hello"})
    (cli,) = talk.inside("_bundled/claude")
    command = "setsid sh -c 'trap \"\" TERM INT HUP; sleep 301; sleep 302' & (sleep 303 &) ; touch begun; sleep 304"
    asking = talk.prompt(bash(command), {"text": "never"})
    await until((talk.source / "begun").exists, 60)
    began = asyncio.get_running_loop().time()
    assert "Stopped the run." in await talk.says("stop")
    assert asyncio.get_running_loop().time() - began < 4 * patience()
    assert (await asyncio.wait_for(asking, 30 * patience()))["fate"] == "interrupted"
    assert talk.inside("sleep 30") == []
    assert await talk.answered({"text": "still here"}) == "still here"
    assert talk.inside("_bundled/claude") == [cli], "the same client, warm"

    # One that ignores its interrupt is killed with all that it started; the next turn resumes.
    asking = talk.prompt(bash("touch frozen; sleep 305"), {"text": "never"})
    await until((talk.source / "frozen").exists, 60)
    docker("exec", talk.gateway.container("demo"), "kill", "-STOP", cli)
    assert "Stopped the run." in await talk.says("stop")
    await asyncio.wait_for(asking, 30 * patience())
    assert talk.inside("sleep 305") == []
    assert await talk.answered({"text": "again"}) == "again"
    assert talk.inside("_bundled/claude") not in ([], [cli])


async def test_another_agent_asks_and_is_cancelled(talk: Talk) -> None:
    """Any program that speaks the Agent Client Protocol, with the same cards and the same stop."""
    shutil.copy(Path(__file__).parents[1] / "support" / "acp_agent.py", talk.source / "agent.py")
    asked = await talk.says("agent acp:/opt/huskies/venv/bin/python agent.py")
    assert "in a new dialogue" in await talk.says(asked.split("`")[-2])
    await talk.says("permissions ask")
    for word, option in (("allow", "[yes]"), ("no", "[no]")):
        asking = asyncio.create_task(talk.gateway.send_surely("@@ask make test\n@@say done", f"acp-{word}"))
        assert "make test" in await talk.gateway.card()
        await talk.says(word)
        (told,) = (await asyncio.wait_for(asking, 30 * patience()))["replies"]
        assert option in told and "done" in told
    told = "".join((await talk.gateway.send_surely("@@call whoami\n@@call grant demo lead", "acp-door"))["replies"])
    assert "well: You are demo's agent" in told and "failed: `grant` is for people" in told
    hanging = asyncio.create_task(talk.gateway.send_surely("@@tool execute begun\n@@hang", "acp-hang"))
    while "running for" not in await talk.says("status"):
        assert not hanging.done()
    assert "Stopped the run." in await talk.says("stop")
    assert (await asyncio.wait_for(hanging, 30 * patience()))["fate"] == "interrupted"
    assert "@@say done" in (await talk.gateway.send_surely("@@recall", "acp-recall"))["replies"][0]
    (pid,) = talk.inside("agent.py")
    assert "@@recall" in (await talk.gateway.send_surely("@@recall", "acp-again"))["replies"][0]
    assert talk.inside("agent.py") == [pid], "warm"
    asked = await talk.says("agent acp:gemini --acp")
    assert "gemini" in await talk.says(asked.split("`")[-2])
    answer = await talk.gateway.send_surely("hello", "acp-none")
    assert "not installed in this project" in "".join(answer["replies"])
    await talk.says("agent default")
    assert await talk.answered({"text": "Claude again"}) == "Claude again"
