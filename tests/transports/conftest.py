"""A homeserver for the tests of the Matrix transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.matrix_bot import Bot
from tests.support.matrix_user import MatrixUser
from tests.support.synapse import Synapse


class World:
    """People and bots of one test; all are gone when it ends."""

    def __init__(self, stack: AsyncExitStack, tmp_path: Path, server: Synapse | None) -> None:
        self._stack = stack
        self._tmp_path = tmp_path
        self._server = server
        self._bots = 0

    def _at(self, server: Synapse | None) -> Synapse:
        found = server or self._server
        assert found is not None
        return found

    async def user(self, name: str = "ana", *, server: Synapse | None = None) -> MatrixUser:
        """A new person, logged in."""
        at = self._at(server)
        return await self._stack.enter_async_context(MatrixUser(at.url, at.register(name)))

    async def bot(self, *, server: Synapse | None = None, start: bool = True, **settings: Any) -> Bot:
        """A bot with a new account, running unless told otherwise."""
        at = self._at(server)
        self._bots += 1
        bot = Bot(at.url, at.register("bot"), self._tmp_path / f"store{self._bots}", **settings)
        self._stack.push_async_exit(bot)
        if start:
            await bot.start()
        return bot

    async def room(self, user: MatrixUser, bot: Bot, *, encrypted: bool = False, others: tuple[str, ...] = ()) -> str:
        """A room of `user` that the bot has joined; in an encrypted one their clients know each other."""
        room_id = await user.create_room(invite=[bot.user_id, *others], encrypted=encrypted)
        await user.sees_member(room_id, bot.user_id)
        if encrypted:
            await user.trusts_keys_of(bot.user_id)
        return room_id


@pytest.fixture
async def world(synapse: Synapse, tmp_path: Path) -> AsyncIterator[World]:
    """People and bots on the homeserver of this test run."""
    async with AsyncExitStack() as stack:
        yield World(stack, tmp_path, synapse)


@pytest.fixture
async def own_world(tmp_path: Path) -> AsyncIterator[World]:
    """People and bots on a homeserver of the test's own."""
    async with AsyncExitStack() as stack:
        yield World(stack, tmp_path, None)
