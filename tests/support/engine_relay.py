"""The real Docker engine behind a socket of the test's own, which can freeze, go and come back."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Self

_ENGINE = "/var/run/docker.sock"


class EngineRelay:
    """Use as a context manager, and give `address` to a gateway as its DOCKER_HOST."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """As DOCKER_HOST wants it."""
        return f"unix://{self._socket}"

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go()

    def freeze(self) -> None:
        """From now on nothing is answered, as when the engine's process is stopped."""
        self._flows.clear()

    def thaw(self) -> None:
        """What was asked meanwhile is answered now."""
        self._flows.set()

    async def go(self) -> None:
        """The engine ends."""
        if self._server is not None:
            self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._socket.unlink(missing_ok=True)

    async def come_back(self) -> None:
        """It starts again."""
        self._flows.set()
        self._server = await asyncio.start_unix_server(self._serve, self._socket)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        engine_reader, engine_writer = await asyncio.open_unix_connection(_ENGINE)
        try:
            to, fro = self._pump(reader, engine_writer), self._pump(engine_reader, writer)
            with contextlib.suppress(asyncio.CancelledError):  # `go`: the streams' own callback would log it
                await asyncio.gather(to, fro, return_exceptions=True)
        finally:
            writer.close()
            engine_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
