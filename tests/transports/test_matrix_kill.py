"""kill -9 of the gateway's process at the worst moments of the Matrix transport."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.testing import patience
from tests.support.synapse import Account, Synapse

if TYPE_CHECKING:
    from tests.transports.conftest import World

pytestmark = pytest.mark.synapse

ROOT = Path(__file__).parents[2]


class Child:
    """The transport in a process of its own, again and again on the same store."""

    def __init__(self, synapse: Synapse, account: Account, folder: Path) -> None:
        self._orders = {
            "homeserver": synapse.url,
            "user_id": account.user_id,
            "access_token": account.access_token,
            "store": str(folder / "store"),
            "state": str(folder / "state.json"),
        }
        self._state = folder / "state.json"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *, die_at: str = "", die_after_request: str = "") -> None:
        """Start a process that kills itself where told."""
        orders = self._orders | {"die_at": die_at, "die_after_request": die_after_request}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.matrix_child", cwd=ROOT, stdin=asyncio.subprocess.PIPE
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(orders).encode())
        self.process.stdin.close()

    async def died(self) -> None:
        """Wait until it has killed itself."""
        assert self.process is not None
        async with asyncio.timeout(30 * patience()):
            assert await self.process.wait() == -9

    async def kill(self) -> None:
        """Kill it now."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def texts(self) -> list[str]:
        """What was accepted, over all lives."""
        state: dict[str, Any] = json.loads(self._state.read_text()) if self._state.exists() else {"events": []}
        return [text for _, text in state["events"]]

    async def has(self, text: str) -> None:
        """Wait until something was accepted."""
        async with asyncio.timeout(30 * patience()):
            while text not in self.texts():
                assert self.process is not None
                assert self.process.returncode is None, "it died"
                await asyncio.sleep(0.05)


async def test_killed_before_and_after_a_commit(world: World, synapse: Synapse, tmp_path: Path) -> None:
    ana, account = await world.user(), synapse.register("bot")
    child = Child(synapse, account, tmp_path)
    try:
        await child.start(die_at="before")
        room = await ana.create_room(invite=[account.user_id], encrypted=True)
        await ana.sees_member(room, account.user_id)
        await ana.trusts_keys_of(account.user_id)
        await ana.say(room, "one")
        await child.died()
        assert child.texts() == []

        await ana.say(room, "two")
        ana.forget_room_key(room)
        await ana.say(room, "three")
        await child.start(die_at="after")
        await child.died()
        await ana.say(room, "four")
        await child.start(die_at="before")
        await child.died()
        await child.start()
        await child.has("four")
    finally:
        await child.kill()
    assert child.texts() == ["one", "two", "three", "four"]


@pytest.mark.parametrize("request_path", ["keys/upload", "device_signing/upload", "/join/", "/sync"])
async def test_killed_before_an_answer_is_read(
    world: World, synapse: Synapse, tmp_path: Path, request_path: str
) -> None:
    ana, account = await world.user(), synapse.register("bot")
    room = await ana.create_room(invite=[account.user_id], encrypted=True)
    child = Child(synapse, account, tmp_path)
    try:
        await child.start(die_after_request=request_path)
        await child.died()
        await child.start()
        await ana.sees_member(room, account.user_id)
        await ana.trusts_keys_of(account.user_id)
        await ana.say(room, "hello")
        await child.has("hello")
    finally:
        await child.kill()
    assert child.texts() == ["hello"]
