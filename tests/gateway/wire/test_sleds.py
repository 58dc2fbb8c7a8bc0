"""The wire's server against sleds that are wrong, late, hostile or two."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest
from aiohttp import web

from gateway.errors import SledAway, SledRefused, UserError
from gateway.testing import patience
from gateway.wire import server as server_module
from gateway.wire import sleds as sleds_module
from gateway.wire.sleds import Sleds
from sled.protocol import (
    MAX_FRAME,
    Ack,
    Answer,
    Call,
    Event,
    Finished,
    Frame,
    FromGateway,
    Hello,
    Run,
    Said,
    Stop,
    TextDelta,
    Welcome,
    decode_from_gateway,
    encode,
)
from tests.support.processes import until

F = TypeVar("F", bound=Frame)
TOKENS = {1: "token-of-one", 2: "token-of-two"}


class Listener:
    """Records."""

    def __init__(self) -> None:
        self.hellos: list[tuple[int, Hello]] = []
        self.connected: list[int] = []
        self.events: list[tuple[int, Event]] = []
        self.then: list[Frame] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = 0

    def on_hello(self, project_id: int, hello: Hello) -> tuple[Welcome, list[Frame]]:
        self.hellos.append((project_id, hello))
        return Welcome(seen={"r": 1}), self.then

    def on_connected(self, project_id: int) -> None:
        self.connected.append(project_id)

    async def on_event(self, project_id: int, event: Event) -> None:
        self.began += 1
        await self.gate.wait()
        self.events.append((project_id, event))


class Wires:
    """A server with two projects, and hands to dial it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sleds = Sleds()
        self.listener = Listener()
        self.stack = contextlib.AsyncExitStack()

    def path(self, project: int) -> Path:
        return self.folder / f"p{project}" / "gateway.sock"

    async def dial(self, project: int = 1, token: str | None = None) -> aiohttp.ClientWebSocketResponse:
        session = await self.stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.path(project))))
        )
        headers = {"Authorization": f"Bearer {TOKENS[project] if token is None else token}"}
        return await session.ws_connect("http://wire/sled", headers=headers, max_msg_size=0)

    async def hello(self, project: int = 1, journal: str = "j") -> aiohttp.ClientWebSocketResponse:
        socket = await self.dial(project)
        await socket.send_str(encode(Hello(version=1, journal=journal, runs=[], agents=["scripted"])))
        assert isinstance(await take(socket), Welcome)
        return socket


async def take(socket: aiohttp.ClientWebSocketResponse) -> FromGateway:
    return decode_from_gateway(await socket.receive_str(timeout=5))


async def take_a(socket: aiohttp.ClientWebSocketResponse, kind: type[F]) -> F:
    """The next frame, which is of that kind."""
    frame = await take(socket)
    assert isinstance(frame, kind)
    return frame


async def shout(socket: aiohttp.ClientWebSocketResponse, what: str | bytes) -> None:
    """Send something that the other side may refuse before it has all of it."""
    with contextlib.suppress(ConnectionError):
        await (socket.send_bytes(what) if isinstance(what, bytes) else socket.send_str(what))


async def closed(socket: aiohttp.ClientWebSocketResponse, within_s: float = 5) -> int | None:
    async with asyncio.timeout(within_s * patience()):
        async for _ in socket:
            pass
    return socket.close_code


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    with tempfile.TemporaryDirectory(prefix="huskies-") as name:
        made = Wires(Path(name))
        await made.sleds.start(made.listener)
        for project, token in TOKENS.items():
            await made.sleds.open(project, token, made.path(project))
        yield made
        made.listener.gate.set()
        await made.stack.aclose()
        await asyncio.wait_for(made.sleds.stop(), 10 * patience())


@pytest.mark.parametrize("token", ["", "wrong", TOKENS[2], "tökén"])
async def test_a_wrong_token_is_401_also_that_of_another_project(wires: Wires, token: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await wires.dial(1, token)
    assert caught.value.status == 401
    assert not wires.listener.hellos


async def test_each_socket_speaks_for_its_project(wires: Wires) -> None:
    first, second = await wires.hello(1, "j1"), await wires.hello(2, "j2")
    await first.send_str(encode(Event(run="r", seq=2, body=TextDelta(delta="a"))))
    await second.send_str(encode(Event(run="r", seq=3, body=TextDelta(delta="b"))))
    await until(lambda: len(wires.listener.events) == 2)
    assert sorted((p, e.seq) for p, e in wires.listener.events) == [(1, 2), (2, 3)]
    assert (wires.sleds.journal(1), wires.sleds.journal(2)) == ("j1", "j2")
    assert wires.sleds.agents(1) == ("scripted",)
    assert await wires.sleds.send(2, Ack(run="r"))
    assert await take(second) == Ack(run="r")


async def test_only_the_user_may_reach_a_socket(wires: Wires) -> None:
    mode = stat.S_IMODE(wires.path(1).stat().st_mode), stat.S_IMODE(wires.path(1).parent.stat().st_mode)
    assert mode == (0o600, 0o700)


HELLO = encode(Hello(version=1, journal="j", runs=[]))
#: Close codes: not a frame, too large, reset while it was still being sent.
REFUSED = (1002, 1009, 1006, None)
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "",
        "null",
        DEEP,
        '{"type":"unknown"}',
        '{"type":"event","run":"","seq":1,"body":{"type":"text","delta":""}}',
        '{"type":"event","run":"r","seq":-1,"body":{"type":"text","delta":""}}',
        encode(Run(run="r", session="s", prompt="", agent="a")),
        HELLO,
        "x" * (MAX_FRAME + 1),
        b"bytes",
    ],
    ids=lambda bad: repr(bad[:20]),
)
async def test_a_bad_frame_closes_its_own_connection_only(wires: Wires, bad: str) -> None:
    good, evil = await wires.hello(1), await wires.hello(2)
    await shout(evil, bad)
    assert await closed(evil) in REFUSED
    await until(lambda: wires.sleds.journal(2) is None)
    await good.send_str(encode(Event(run="r", seq=1, body=TextDelta(delta="a"))))
    await until(lambda: wires.listener.events)
    assert wires.listener.events[0][0] == 1
    again = await wires.hello(2)
    assert not again.closed


@pytest.mark.parametrize(
    "first",
    [
        "{",
        b"bytes",
        encode(Answer(call="c", ok=True)),
        encode(Hello(version=3, journal="j", runs=[])),
        "x" * (MAX_FRAME + 1),
    ],
    ids=["rubbish", "binary", "no hello", "version", "oversized"],
)
async def test_a_bad_greeting_is_refused(wires: Wires, first: str | bytes) -> None:
    socket = await wires.dial()
    await shout(socket, first)
    assert await closed(socket) in REFUSED
    assert not wires.listener.hellos
    assert wires.sleds.journal(1) is None


async def test_a_sled_that_hangs_up_before_its_hello_leaves_nothing(wires: Wires) -> None:
    for _ in range(5):
        await (await wires.dial()).close()
    await wires.hello()
    assert len(wires.listener.hellos) == 1


async def test_a_frame_of_almost_the_largest_size_is_taken(wires: Wires) -> None:
    socket = await wires.hello()
    event = Event(run="r", seq=1, body=Finished(ending="answered", text="é" * 2**20))
    await socket.send_str(encode(event))
    await until(lambda: wires.listener.events)
    assert wires.listener.events == [(1, event)]


async def test_a_newer_connection_replaces_the_older_at_once(wires: Wires) -> None:
    """The older may be half-open: nothing waits for its goodbye."""
    older = await wires.hello(journal="old")
    began = time.monotonic()
    newer = await wires.hello(journal="new")
    assert time.monotonic() - began < 0.5 * patience()
    assert wires.sleds.journal(1) == "new"
    assert await closed(older) is not None
    await wires.sleds.send(1, Ack(run="r"))
    assert await take(newer) == Ack(run="r")
    await asyncio.sleep(0.1)  # the older one's end has been seen by now, and costs the newer nothing
    assert wires.sleds.journal(1) == "new"


async def test_many_connections_at_once_leave_the_last(wires: Wires) -> None:
    sockets = await asyncio.gather(*(wires.hello(journal=f"j{n}") for n in range(10)))
    last = wires.listener.hellos[-1][1].journal
    await until(lambda: sum(not s.closed and not s._closing for s in sockets) <= 10)
    assert wires.sleds.journal(1) == last
    for number, socket in enumerate(sockets):
        if f"j{number}" != last:
            await closed(socket)
    await wires.sleds.send(1, Ack(run="r"))
    assert await take(sockets[int(last[1:])]) == Ack(run="r")


async def test_what_is_being_taken_in_when_the_sled_hangs_up_is_taken_in_to_its_end(wires: Wires) -> None:
    """A sled that is told to end says Finished and hangs up; its gateway is still committing."""
    wires.listener.gate.clear()
    socket = await wires.hello()
    event = Event(run="r", seq=1, body=Finished(ending="answered"))
    await socket.send_str(encode(event))
    await until(lambda: wires.listener.began)
    await wires.stack.aclose()
    handlers = [t for t in asyncio.all_tasks() if "RequestHandler.start" in repr(t)]
    assert len(handlers) <= 1
    if handlers:
        await asyncio.wait(handlers, timeout=5)
    wires.listener.gate.set()
    await until(lambda: wires.listener.events == [(1, event)])
    await until(lambda: wires.sleds.journal(1) is None)


async def test_a_listener_that_fails_closes_the_connection_and_the_next_is_served(
    wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(project_id: int, event: Event) -> None:
        raise RuntimeError("no database")

    socket = await wires.hello()
    with monkeypatch.context() as for_now:
        for_now.setattr(wires.listener, "on_event", fail)
        await socket.send_str(encode(Event(run="r", seq=1, body=TextDelta(delta="a"))))
        assert await closed(socket) == 1011
    again = await wires.hello()
    await again.send_str(encode(Event(run="r", seq=1, body=TextDelta(delta="a"))))
    await until(lambda: wires.listener.events)


async def test_what_follows_the_welcome_keeps_its_order(wires: Wires) -> None:
    """A large Run is still on its way to a slow sled when its Stop is sent."""
    runs = [Run(run=f"r{n}", session="s", prompt="x" * 3_000_000, agent="a") for n in range(3)]
    wires.listener.then = [*runs]
    socket = await wires.dial()
    await socket.send_str(HELLO)
    await until(lambda: wires.sleds.journal(1))
    stopping = asyncio.create_task(wires.sleds.send(1, Stop(run="r2")))
    assert isinstance(await take(socket), Welcome)
    assert [(await take_a(socket, Run)).run for _ in range(3)] == ["r0", "r1", "r2"]
    assert await take(socket) == Stop(run="r2")
    assert await stopping


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_a_call_is_answered(wires: Wires) -> None:
    socket = await wires.hello()
    for ok, text in ((True, "ready"), (False, "no git")):
        calling = asyncio.create_task(wires.sleds.call(1, Call(call=wires.sleds.new_call_id(), job="init"), 5))
        call = await take_a(socket, Call)
        await socket.send_str(encode(Answer(call="stale", ok=True)))
        await socket.send_str(encode(Answer(call=call.call, ok=ok, text=text)))
        await socket.send_str(encode(Answer(call=call.call, ok=ok, text="twice")))
        if ok:
            assert await calling == text
        else:
            with pytest.raises(SledRefused, match=text):
                await calling


async def test_a_call_without_a_sled_or_an_answer_fails(wires: Wires) -> None:
    with pytest.raises(SledAway):
        await wires.sleds.call(1, Call(call="c", job="init"), 5)
    socket = await wires.hello()
    with pytest.raises(SledAway, match="did not answer"):
        await wires.sleds.call(1, Call(call="c", job="init"), 0.05)
    for leave in (socket.close, wires.hello):
        calling = asyncio.create_task(wires.sleds.call(1, Call(call="c", job="init"), 60))
        await take(socket)
        await leave()
        with pytest.raises(SledAway):
            await asyncio.wait_for(calling, 5 * patience())
        socket = await wires.hello()


async def test_a_call_tells_how_far_it_has_got(wires: Wires) -> None:
    socket, other = await wires.hello(1), await wires.hello(2)
    lines: list[str] = []
    calling = asyncio.create_task(wires.sleds.call(1, Call(call="c", job="clone"), 5, said=lines.append))
    await take(socket)
    await other.send_str(encode(Said(call="c", text="another project's")))
    await socket.send_str(encode(Said(call="d", text="nobody's")))
    for text in ("one", "two"):
        await socket.send_str(encode(Said(call="c", text=text)))
    await socket.send_str(encode(Answer(call="c", ok=True, text="done")))
    assert await calling == "done"
    assert lines == ["one", "two"]
    # After the answer, to a call that did not ask for it, and longer than a line may be.
    calling = asyncio.create_task(wires.sleds.call(1, Call(call="e", job="init"), 5))
    await take(socket)
    for call in ("c", "e"):
        await socket.send_str(encode(Said(call=call, text="more")))
    await socket.send_str(encode(Answer(call="e", ok=True)))
    assert await calling == "" and lines == ["one", "two"]
    await socket.send_str(encode(Said(call="c", text="x" * 2001)))
    assert await closed(socket) in REFUSED


async def test_arrival_waits_for_a_hello(wires: Wires) -> None:
    with pytest.raises(SledAway):
        await wires.sleds.arrival(1, 0.05)
    waiting = asyncio.create_task(wires.sleds.arrival(1, 5))
    socket = await wires.hello()
    await waiting
    await wires.sleds.arrival(1, 0)
    await socket.close()
    await until(lambda: wires.sleds.journal(1) is None)
    with pytest.raises(SledAway):
        await wires.sleds.arrival(1, 0.05)
    assert not await wires.sleds.send(1, Ack(run="r"))


# --- sockets ---------------------------------------------------------------------------------------------------------


async def test_a_path_that_the_kernel_would_refuse_is_refused_with_its_reason(wires: Wires) -> None:
    fits = wires.folder / ("é" * ((107 - len(bytes(wires.folder)) - 1) // 2))
    await wires.sleds.open(3, "t", fits)
    with pytest.raises(UserError, match="state_dir"):
        await wires.sleds.open(4, "t", fits.with_name(fits.name + "éé"))
    await wires.sleds.close(fits)
    assert not fits.exists()


async def test_a_wire_is_opened_once_and_closed_with_its_sled(wires: Wires) -> None:
    await wires.sleds.open(1, TOKENS[1], wires.path(1))
    socket, other = await wires.hello(1), await wires.hello(2)
    await wires.sleds.close(wires.path(1))
    await closed(socket)
    assert not wires.path(1).exists()
    assert not other.closed
    await wires.sleds.close(wires.path(1))
    await wires.sleds.open(1, "new-token", wires.path(1))
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await wires.dial(1)
    assert not (await wires.dial(1, "new-token")).closed


async def test_a_socket_left_by_a_killed_gateway_is_replaced(wires: Wires) -> None:
    path = wires.folder / "stale.sock"
    server = await asyncio.start_unix_server(lambda r, w: None, str(path))
    server.close()
    await server.wait_closed()
    assert path.exists()
    await wires.sleds.open(3, "t", path)


async def test_a_wire_that_could_not_be_opened_can_be_tried_again(wires: Wires) -> None:
    path = wires.folder / "later.sock"
    path.mkdir()
    with pytest.raises(OSError):
        await wires.sleds.open(3, "t", path)
    path.rmdir()
    await wires.sleds.open(3, "t", path)
    assert path.is_socket()


async def test_the_end_of_the_server_does_not_wait_for_silent_sleds(wires: Wires) -> None:
    """Sockets that nobody reads: half-open sleds never confirm a close."""
    writers = []
    for project, token in TOKENS.items():
        reader, writer = await asyncio.open_unix_connection(str(wires.path(project)))
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        writer.write(
            f"GET /sled HTTP/1.1\r\nHost: wire\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        payload, mask = HELLO.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        writer.write(bytes([0x81, 0x80 | len(payload)]) + mask + masked)
        writers.append(writer)
    await until(lambda: len(wires.listener.connected) == 2)
    began = time.monotonic()
    await wires.sleds.stop()
    assert time.monotonic() - began < 4 * patience()
    for writer in writers:
        writer.close()


async def test_other_routes_know_the_project_by_its_socket_and_token() -> None:
    with tempfile.TemporaryDirectory(prefix="huskies-") as name:
        sleds, path = Sleds(), Path(name) / "s"

        def routes(authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
            async def who(request: web.Request) -> web.Response:
                return web.Response(text=str(authenticate(request)))

            return [web.get("/who", who)]

        await sleds.start(Listener(), routes)
        await sleds.open(1, "t", path)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            for headers, project in (({"Authorization": "Bearer t"}, "1"), ({"x-api-key": "t"}, "1"), ({}, "None")):
                async with session.get("http://wire/who", headers=headers) as response:
                    assert await response.text() == project
        await sleds.stop()


async def test_a_project_opens_only_so_many_connections(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle ones count: each is a file of the gateway, which has a thousand."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 4)
    sled = await wires.hello(1)
    idle = []
    for _ in range(3):
        idle.append(await asyncio.open_unix_connection(str(wires.path(1))))
        await asyncio.sleep(0.01)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await wires.dial(1)
    assert caught.value.status == 503
    other = await wires.hello(2)
    assert await wires.sleds.send(1, Ack(run="r"))
    assert await take(sled) == Ack(run="r"), "its sled is still there"
    idle[0][1].close()
    await until(lambda: sum(wires.sleds._server._open.values()) == 4)
    assert not (await wires.hello(1)).closed
    assert not other.closed
    for _, writer in idle[1:]:
        writer.close()


async def test_this_version_is_spoken_and_the_one_before(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleds_module, "VERSION", 4)
    for version, foreign in ((4, False), (3, True)):
        socket = await wires.dial(1)
        await socket.send_str(encode(Hello(version=version, journal="j", runs=[])))
        assert isinstance(await take(socket), Welcome)
        assert wires.sleds.is_foreign(1) is foreign
        assert wires.sleds.trouble(1) == ""


async def test_a_sled_of_another_version_is_told_apart_whatever_its_hello_is_like(
    wires: Wires, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes again and again; the log says it once, and so does whoever is asked."""
    monkeypatch.setattr(sleds_module, "VERSION", 4)
    for _ in range(5):
        socket = await wires.dial(1)
        await socket.send_str('{"type": "hello", "version": 2, "journal": {"of": "that time"}}')
        assert await closed(socket) == 1002
    assert wires.sleds.trouble(1) == "its sled speaks version 2 of the wire, and this gateway 4"
    assert wires.sleds.is_foreign(1)
    assert caplog.text.count("speaks version 2") == 1
    assert not wires.sleds.is_foreign(2)
    await wires.sleds.close(wires.path(1))
    assert wires.sleds.trouble(1) == ""


async def test_calls_of_two_gateways_are_never_taken_for_each_other() -> None:
    """A sled outlives its gateway, and may still answer the earlier one's call."""
    ids = [Sleds().new_call_id() for _ in range(2)]
    assert len(set(ids)) == 2


async def test_nobody_is_remembered_for_having_been_waited_for() -> None:
    sleds = Sleds()
    with pytest.raises(SledAway):
        await sleds.arrival(1, 0.01)
    assert not sleds._arrivals
