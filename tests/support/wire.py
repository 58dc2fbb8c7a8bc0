"""Stand-ins for the gateway's end of the wire, to be started and stopped again and again at one path."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from aiohttp import web


@contextlib.asynccontextmanager
async def serving(path: Path, routes: Iterable[web.AbstractRouteDef]) -> AsyncIterator[None]:
    """A gateway with `routes` at `path`. Its end cuts what is under way and leaves no socket."""
    app = web.Application(client_max_size=2**28)
    app.router.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def saying(path: Path, *answers: bytes) -> AsyncIterator[asyncio.Queue[bytes]]:
    """A gateway that reads one request per connection, says the next of `answers` and hangs up.

    The last answer is said again and again. The queue gets the head of each request.
    """
    heads: asyncio.Queue[bytes] = asyncio.Queue()
    left = list(answers) or [b""]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        heads.put_nowait(head)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield heads
    finally:
        server.close()
        path.unlink(missing_ok=True)
