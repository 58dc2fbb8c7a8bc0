"""The real Claude CLI behind a whole gateway: keys, permissions, dialogues that go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.claude_api import ClaudeApi, script
from tests.support.gateway_process import GatewayProcess

KEY = "sk-ant-canary-gateway"

pytestmark = [pytest.mark.claude, pytest.mark.timeout(120)]


def config(api: ClaudeApi, **agent: object) -> dict:
    values = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url, **agent}
    return {"agent": values, "dispatcher": {"coalesce_window_ms": 50}}


async def test_a_refused_key_is_one_clear_answer(tmp_path: Path) -> None:
    async with ClaudeApi(require_key="another") as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            answer = await asyncio.wait_for(gateway.send("hello", "m1"), 30)
            assert answer["fate"] == "failed"
            (told,) = answer["replies"]
            assert "model key was refused" in told
            assert "huskies secrets set all api_key" in told
            parts = {part["name"]: part for part in await gateway.get("/doctor")}
            assert not parts["agent"]["ok"]
            assert KEY not in gateway.log.read_text()


async def test_a_denied_tool_names_what_to_type_and_allow_allows(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=KEY) as api:
        with GatewayProcess(tmp_path, config(api)) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            made = gateway.projects / "demo" / "made"
            prompt = script({"tools": [{"name": "Bash", "input": {"command": f"touch {made}"}}]}, {"text": "tried"})
            assert (await gateway.send(prompt, "m1"))["replies"] == ["tried"]
            assert not made.exists()
            assert "permissions allow" in str(api.main[-1].messages), "the model was told what a person can type"
            await gateway.send("permissions allow", "a")
            assert (await gateway.send(prompt, "m2"))["replies"] == ["tried"]
            assert made.exists()


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
