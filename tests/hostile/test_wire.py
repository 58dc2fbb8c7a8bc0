"""What a container does to its wire to hold up the gateway, which serves the others too."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.testing import patience
from gateway.wire import server as server_module
from gateway.wire import share
from gateway.wire.server import MAX_CONNECTIONS, WireServer

TOKEN = "wire-token"


class Wire:
    """A served wire, and who comes by it."""

    def __init__(self, path: Path, server: WireServer) -> None:
        self.path = path
        self.server = server
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        self._writers.append(writer)
        return reader, writer

    async def ask(self, token: bytes) -> bytes:
        """The status line that a request with that token gets."""
        reader, writer = await self.connect()
        writer.write(b"GET /who HTTP/1.1\r\nHost: wire\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
        return await asyncio.wait_for(reader.readline(), 10 * patience())

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async def dropped(project_id: int) -> None:
        assert project_id == 1

    server = WireServer(dropped)

    async def who(request: web.Request) -> web.Response:
        return web.Response(status=401 if server.project_of(request) is None else 200)

    async def later(_: web.Request) -> web.Response:
        await asyncio.sleep(3 * server_module._IDLE_S)
        return web.Response(status=200)

    with tempfile.TemporaryDirectory(prefix="huskies-") as name:
        await server.start([web.get("/who", who), web.get("/later", later)])
        made = Wire(Path(name) / "s", server)
        await server.open(1, TOKEN, made.path)
        yield made
        made.hang_up()
        await server.close(made.path)
        await server.stop()


async def test_so_many_connections_at_once_are_the_limit_and_not_more(wire: Wire) -> None:
    """They come in one batch: each is counted before the next is taken."""
    ours = [await wire.connect() for _ in range(MAX_CONNECTIONS + 72)]
    refused = 0
    for reader, _ in ours[MAX_CONNECTIONS:]:
        refused += b"503" in await asyncio.wait_for(reader.readline(), 10 * patience())
    assert refused == 72
    for _, writer in ours:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(10 * patience()):
        while b"200" not in await wire.ask(TOKEN.encode()):
            """Until the gateway has seen the first of them go."""


async def test_who_connects_and_says_nothing_is_let_go(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SILENT_S", 0.2)
    reader, _ = await wire.connect()
    assert await asyncio.wait_for(reader.read(), 10 * patience()) == b""
    assert b"200" in await wire.ask(TOKEN.encode())


async def test_who_says_nothing_more_is_let_go(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not while it waits for what it asked for: a model takes its time."""
    monkeypatch.setattr(server_module, "_IDLE_S", 0.2)
    reader, writer = await wire.connect()
    writer.write(b"GET /later HTTP/1.1\r\nHost: wire\r\n\r\nGET /who HTTP/1.1\r\nHost: wire\r\n\r\n")
    answers = await asyncio.wait_for(reader.read(), 10 * patience())
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"401"]
    assert wire.server._open == {}, "its place is free again"


@pytest.mark.parametrize(
    "token", [b"", b"\xff\xfe", "tökén".encode(), "tökén".encode("latin-1"), b"x" * 5000, b"Bearer"]
)
async def test_a_token_that_is_none_is_a_401(wire: Wire, token: bytes) -> None:
    assert b"401" in await wire.ask(token)


async def test_a_flood_waits_on_its_own_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        waited.append(seconds)
        now += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    flood = share.Share(lambda: now)
    for _ in range(10 * int(share.AT_ONCE)):
        await flood.take(100)
    assert 9 * share.AT_ONCE / share.A_SECOND < now < 11 * share.AT_ONCE / share.A_SECOND
    assert len(waited) > share.AT_ONCE / 10, "others had their turn all along"
    before = now
    await flood.take(int(share.BYTES * share.A_SECOND))
    await flood.take(0)
    assert now - before > 0.9, "what is large counts for more"
    before, now = now, now + 3600
    await flood.take(100)
    assert now == before + 3600, "after a pause it is as welcome as any"


async def test_what_is_committed_and_shown_counts_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asks = share.Share(lambda: now)
    for _ in range(200):
        await asks.take(0)
        asks.committed()
    assert now > 200 * share.COMMITTED / share.A_SECOND - share.AT_ONCE / share.A_SECOND
