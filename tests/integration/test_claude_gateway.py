"""The real Claude CLI behind a whole gateway: keys, permissions, dialogues that go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi, script
from tests.support.gateway_process import GatewayProcess

KEY = "sk-ant-canary-gateway"

pytestmark = [pytest.mark.claude, pytest.mark.timeout(120)]


def config(api: ClaudeApi, **agent: object) -> dict[str, dict[str, Any]]:
    values = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url, **agent}
    return {"agent": values, "dispatcher": {"coalesce_window_ms": 50}}


@pytest.mark.slow
async def test_a_refused_key_is_one_state_and_what_waits_goes_on_with_another(tmp_path: Path) -> None:
    async with ClaudeApi(require_key="sk-ant-canary-better") as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            await gateway.send("new project other", "o", conversation="other")
            first = asyncio.create_task(gateway.send(script({"text": "one"}), "m1"))
            told = await gateway.card()
            assert "The model key was refused: type `huskies secrets set all api_key`" in told
            assert "I'll continue once it works" in told
            asked = len(api.requests)
            second = asyncio.create_task(gateway.send(script({"text": "two"}), "m2", conversation="other"))
            assert "model key was refused" in await gateway.card(), "told there too"
            assert len(api.requests) <= asked + 1, "each project asks once"
            parts = {part["name"]: part for part in await gateway.get("/doctor")}
            assert not parts["agent"]["ok"]
            # Another gateway process goes on with it.
            gateway.kill()
            await gateway.start()
            answers = [asyncio.create_task(gateway.send_surely("", name, where)) for name, where in PLACES]
            first.cancel(), second.cancel()
            await gateway.secret("all", "api_key", "sk-ant-canary-better")
            replies = [
                answer["replies"] for answer in await asyncio.wait_for(asyncio.gather(*answers), 30 * patience())
            ]
            assert replies == [["one"], ["two"]]
            assert KEY not in gateway.log.read_text()


#: The messages of the test above, and where they were written.
PLACES = (("m1", "default"), ("m2", "other"))


async def test_stop_gives_up_what_waits_for_a_key(tmp_path: Path) -> None:
    async with ClaudeApi(require_key="another") as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            asking = asyncio.create_task(gateway.send("hello", "m1"))
            await gateway.card()
            assert "Stopped the run." in (await gateway.send("stop", "s"))["replies"][0]
            assert (await asyncio.wait_for(asking, 10 * patience()))["fate"] == "interrupted"


async def test_what_an_agent_may_do_is_the_projects_mode(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=KEY) as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            made = gateway.projects / "demo" / "made"
            prompt = script({"tools": [{"name": "Bash", "input": {"command": f"touch {made}"}}]}, {"text": "tried"})
            asking = asyncio.create_task(gateway.send(prompt, "m1"))
            assert "May I use Bash?" in await gateway.card(), "without a container, auto asks"
            await gateway.send("deny", "d")
            assert (await asking)["replies"] == ["tried"]
            assert not made.exists()
            await gateway.send("permissions allow", "a")
            assert (await gateway.send(prompt, "m2"))["replies"] == ["tried"]
            assert made.exists()


@pytest.mark.slow
async def test_a_dialogue_goes_on_over_restarts_and_reset_ends_it(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=KEY) as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            await gateway.send("the word is walrus", "m1")
            await gateway.send("restart", "r")
            await gateway.stop()
            await gateway.start()
            await gateway.send("what was the word?", "m2")
            assert "walrus" in api.main[-1].prompt, "resumed in a new process"
            assert "new dialogue" in (await gateway.send("reset", "x"))["replies"][0]
            await gateway.send("and now?", "m3")
            assert "walrus" not in api.main[-1].prompt


async def test_words_after_a_slash_and_a_dialogue_that_is_refused(
    tmp_path: Path,
) -> None:
    async with ClaudeApi(require_key=KEY) as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            assert (await gateway.send(script({"text": "hello"}), "m1"))["replies"] == ["hello"]
            told = (await gateway.send("/frobnicate", "m2"))["replies"]
            assert "There is no command “frobnicate”" in told[0]
            asked = len(api.main)
            await gateway.send(f"/init {script({'text': 'looked around'})}", "m3")
            assert len(api.main) > asked, "the CLI made a prompt of it"
            told = (await gateway.send(script({"http": 400}), "m4"))["replies"]
            assert "`compact` shortens the dialogue, `reset` begins a new one" in told[0]
