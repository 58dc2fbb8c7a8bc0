"""A proxy before PostgreSQL that cuts every connection at a chosen message of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Cutting:
    """Use `cutting`. Messages of all connections are counted, in both directions, those of the start included."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = 0
        self.seen = 0
        #: The message that is not passed on any more, and with which all that stands is cut; 0: none.
        self.at = 0
        self.cuts = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, back}
        ways = [
            asyncio.create_task(self._pass_on(reader, back, starts=True)),
            asyncio.create_task(self._pass_on(there, writer, starts=False)),
        ]
        self._tasks |= set(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, back):
            end.close()
        self._open -= {writer, back}

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, starts: bool) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await source.readexactly(4 if starts else 5)
                starts = False
                message = head + await source.readexactly(int.from_bytes(head[-4:], "big") - 4)
                self.seen += 1
                if self.seen == self.at:
                    self.cuts += 1
                    for each in self._open:
                        each.transport.abort()
                    return
                sink.write(message)
                await sink.drain()

    async def close(self) -> None:
        """Wait for what was passed on."""
        for each in self._open:
            each.transport.abort()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def cutting(to: int) -> AsyncIterator[Cutting]:
    """A proxy before the server on a port of the loopback. Clients must not ask for TLS."""
    made = Cutting(to)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
