"""A homeserver for the tests of the Matrix transport."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.matrix_bot import Bot
from tests.support.matrix_user import MatrixUser
from tests.support.synapse import Synapse, python_of_synapse


@pytest.fixture(scope="session")
def synapse_python() -> str:
    """The interpreter that has Synapse; without one the test is skipped, on CI it fails."""
    python = python_of_synapse()
    if not python:
        missing = "set HUSKIES_SYNAPSE_PYTHON to a Python that has matrix-synapse"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return python


@pytest.fixture(scope="session")
def synapse(synapse_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    """The homeserver of this test run, without rate limits. Tests make their own users."""
    server = Synapse(synapse_python, tmp_path_factory.mktemp("synapse")).start()
    yield server
    server.stop()


@pytest.fixture
def own_synapse(synapse_python: str, tmp_path: Path) -> Iterator[Callable[..., Synapse]]:
    """Make a homeserver for one test, not started yet, that the test may kill."""
    servers: list[Synapse] = []

    def make(**options: Any) -> Synapse:
        servers.append(Synapse(synapse_python, tmp_path / f"synapse{len(servers)}", **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


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
