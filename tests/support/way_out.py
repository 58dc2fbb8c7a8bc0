"""A proxy on loopback that is the only way out: it knows names that nobody else does, and notes who was asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Self
from urllib.parse import urlsplit


class WayOut:
    """Use as an async context manager. `hosts`: the port on loopback behind each `name:port`."""

    def __init__(self) -> None:
        self.hosts: dict[str, int] = {}
        #: How often each was asked for: `CONNECT name:port`, or the method and the name.
        self.asked: Counter[str] = Counter()
        self.login = ""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """As HTTP_PROXY wants it."""
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        method, target, version = line.decode().split(" ")
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host = f"{url.hostname}:{url.port or (443 if method == 'CONNECT' else 80)}"
        self.asked[f"{method} {url.hostname}"] += 1
        if self.login and f"proxy-authorization: {self.login}".lower() not in head.decode().lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if host not in self.hosts:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.hosts[host])
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = url._replace(scheme="", netloc="").geturl() or "/"
                # One request on each connection: what follows would need to be read as well.
                kept = b"\r\n".join(one for one in rest.split(b"\r\n") if not one.lower().startswith(b"proxy-"))
                upgrades = b"upgrade:" in rest.lower()
                close = b"" if upgrades else b"Connection: close\r\n"
                back.write(f"{method} {path} {version}\r\n".encode() + close + kept)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, back))
                both.create_task(_copy(there, writer))
        finally:
            back.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
