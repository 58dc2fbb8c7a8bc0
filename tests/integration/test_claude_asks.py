"""The real Claude CLI asks, through a whole gateway on plain processes: answered, denied, in vain, over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi, script
from tests.support.gateway_process import GatewayProcess

KEY = "sk-ant-canary-asks"

pytestmark = [pytest.mark.claude, pytest.mark.timeout(120)]

CHOICE = {
    "question": "Which database?",
    "header": "Database",
    "options": [{"label": "Postgres", "description": "a server"}, {"label": "SQLite", "description": "a file"}],
    "multiSelect": False,
}


class Talk:
    """Ana in front of a project whose agent asks for whatever writes or runs."""

    def __init__(self, api: ClaudeApi, gateway: GatewayProcess) -> None:
        self.api = api
        self.gateway = gateway
        self.source = gateway.projects / "demo"

    def prompt(self, *steps: dict[str, Any], name: str = "m1") -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(self.gateway.send_surely(script(*steps), name))

    async def says(self, text: str, name: str) -> list[str]:
        return list((await self.gateway.send_surely(text, name))["replies"])

    def told(self) -> str:
        """What the model was told last."""
        return str(self.api.main[-1].messages[-1])


def write(text: str) -> dict[str, Any]:
    return {"tools": [{"name": "Bash", "input": {"command": f"echo {text} >> written", "description": "writes"}}]}


async def replies(asking: asyncio.Task[dict[str, Any]]) -> list[str]:
    return list((await asyncio.wait_for(asking, 30 * patience()))["replies"])


def config(api: ClaudeApi, **agent: object) -> dict[str, dict[str, Any]]:
    values = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url, "permissions": "ask", **agent}
    return {"agent": values, "dispatcher": {"coalesce_window_ms": 50}}


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with ClaudeApi(require_key=KEY) as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            while not gateway.cards.empty():  # on a slow machine it told how far it had got
                gateway.cards.get_nowait()
            yield Talk(api, gateway)


async def test_allowed_denied_and_for_the_session(talk: Talk) -> None:
    asking = talk.prompt(write("one"), {"text": "first"})
    card = await talk.gateway.card()
    assert "May I use Bash?" in card
    assert "echo one >> written" in card
    assert not (talk.source / "written").exists()
    assert "Allowed by" in (await talk.says("allow", "a1"))[0]
    assert await replies(asking) == ["first"]
    assert (talk.source / "written").read_text() == "one\n"

    asking = talk.prompt(write("two"), {"text": "second"}, name="m2")
    await talk.gateway.card()
    await talk.says("no, never write two", "a2")
    assert await replies(asking) == ["second"]
    assert "never write two" in talk.told()
    assert (talk.source / "written").read_text() == "one\n"

    asking = talk.prompt(write("three"), write("three"), {"text": "third"}, name="m3")
    await talk.gateway.card()
    await talk.says("allow session", "a3")
    assert await replies(asking) == ["third"], "the same command was not asked for again"
    assert (talk.source / "written").read_text() == "one\nthree\nthree\n"
    assert "1. `Bash: echo three >> written`" in "\n".join(await talk.says("permissions", "a4"))
    assert "No longer allowed" in (await talk.says("revoke 1", "a5"))[0]
    asking = talk.prompt(write("three"), {"text": "fourth"}, name="m4")
    await talk.gateway.card()
    assert "1. Bash" in (await talk.says("questions", "a6"))[0]
    await talk.says("deny", "a7")
    assert await replies(asking) == ["fourth"]


@pytest.mark.slow
async def test_two_tools_at_once_ask_one_after_the_other(talk: Talk) -> None:
    both = {"tools": [write("one")["tools"][0], write("two")["tools"][0]]}
    asking = talk.prompt(both, {"text": "both"})
    answers = {"echo one": "no", "echo two": "yes"}
    for number in range(2):
        card = await talk.gateway.card()
        answer = next(answer for part, answer in answers.items() if part in card)
        await talk.says(answer, f"a{number}")
    assert await replies(asking) == ["both"]
    assert (talk.source / "written").read_text() == "two\n"


async def test_a_question_of_the_agents_is_answered(talk: Talk) -> None:
    ask = {"tools": [{"name": "AskUserQuestion", "input": {"questions": [CHOICE]}}]}
    asking = talk.prompt(ask, {"text": "chosen"})
    card = await talk.gateway.card()
    assert "**Which database?**\n1. Postgres – a server\n2. SQLite – a file" in card
    await talk.says("2", "a1")
    assert await replies(asking) == ["chosen"]
    assert "SQLite" in talk.told()
    asking = talk.prompt(ask, {"text": "said"}, name="m2")
    await talk.gateway.card()
    await talk.says("neither: a text file will do", "a2")
    assert await replies(asking) == ["said"]
    assert "a text file will do" in talk.told()


async def test_the_agents_own_tools_ask_and_send_without_permission(talk: Talk) -> None:
    operator = {"tools": [{"name": "mcp__huskies__ask_operator", "input": {"question": "Deploy now?"}}]}
    asking = talk.prompt(operator, {"text": "asked"})
    assert "Deploy now?" in await talk.gateway.card()
    await talk.says("after lunch", "a1")
    assert await replies(asking) == ["asked"]
    assert "after lunch" in talk.told()

    (talk.source / "report.csv").write_text("a,b\n")
    send = {"tools": [{"name": "mcp__huskies__send_file", "input": {"path": "report.csv", "caption": "the report"}}]}
    told = await replies(talk.prompt(send, {"text": "sent"}, name="m2"))
    assert "sent" in told
    assert any(text.startswith("📎 report.csv (1 KiB) the report") for text in told)


async def test_over_a_restart_the_question_stays_and_its_answer_arrives(talk: Talk) -> None:
    asking = talk.prompt(write("kept"), {"text": "over a restart"})
    await talk.gateway.card()
    talk.gateway.kill()
    await talk.gateway.start()
    assert "1. Bash" in (await talk.says("questions", "q1"))[0]
    await talk.says("yes", "a1")
    assert await replies(asking) == ["over a restart"]
    assert (talk.source / "written").read_text() == "kept\n"


async def test_answered_while_the_sled_is_away_it_hears_of_it_when_it_is_back(talk: Talk) -> None:
    """The gateway ends right after the answer was committed: the decision is said again to the sled's next hello."""
    asking = talk.prompt(write("kept"), {"text": "in the end"})
    await talk.gateway.card()
    (sled,) = talk.gateway.sleds()
    sled.suspend()
    try:
        await talk.says("yes", "a1")
        talk.gateway.kill()
    finally:
        sled.resume()
    await talk.gateway.start()
    assert await replies(asking) == ["in the end"]
    assert (talk.source / "written").read_text() == "kept\n"


async def test_stop_closes_the_card_and_the_agent_is_warm_again(talk: Talk) -> None:
    asking = talk.prompt(write("never"), {"text": "never"})
    await talk.gateway.card()
    assert "Stopped the run." in "\n".join(await talk.says("stop", "s"))
    assert (await asyncio.wait_for(asking, 30 * patience()))["fate"] == "interrupted"
    assert "asked in vain" not in (await talk.says("questions", "q"))[0]
    assert await replies(talk.prompt({"text": "back"}, name="m2")) == ["back"]
    assert not (talk.source / "written").exists()


@pytest.mark.slow
async def test_nobody_answers_in_time(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=KEY) as api:
        with GatewayProcess(tmp_path, config(api, permission_timeout_s=0.5)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            talk = Talk(api, gateway)
            assert await replies(talk.prompt(write("never"), {"text": "went on"})) == ["went on"]
            assert "nobody answered" in talk.told()
            assert not (talk.source / "written").exists()
            ask = {"tools": [{"name": "AskUserQuestion", "input": {"questions": [CHOICE]}}]}
            assert await replies(talk.prompt(ask, {"text": "chose myself"}, name="m2")) == ["chose myself"]
            assert "[expired]" in talk.told()
            listed = (await talk.says("questions", "q"))[0]
            assert "Not answered:" in listed
            assert "Which database?" in listed


def huskies(command: str) -> dict[str, Any]:
    return {"tools": [{"name": "mcp__huskies__huskies", "input": {"command": command}}]}


async def test_the_tool_huskies_knows_what_the_agent_may_do(talk: Talk) -> None:
    await talk.says("grant demo status to all", "g")
    assert await replies(talk.prompt(huskies("status"), {"text": "looked"})) == ["looked"]
    assert "**demo**: ready" in talk.told()
    (tool,) = [tool for tool in talk.api.main[-1].body["tools"] if tool["name"] == "mcp__huskies__huskies"]
    assert "- status [project]: a project's state" in tool["description"]
    assert "- restart [project]: stop a project and start it afresh (asks a person first)" in tool["description"]
    assert "- grant <" not in tool["description"] and "- allow" not in tool["description"]
    assert tool["description"].endswith("A project that you name may be another one: any, for status.")


async def test_a_denial_with_a_note_reaches_the_models_next_request(talk: Talk) -> None:
    asking = talk.prompt(huskies("model opus"), {"text": "as you wish"})
    card = await talk.gateway.card()
    assert "may demo's agent do this?" in card
    await talk.says("no, the budget is for August", "a1")
    assert await replies(asking) == ["as you wish"]
    assert "This was not allowed: the budget is for August" in talk.told()


async def test_claude_in_its_shell_reaches_the_door_too(talk: Talk) -> None:
    await talk.says("permissions allow", "pa")
    bash = {"tools": [{"name": "Bash", "input": {"command": "huskies whoami; huskies grant demo lead; echo code $?"}}]}
    assert await replies(talk.prompt(bash, {"text": "tried"})) == ["tried"]
    told = talk.told()
    assert "You are demo's agent, at the word of cli:root (operator)." in told.replace("\\'", "'")
    assert "`grant` is for people" in told and "code 1" in told
