"""The story: a person in an encrypted Matrix room, the real Claude CLI, and everything between them.

Real are Synapse, the end-to-end encryption, the gateway as a process, the sled, the runner and the Claude CLI; only the
model behind the API is a stub.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.claude_api import ClaudeApi, script
from tests.support.gateway_process import GatewayProcess
from tests.support.matrix_room import Room, contains, is_final
from tests.support.matrix_user import MatrixUser
from tests.support.processes import alive, told_by
from tests.support.synapse import Synapse

KEY = "sk-ant-canary-7f3a9c"


@pytest.mark.synapse
@pytest.mark.claude
@pytest.mark.timeout(240)
async def test_the_story(synapse: Synapse, tmp_path: Path) -> None:
    bot, ana = synapse.register("huskies-story"), synapse.register("ana-story")
    async with ClaudeApi(require_key=KEY) as api, MatrixUser(synapse.url, ana) as user:
        config: dict[str, dict[str, Any]] = {
            "access": {"operators": [f"matrix:{ana.user_id}"]},
            "agent": {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url},
            "transports": {
                "matrix": {
                    "homeserver": synapse.url,
                    "user_id": bot.user_id,
                    "access_token": bot.access_token,
                    "device_id": bot.device_id,
                }
            },
        }
        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            room_id = await user.create_room(invite=[bot.user_id], encrypted=True)
            await user.sees_member(room_id, bot.user_id)
            await user.trusts_keys_of(bot.user_id)
            room = Room(user, room_id, bot.user_id)

            await room.say("new project demo")
            ready = await room.sees(contains("is ready"))
            assert str(gateway.projects / "demo") in ready
            assert "Claude answers" in ready
            await room.say("permissions allow")
            await room.sees(contains("allow from the next run on"))

            await three_within_the_window(room, api)
            await two_more_during_a_run(room, api)
            await stop_during_the_third(room, gateway)

            await room.say("status")
            assert "- waiting" not in await room.sees(contains("**demo**: ready"))
            key_is_nowhere(gateway)

            await room.say("delete demo")
            asked = await room.sees(contains("Delete demo?"))
            await room.say(re.findall(r"`(confirm \w+)`", asked)[0])
            receipt = await room.sees(contains("is deleted"))
            assert "removed: sled" in receipt
            assert "kept: " in receipt
            assert gateway.sleds() == []
            assert await gateway.stop() == 0
            assert KEY not in gateway.log.read_text()


async def three_within_the_window(room: Room, api: ClaudeApi) -> None:
    calls = len(api.main)
    for text in ("one", "two", script({"text": "to all three"})):
        await room.say(text)
    await room.sees(is_final("to all three"))
    assert len(api.main) - calls == 1, "one turn"
    prompt = api.main[-1].prompt
    assert re.search(r"one\n\ntwo\n\n@@", prompt)


async def two_more_during_a_run(room: Room, api: ClaudeApi) -> None:
    await room.say(script({"text": "a slow answer", "chunk": 2, "gate": "slow"}))
    await api.arrived(lambda request: "a slow answer" in request.prompt and request.main)
    await room.say("and this")
    last = await room.say(script({"text": "to both of them"}))
    await room.accepted(last)
    api.open("slow")
    await room.sees(is_final("a slow answer"))
    await room.sees(is_final("to both of them"))
    assert re.search(r"and this\n\n@@", api.main[-1].prompt)
    assert room.count("a slow answer") == 1
    assert room.count("to both of them") == 1
    assert room.count("to all three") == 1


async def stop_during_the_third(room: Room, gateway: GatewayProcess) -> None:
    """The agent's shell starts a daemon in a session of its own, and hangs."""
    pids = gateway.projects / "demo" / "pids"
    command = f"setsid sh -c 'echo $$ >> {pids}; exec sleep 300' & echo $$ >> {pids}; sleep 300"
    await room.say(script({"tools": [{"name": "Bash", "input": {"command": command}}]}, {"text": "never said"}))
    while not (pids.exists() and len(pids.read_text().split()) == 2):
        await asyncio.sleep(0.05)
    tree = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    waiting = await room.say("never mind the weather")
    await room.accepted(waiting)
    asked = time.monotonic()
    await room.say("stop")
    await asyncio.to_thread(psutil.wait_procs, tree, 5)
    gone_after = time.monotonic() - asked
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree)
    told = await room.sees(contains("Discarded"))
    assert "never mind the weather" in told
    assert "Stopped the run" in told
    # Two seconds from the command's arrival; the rest is the way through the homeserver.
    assert gone_after < 3.5, gone_after


def key_is_nowhere(gateway: GatewayProcess) -> None:
    """Invariant 8, as far as the process engine goes: in no environment, command line, file or log of a project."""
    assert KEY not in gateway.log.read_text()
    (sled,) = gateway.sleds()
    living = [p for p in (sled, *sled.children(recursive=True)) if alive(p.pid)]
    assert len(living) >= 3, "sled, runner and CLI"
    for process in living:
        assert KEY not in told_by(process)
    for folder in (gateway.state, gateway.projects):
        for file in folder.rglob("*"):
            if file.is_file():
                assert KEY.encode() not in file.read_bytes(), file
