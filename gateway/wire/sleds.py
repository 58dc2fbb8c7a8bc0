"""The sleds that are connected: what they say, and what is said to them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from aiohttp import WSMsgType, web
from msgspec.structs import replace

from gateway.errors import SledAway, SledRefused
from gateway.events import Events, ProjectChanged
from gateway.wire.server import WireServer
from gateway.wire.share import Share
from sled.protocol import (
    DOOR,
    MAX_FRAME,
    VERSION,
    WARM,
    Answer,
    BadFrame,
    Call,
    Command,
    Cool,
    Event,
    File,
    Frame,
    Hello,
    Question,
    Said,
    Warm,
    Welcome,
    Withdrawn,
    decode_from_sled,
    encode,
    version_of,
)

log = logging.getLogger(__name__)

#: Seconds between pings; a sled that does not answer for half as long again is gone.
HEARTBEAT_S = 5.0
_HELLO_WITHIN_S = 10.0
#: Seconds that a closing sled gets to say so; a half-open one never does.
_CLOSE_S = 1.0


class Listener(Protocol):
    """Who wants to know what the sleds say: the dispatcher."""

    def on_hello(self, project_id: int, hello: Hello) -> tuple[Welcome, list[Frame]]:
        """A sled is connecting: what to welcome it with, and what to send next."""

    def on_connected(self, project_id: int) -> None:
        """The sled can be sent to."""

    async def on_event(self, project_id: int, event: Event) -> None:
        """A sled reports an event of a run."""


#: Takes what agents ask for; a sled that sent it waits.
OnCommand = Callable[[int, Command], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Calling:
    answer: asyncio.Future[Answer]
    said: Callable[[str], None] | None


@dataclass(slots=True)
class _Connected:
    socket: web.WebSocketResponse
    journal: str
    agents: tuple[str, ...]
    features: tuple[str, ...]
    version: int
    calls: dict[str, _Calling] = field(default_factory=dict)
    #: One frame after the other, the welcome first, also while a large one waits for a slow sled.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, *frames: Frame) -> None:
        """Send frames with no other between them. Raises ConnectionError."""
        async with self.turn:
            for frame in frames:
                await self.socket.send_str(encode(frame))

    def give_up(self, why: str) -> None:
        """Tell whoever waits for an answer that none will come."""
        for calling in self.calls.values():
            if not calling.answer.done():
                calling.answer.set_exception(SledAway(why))


class Sleds:
    """Every project's sled, by its wire."""

    def __init__(self, git_hosts: Collection[str] = (), events: Events | None = None) -> None:
        self._git_hosts = sorted(git_hosts)
        self._events = events or Events()
        self._server = WireServer(self._drop)
        self._listener: Listener | None = None
        self._on_command: OnCommand | None = None
        self._connected: dict[int, _Connected] = {}
        #: Each for as long as somebody waits for it.
        self._arrivals: WeakValueDictionary[int, asyncio.Event] = WeakValueDictionary()
        self._talks: set[asyncio.Task[None]] = set()
        #: Why the sled of a project that tried was not welcome, and the version of the wire that it speaks.
        self._turned_away: dict[int, tuple[str, int]] = {}
        self._shares: dict[int, Share] = {}
        # Unique over all processes: an answer to an earlier gateway's call must not settle one of ours.
        self._series = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def start(
        self,
        listener: Listener,
        routes: Callable[[Callable[[web.Request], str | None]], Iterable[web.RouteDef]] | None = None,
        on_command: OnCommand | None = None,
    ) -> None:
        """Get ready to open wires. `routes`: what else they carry besides frames; `on_command`: who takes commands.

        The listener is named here and not in the constructor: it needs this object to send with.
        """
        self._listener = listener
        self._on_command = on_command
        more = routes(self._server.authenticate) if routes is not None else ()
        await self._server.start([web.get("/sled", self._serve), *more])

    async def open(self, project_id: int, token: str, path: Path) -> None:
        """Listen on a project's socket. Raises UserError, OSError; see `WireServer`."""
        await self._server.open(project_id, token, path)

    async def close(self, path: Path) -> None:
        """Stop listening there, and drop the sled that came by it."""
        await self._server.close(path)

    def trouble(self, project_id: int) -> str:
        """Why a project's sled that came was not welcome; empty where none came, or one is here."""
        return self._turned_away.get(project_id, ("", 0))[0]

    def is_foreign(self, project_id: int) -> bool:
        """Whether the project's sled, here or turned away, speaks another version of the wire."""
        if (connected := self._connected.get(project_id)) is not None:
            return connected.version != VERSION
        return self._turned_away.get(project_id, ("", 0))[1] not in (0, VERSION)

    async def _drop(self, project_id: int) -> None:
        self._turned_away.pop(project_id, None)
        self._shares.pop(project_id, None)
        if connected := self._connected.get(project_id):
            await connected.socket.close()

    async def stop(self) -> None:
        """Close every wire; sleds carry on and come back."""
        self._server.refuse()
        await asyncio.gather(*(connected.socket.close() for connected in list(self._connected.values())))
        if self._talks:
            _, stuck = await asyncio.wait(self._talks, timeout=_CLOSE_S)
            for talk in stuck:
                talk.cancel()
        await self._server.stop()

    def journal(self, project_id: int) -> str | None:
        """The journal of the project's sled; None while it is not connected."""
        connected = self._connected.get(project_id)
        return None if connected is None else connected.journal

    def agents(self, project_id: int) -> tuple[str, ...]:
        """The agents that the project's sled can run."""
        connected = self._connected.get(project_id)
        return () if connected is None else connected.agents

    async def arrival(self, project_id: int, within_s: float) -> None:
        """Wait until the project's sled is connected. Raises SledAway."""
        if project_id in self._connected:
            return
        event = self._arrivals.get(project_id)
        if event is None:
            event = self._arrivals[project_id] = asyncio.Event()
        try:
            await asyncio.wait_for(event.wait(), within_s)
        except TimeoutError:
            raise SledAway(f"its sled did not report within {within_s:.0f} s") from None

    async def send(self, project_id: int, frame: Frame) -> bool:
        """Send a frame; False when the sled is not there (its next hello tells what to do), or does not know it."""
        connected = self._connected.get(project_id)
        if connected is None or (isinstance(frame, Warm | Cool) and WARM not in connected.features):
            return False
        try:
            await connected.send(frame)
        except ConnectionError:
            return False
        return True

    async def call(
        self, project_id: int, call: Call, within_s: float, said: Callable[[str], None] | None = None
    ) -> str:
        """Give the sled a job and wait for its answer.

        `said` is told how far it has got, a line each time. The lines are the sled's, as untrusted as all that it says:
        `said` must be quick, and must not raise.

        Raises:
            SledAway: it is not connected, or went away, or took too long.
            SledRefused: it could not do it; the text says why.
        """
        connected = self._connected.get(project_id)
        if connected is None:
            raise SledAway
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        connected.calls[call.call] = _Calling(future, said)
        try:
            await connected.send(call)
            answer = await asyncio.wait_for(future, within_s)
        except ConnectionError:
            raise SledAway("its sled went away") from None
        except TimeoutError:
            raise SledAway(f"its sled did not answer within {within_s:.0f} s") from None
        finally:
            connected.calls.pop(call.call, None)
        if not answer.ok:
            raise SledRefused(answer.text)
        return answer.text

    def new_call_id(self) -> str:
        """A fresh id for a `Call`."""
        return f"c{self._series}-{next(self._numbers)}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        project_id = self._server.project_of(request)
        if project_id is None:
            return web.Response(status=401, text="unknown project token\n")
        socket = web.WebSocketResponse(timeout=_CLOSE_S, heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME)
        try:
            await socket.prepare(request)
        except ConnectionError:
            return socket  # it hung up at once
        # A task of its own: aiohttp cancels the handler when the sled hangs up, and what the sled said before must be
        # taken in to its end, its last Finished above all.
        await asyncio.shield(self._in_background(self._talk(project_id, socket)))
        return socket

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        return task

    async def _talk(self, project_id: int, socket: web.WebSocketResponse) -> None:
        try:
            try:
                hello = await _hello(socket)
            except BadFrame as error:
                await self._turn_away(project_id, socket, str(error), getattr(error, "version", 0))
                return
            await self._converse(project_id, socket, hello)
        except ConnectionError as error:
            log.info("the sled of project %s: %s", project_id, error)
        except BadFrame as error:
            log.warning("the sled of project %s: %s", project_id, error)
            await socket.close(code=1002, message=str(error).encode()[:100])
        except Exception:
            # Not the sled's fault; its next hello starts afresh from what is known for certain.
            log.exception("the sled of project %s", project_id)
            await socket.close(code=1011)

    async def _turn_away(self, project_id: int, socket: web.WebSocketResponse, why: str, version: int) -> None:
        if self.trouble(project_id) != why:  # or one that comes again and again would fill the log
            log.warning("the sled of project %s: %s", project_id, why)
        if project_id not in self._connected:
            self._turned_away[project_id] = (why, version)
        await socket.close(code=1002, message=why.encode()[:100])

    async def _converse(self, project_id: int, socket: web.WebSocketResponse, hello: Hello) -> None:
        assert self._listener is not None
        connected = _Connected(socket, hello.journal, tuple(hello.agents), tuple(hello.features), hello.version)
        # No await between the listener's decision and the registration: what it decides later is sent later.
        welcome, then = self._listener.on_hello(project_id, hello)
        features = [DOOR] if self._on_command is not None else []
        welcome = replace(welcome, git_hosts=self._git_hosts, features=features)
        before = self._connected.get(project_id)
        self._connected[project_id] = connected
        self._turned_away.pop(project_id, None)
        self._events.tell(ProjectChanged(project_id))
        try:
            if before is not None:
                # The older connection is half-open, or a second sled; either way the newer hello is the truth.
                before.give_up("its sled connected again")
                self._in_background(before.socket.close())
            await connected.send(welcome, *then)
            self._listener.on_connected(project_id)
            if (arrival := self._arrivals.pop(project_id, None)) is not None:
                arrival.set()
            await self._listen(project_id, connected)
        finally:
            if self._connected.get(project_id) is connected:
                del self._connected[project_id]
                self._events.tell(ProjectChanged(project_id))
            connected.give_up("its sled went away")

    async def _listen(self, project_id: int, connected: _Connected) -> None:
        assert self._listener is not None
        share = self._shares.setdefault(project_id, Share())  # not the connection's: it could make a new one each time
        async for message in connected.socket:
            if message.type is WSMsgType.ERROR:
                raise ConnectionError(str(message.data) or "the connection broke")
            if message.type is not WSMsgType.TEXT:
                raise BadFrame("a frame is text")
            await share.take(len(message.data))
            frame = decode_from_sled(message.data)
            if self._connected.get(project_id) is not connected:
                return  # replaced: the newer connection replays what this one still holds
            if isinstance(frame, Event):
                if isinstance(frame.body, Question | Withdrawn | File):
                    share.committed()
                await self._listener.on_event(project_id, frame)
            elif isinstance(frame, Command):
                share.committed()
                if self._on_command is not None:
                    await self._on_command(project_id, frame)
            elif isinstance(frame, Said):
                if (calling := connected.calls.get(frame.call)) is not None and calling.said is not None:
                    calling.said(frame.text)
            elif isinstance(frame, Answer):
                with contextlib.suppress(KeyError, asyncio.InvalidStateError):
                    connected.calls[frame.call].answer.set_result(frame)
            else:
                raise BadFrame("a second hello")


async def _hello(socket: web.WebSocketResponse) -> Hello:
    """The first frame. Raises BadFrame."""
    try:
        message = await asyncio.wait_for(socket.receive(), _HELLO_WITHIN_S)
    except TimeoutError:
        raise BadFrame("no hello came") from None
    if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
        raise ConnectionError("it hung up before its hello")
    if message.type is not WSMsgType.TEXT:
        raise BadFrame("the first frame must be a hello")
    version = version_of(message.data)
    if version and not VERSION - 1 <= version <= VERSION:
        raise _Foreign(version)
    hello = decode_from_sled(message.data)
    if not isinstance(hello, Hello):
        raise BadFrame("the first frame must be a hello")
    return hello


class _Foreign(BadFrame):
    """A sled of another version than this one and the one before."""

    def __init__(self, version: int) -> None:
        super().__init__(f"its sled speaks version {version} of the wire, and this gateway {VERSION}")
        self.version = version
