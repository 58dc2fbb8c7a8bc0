"""Requests' bodies in the gateway's memory: so many bytes for each project, and none that stops on its way."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from gateway.testing import patience
from gateway.wire import git, model
from gateway.wire.http import Bodies
from tests.support.git_server import not_asked
from tests.support.processes import until
from tests.support.proxy import Proxy, served

LIMIT = 1000


@dataclass
class Held:
    """A server that keeps each body until it is told to answer."""

    bodies: Bodies
    base: str = ""
    taken: list[tuple[str, int | None]] = field(default_factory=list)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.Response:
        async with self.bodies.read(request, request.match_info["project"], LIMIT) as body:
            self.taken.append((request.match_info["project"], None if body is None else len(body)))
            await self.answer.wait()
            return web.Response(text=str(len(body or b"")))

    def post(
        self, http: aiohttp.ClientSession, data: object, project: str = "demo", **headers: str
    ) -> asyncio.Task[str]:
        async def send() -> str:
            url = f"{self.base}/{project}"
            async with http.post(url, data=data, headers=headers) as response:
                return f"{response.status} {await response.text()}"

        return asyncio.create_task(send())


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@contextlib.asynccontextmanager
async def holding(budget: int, pause_s: float = 5.0, of_all: int = 2**30) -> AsyncIterator[Held]:
    held = Held(Bodies(budget, pause_s, of_all=of_all))
    async with served([web.post("/{project}", held.serve)]) as base:
        held.base = base
        yield held
        held.answer.set()


async def chunked(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def test_what_is_more_than_a_projects_share_waits(http: aiohttp.ClientSession) -> None:
    async with holding(budget=2 * LIMIT) as held:
        sent = [held.post(http, b"x" * 900) for _ in range(5)]
        await until(lambda: len(held.taken) == 2)
        await asyncio.sleep(0.1)
        assert len(held.taken) == 2, "two of 900 bytes are 1800 of 2000"
        small = held.post(http, b"x" * 100)
        await until(lambda: ("demo", 100) in held.taken)
        other = held.post(http, b"x" * 900, "other")
        await until(lambda: ("other", 900) in held.taken)
        held.answer.set()
        assert await asyncio.wait_for(asyncio.gather(*sent, small, other), 5 * patience()) == ["200 900"] * 5 + [
            "200 100",
            "200 900",
        ]
        assert not held.bodies._held, "all of it is given back"


async def test_a_body_of_unknown_length_counts_as_a_long_one_until_it_is_there(http: aiohttp.ClientSession) -> None:
    async with holding(budget=2 * LIMIT) as held:
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"x"
            await go_on.wait()

        zipped = gzip.compress(b"x" * 900)
        sent = [held.post(http, slow()) for _ in range(2)]
        await until(lambda: held.bodies._held["demo"] == 2 * LIMIT)
        sent += [held.post(http, chunked(400, 400)), held.post(http, zipped, **{"Content-Encoding": "gzip"})]
        await asyncio.sleep(0.1)
        assert held.taken == []
        go_on.set()
        await until(lambda: len(held.taken) == 4)
        assert held.bodies._held["demo"] == 1 + 1 + 800 + 900
        held.answer.set()
        assert await asyncio.gather(*sent) == ["200 1", "200 1", "200 800", "200 900"]
        assert not held.bodies._held


async def test_one_that_is_too_long_is_not_kept(http: aiohttp.ClientSession) -> None:
    async with holding(budget=2 * LIMIT) as held:
        sent = held.post(http, chunked(LIMIT, 1))
        await until(lambda: held.taken == [("demo", None)])
        assert not held.bodies._held
        held.answer.set()
        assert await sent == "200 0"


async def test_a_body_that_stops_on_its_way_is_given_up() -> None:
    async with holding(budget=LIMIT, pause_s=0.2) as held:
        host, port = held.base.removeprefix("http://").split(":")
        head = b"POST /demo HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"
        streams = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        for _, writer in streams:
            writer.write(head + b"x" * 100)
        for reader, writer in streams:
            assert b" 408 " in await asyncio.wait_for(reader.readline(), 5 * patience())
            writer.close()
        assert held.taken == []
        assert not held.bodies._held


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (Proxy("http://x"), "model/v1/messages"),
        (git.GitProxy({"git.example.org": "t"}, not_asked, Bodies()), "git/git.example.org/x.git/git-upload-pack"),
    ],
)
async def test_both_proxies_bound_what_they_hold(made: model.ModelProxy | git.GitProxy, path: str) -> None:
    made._bodies = Bodies(pause_s=0.2)
    async with served(made.routes(lambda _: "demo")) as base:
        host, port = base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nx".encode())
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 5 * patience())
        writer.close()


async def test_all_projects_together_hold_so_many_bytes(http: aiohttp.ClientSession) -> None:
    async with holding(1000, of_all=1000) as held:
        requests = [held.post(http, b"x" * 400, f"p{number}") for number in range(4)]
        await until(lambda: len(held.taken) == 2)
        assert held.bodies._held.total() == 800
        held.answer.set()
        assert await asyncio.gather(*requests) == ["200 400"] * 4
        assert not held.bodies._held


async def test_a_body_above_what_all_may_hold_is_read_when_it_is_alone(http: aiohttp.ClientSession) -> None:
    async with holding(1000, of_all=100) as held:
        held.answer.set()
        assert await held.post(http, b"x" * 400) == "200 400"
