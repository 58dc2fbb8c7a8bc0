"""The sled's end of the wire: dial, say hello, take frames, send events - for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
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
_RETRY_S = 0.2


class Refused(Exception):
    """The gateway does not know this sled (any more)."""


class Link:
    """Keeps one connection to the gateway.

    Events are not queued here: the journal holds them, and the link remembers per run how far the gateway got. So live
    events and the replay after an outage are one and the same loop.
    """

    def __init__(
        self,
        wire: Path,
        token: str,
        journal: Journal,
        agents: list[str],
        handle: Callable[[FromGateway], Awaitable[None]],
    ) -> None:
        self._wire = wire
        self._token = token
        self._journal = journal
        self._agents = agents
        self._handle = handle
        self._news: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._outgoing: asyncio.Queue[Frame] = asyncio.Queue()

    def publish(self, run: str) -> None:
        """There is a new event of `run` in the journal."""
        self._news[run] = None
        self._wake.set()

    def answer(self, frame: Frame) -> None:
        """Send a frame that is no event."""
        self._outgoing.put_nowait(frame)
        self._wake.set()

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            Refused: the token is no good: this sled belongs to no project.
        """
        while True:
            try:
                await self._connection()
                log.info("the gateway closed the wire")
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 401:
                    raise Refused from error
                log.warning("the gateway answered %s", error.status)
            except (aiohttp.ClientError, ConnectionError, FileNotFoundError, TimeoutError) as error:
                log.debug("no gateway: %s", error)
            except BadFrame as error:
                log.error("the gateway sent no frame of version %s: %s", VERSION, error)
            await asyncio.sleep(_RETRY_S)

    async def _connection(self) -> None:
        connector = aiohttp.UnixConnector(path=str(self._wire))
        headers = {"Authorization": f"Bearer {self._token}"}
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(
                "http://wire/sled", headers=headers, heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME
            ) as socket,
        ):
            hello = Hello(version=VERSION, journal=self._journal.id, runs=self._journal.states(), agents=self._agents)
            await socket.send_str(encode(hello))
            welcome = decode_from_gateway(await socket.receive_str())
            if not isinstance(welcome, Welcome):
                raise BadFrame("the first frame must be a welcome")
            sender = asyncio.create_task(self._send(socket, dict(welcome.seen)))
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        await self._handle(decode_from_gateway(message.data))
            finally:
                sender.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
                    await sender

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, seen: dict[str, int]) -> None:
        for state in self._journal.states():
            self.publish(state.run)
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
