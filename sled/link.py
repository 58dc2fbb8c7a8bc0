"""The sled's end of the wire: dial, say hello, take frames, send events - for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp

from sled.journal import Journal
from sled.protocol import (
    MAX_FRAME,
    VERSION,
    BadFrame,
    Frame,
    FromGateway,
    Hello,
    Welcome,
    decode_from_gateway,
    encode,
)

log = logging.getLogger(__name__)

#: Seconds between pings; a peer that does not answer for half as long again is gone.
HEARTBEAT_S = 5.0
#: Seconds that a closing gateway gets to say so.
_CLOSE_S = 1.0
#: Seconds between two tries to reach the gateway; and, ever longer, between those that it turned away.
_RETRY_S, _TURNED_AWAY_S = 0.2, 30.0
#: A gateway that takes the connection but says nothing may be frozen; another one may be listening in its place.
_WELCOME_WITHIN_S = 5.0


class _TurnedAway(ConnectionResetError):
    """The gateway does not like the hello, and will not like the next one; the text says why."""


class Refused(Exception):
    """The gateway does not know this sled, or not any more."""


class Link:
    """Keeps one connection to the gateway.

    Events are not queued here: the journal holds them, and the link remembers per run how far the gateway got. So live
    events and the replay after an outage are the same loop.
    """

    def __init__(
        self,
        wire: Path,
        token: str,
        journal: Journal,
        agents: list[str],
        handle: Callable[[FromGateway], Awaitable[None]],
        *,
        features: Sequence[str] = (),
        welcomed: Callable[[Welcome], Awaitable[None]] | None = None,
        unanswered: Callable[[], Sequence[Frame]] = tuple,
    ) -> None:
        self._wire = wire
        self._token = token
        self._journal = journal
        self._agents = agents
        self._features = list(features)
        self._handle = handle
        self._welcomed = welcomed
        #: What each gateway that connects is told again.
        self._unanswered = unanswered
        self._news: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._outgoing: asyncio.Queue[Frame] = asyncio.Queue()

    def publish(self, run: str) -> None:
        """Note that the journal has a new event of `run`."""
        self._news[run] = None
        self._wake.set()

    def answer(self, frame: Frame) -> None:
        """Send a frame that is not an event."""
        self._outgoing.put_nowait(frame)
        self._wake.set()

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            Refused: the token is not valid: this sled belongs to no project.
        """
        pause, why = _RETRY_S, ""
        while True:
            try:
                await self._connection()
                log.info("the gateway closed the wire")
                pause, why = _RETRY_S, ""
            except _TurnedAway as error:
                pause = min(_TURNED_AWAY_S, pause * 2)
                if why != str(error):  # or the log would be full of it
                    why = str(error)
                    log.error("%s", why)
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 401:
                    raise Refused from error
                log.warning("the gateway answered %s", error.status)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                log.debug("no gateway: %s", error)
            except BadFrame as error:
                log.error("the gateway sent something that is not a frame of version %s: %s", VERSION, error)
            await asyncio.sleep(pause)

    async def _connection(self) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(self._wire))) as session:
            async with asyncio.timeout(_WELCOME_WITHIN_S):
                socket, seen = await self._dial(session)
            async with socket:
                receiver = asyncio.create_task(self._receive(socket))
                sender = asyncio.create_task(self._send(socket, seen))
                try:
                    await asyncio.wait({receiver, sender}, return_when=asyncio.FIRST_COMPLETED)
                    await socket.close()
                    await receiver  # a frame that is being handled is not dropped half-way
                finally:
                    await _end(sender)
                    await _end(receiver)

    async def _dial(self, session: aiohttp.ClientSession) -> tuple[aiohttp.ClientWebSocketResponse, dict[str, int]]:
        """Say hello; returns what the gateway has seen of each run."""
        socket = await session.ws_connect(
            "http://wire/sled",
            headers={"Authorization": f"Bearer {self._token}"},
            heartbeat=HEARTBEAT_S,
            max_msg_size=MAX_FRAME,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
        )
        hello = Hello(
            version=VERSION,
            journal=self._journal.id,
            runs=self._journal.states(),
            agents=self._agents,
            features=self._features,
        )
        await socket.send_str(encode(hello))
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            why = f"the gateway did not welcome this sled: {message.extra or message.data}"
            if socket.close_code == aiohttp.WSCloseCode.PROTOCOL_ERROR:
                raise _TurnedAway(why)
            raise ConnectionResetError(why)
        welcome = decode_from_gateway(message.data)
        if not isinstance(welcome, Welcome):
            raise BadFrame("the first frame must be a welcome")
        if self._welcomed is not None:
            await self._welcomed(welcome)
        return socket, dict(welcome.seen)

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await self._handle(decode_from_gateway(message.data))

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, seen: dict[str, int]) -> None:
        for state in self._journal.states():
            self.publish(state.run)
        for frame in self._unanswered():
            self.answer(frame)
        while True:
            self._wake.clear()
            while not self._outgoing.empty():
                await socket.send_str(encode(self._outgoing.get_nowait()))
            news, self._news = self._news, {}
            for run in news:
                for event in self._journal.since(run, seen.get(run, 0)) if run in self._journal else ():
                    await socket.send_str(encode(event))
                    seen[run] = event.seq
            await self._wake.wait()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for it; a lost connection is no news by then, any other error of it is raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
        await task
