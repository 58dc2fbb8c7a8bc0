"""A gateway as a process on a real homeserver: what either of them dying must not break."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.support.gateway_process import GatewayProcess
from tests.support.matrix_room import Room, contains, is_final
from tests.support.matrix_user import MatrixUser
from tests.support.synapse import Synapse

pytestmark = [pytest.mark.synapse, pytest.mark.timeout(180)]


@contextlib.asynccontextmanager
async def talking(
    server: Synapse, tmp_path: Path, *, encrypted: bool = False
) -> AsyncIterator[tuple[GatewayProcess, Room]]:
    """A gateway with the scripted agent and the project demo, and a person in a room with it."""
    name = tmp_path.name.lower().replace("_", "-")[:40]
    bot, ana = server.register(f"bot-{name}"), server.register(f"ana-{name}")
    config: dict[str, dict[str, Any]] = {
        "access": {"operators": [f"matrix:{ana.user_id}"]},
        "dispatcher": {"coalesce_window_ms": 100},
        "agent": {"kind": "scripted"},
        "transports": {
            "matrix": {
                "homeserver": server.url,
                "user_id": bot.user_id,
                "access_token": bot.access_token,
                "device_id": bot.device_id,
            }
        },
    }
    async with MatrixUser(server.url, ana) as user:
        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            room_id = await user.create_room(invite=[bot.user_id], encrypted=encrypted)
            await user.sees_member(room_id, bot.user_id)
            if encrypted:
                await user.trusts_keys_of(bot.user_id)
            room = Room(user, room_id, bot.user_id)
            await room.say("new project demo")
            await room.sees(contains("is ready"))
            yield gateway, room


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [False, True])
async def test_killed_after_a_send_before_it_was_recorded(synapse: Synapse, tmp_path: Path, encrypted: bool) -> None:
    """FAULTS 5: the transaction id makes the second send the same event."""
    async with talking(synapse, tmp_path, encrypted=encrypted) as (gateway, room):
        await gateway.stop()
        await gateway.start(kill_at="outbox.sent")
        await room.say("hello")
        await room.sees(is_final("You said:\nhello"))
        await gateway.died()
        await gateway.start()
        await room.say("marker")
        await room.sees(is_final("You said:\nmarker"))
        assert room.count("You said:\nhello") == 1


@pytest.mark.slow
async def test_thirty_messages_while_the_gateway_was_away(synapse: Synapse, tmp_path: Path) -> None:
    """FAULTS 9: the gap is filled, everything once and in order."""
    async with talking(synapse, tmp_path) as (gateway, room):
        gateway.kill()
        for number in range(30):
            await room.say(f"message {number}")
        await gateway.start()
        await room.sees(contains("message 29"))
        said = [line for text in room.texts() for line in text.split("\n") if line.startswith("message ")]
        assert said == [f"message {n}" for n in range(30)]


@pytest.mark.slow
async def test_synapse_is_killed_mid_run(own_synapse: Callable[..., Synapse], tmp_path: Path) -> None:
    """The run goes on, and its answer arrives once when the homeserver is back."""
    server = own_synapse()
    server.start()
    async with talking(server, tmp_path) as (gateway, room):
        go = gateway.projects / "demo" / "go"
        asked = await room.say("@@run while [ ! -e go ]; do sleep 0.05; done\n@@say finished")
        await room.accepted(asked)
        server.stop(kill=True)
        go.touch()
        answered = asyncio.create_task(room.sees(is_final("finished"), timeout_s=60))
        await until_idle(gateway)
        server.start()
        await answered
        await room.say("still there?")
        await room.sees(is_final("You said:\nstill there?"))
        assert room.count("finished") == 1


async def test_threads_are_sessions_of_their_own(synapse: Synapse, tmp_path: Path) -> None:
    async with talking(synapse, tmp_path) as (gateway, room):
        root = await room.say("in the room")
        await room.sees(is_final("You said:\nin the room"))
        await room.user.say_in_thread(room.room, "@@run while [ ! -e go ]; do sleep 0.05; done\n@@say thread", root)
        event = room.user.seen
        await until_running(gateway)
        await room.say("waits: one run per project")
        (gateway.projects / "demo" / "go").touch()
        await room.sees(is_final("thread"))
        await room.sees(is_final("You said:\nwaits: one run per project"))
        in_thread = [e for _, e in event if e["content"].get("m.relates_to", {}).get("rel_type") == "m.thread"]
        assert any(e["sender"] == room.bot for e in in_thread)


async def until_idle(gateway: GatewayProcess) -> None:
    """No run is under way."""
    await _until(gateway, running=False)


async def until_running(gateway: GatewayProcess) -> None:
    """A run is under way."""
    await _until(gateway, running=True)


async def _until(gateway: GatewayProcess, *, running: bool) -> None:
    async with asyncio.timeout(30 * patience()):
        while any(p["running"] for p in await gateway.get("/projects")) is not running:
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_room_that_is_upgraded_while_an_agent_works(synapse: Synapse, tmp_path: Path) -> None:
    """Project, dialogue and the answer go along; after a restart, too."""
    async with talking(synapse, tmp_path) as (gateway, room):
        await room.say("@@stream 5\n@@sleep 3\n@@say done")
        await room.sees(contains("5"))
        new = await room.user.upgrade(room.room)
        await room.user.invite(new, room.bot)
        there = Room(room.user, new, room.bot)
        await there.sees(contains("done"))
        assert not room.count("done")
        await there.say("status")
        await there.sees(contains("demo"))
        await gateway.stop()
        await gateway.start()
        await there.say("hello there")
        await there.sees(is_final("You said:\nhello there"))
