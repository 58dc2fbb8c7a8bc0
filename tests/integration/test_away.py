"""The gateway is away for minutes in the middle of real Claude runs; they go on where they were (invariant 7)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi, script
from tests.support.gateway_process import GatewayProcess

KEY = "sk-ant-canary-away"


@pytest.mark.claude
@pytest.mark.waits
@pytest.mark.timeout(500)
@pytest.mark.parametrize("away_s", [60, pytest.param(300, marks=pytest.mark.slow)])
async def test_killed_mid_stream_and_mid_tool_and_away_for_minutes(tmp_path: Path, away_s: float) -> None:
    """The CLI by itself gives up on its API after three minutes; the relay holds what it asks for."""
    async with ClaudeApi(require_key=KEY) as api:
        agent = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url, "permissions": "allow"}
        with GatewayProcess(tmp_path, {"agent": agent, "dispatcher": {"coalesce_window_ms": 50}}) as gateway:
            await gateway.start()
            for name in ("stream", "tool"):
                await gateway.send(f"new project {name}", f"new-{name}", conversation=name)
            count = gateway.projects / "tool" / "count"
            bash = {"name": "Bash", "input": {"command": f"echo ran >> {count}; sleep 5"}}
            tool = script({"tools": [bash]}, {"text": "after the tool"})
            stream = script({"text": "a long answer in parts", "chunk": 3, "gate": "half"})
            asking = [
                asyncio.create_task(gateway.send_surely(stream, "m-stream", conversation="stream")),
                asyncio.create_task(gateway.send_surely(tool, "m-tool", conversation="tool")),
            ]
            await api.arrived(lambda request: request.main and "a long answer in parts" in request.prompt)
            while not count.exists():
                await asyncio.sleep(0.05)
            gateway.kill()
            await asyncio.sleep(away_s)  # being away is what is tested
            api.open("half")
            await gateway.start()
            back = asyncio.get_running_loop().time()
            await api.arrived(lambda request: request.main and "tool_result" in str(request.messages[-1]))
            assert asyncio.get_running_loop().time() - back < 3 * patience(), "what the relay held goes on at once"
            streamed, used = await asyncio.wait_for(asyncio.gather(*asking), 60 * patience())
            assert streamed["replies"] == ["a long answer in parts"]
            assert used["replies"] == ["after the tool"]
            assert count.read_text() == "ran\n", "the tool ran once"
