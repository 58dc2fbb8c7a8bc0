"""The way from a build to a proxy that wants a password, or that listens on this host's loopback.

A build's layers may be anybody's, so none of them sees the password: they speak to a relay, which adds it.

    a layer's tool -> 127.0.0.1 of the build -> `relay.pl` in a container of its own -> a socket here -> the proxy
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.loopback import is_loopback
from stacks.images import is_proxy

#: Bytes of a request's head, and of one piece that is passed on.
_HEAD, _PIECE = 64 * 2**10, 64 * 2**10
_CONNECT_S = 10.0
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,15})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)
_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy as the gateway reaches it. `credential`: the value of its header; empty where it wants none."""

    scheme: str
    host: str
    port: int
    credential: bytes = b""

    def seen_at(self, port: int) -> str:
        """Its address for a build, where the relay has this port; TLS to the proxy is the gateway's matter."""
        scheme = "http" if self.scheme == "https" else self.scheme
        return f"{scheme}://127.0.0.1:{port}"


def behind_relay(arguments: Mapping[str, str]) -> dict[str, Proxy]:
    """The proxies among build arguments, by name, that a build cannot, or must not, reach by itself."""
    found = {}
    for name, address in arguments.items():
        if is_proxy(name) and name.upper() != "NO_PROXY" and (proxy := _proxy(address)) is not None:
            found[name] = proxy
    return found


def _proxy(address: str) -> Proxy | None:
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        host, port = url.hostname or "", url.port or _PORTS.get(url.scheme, 0)
    except ValueError:
        return None  # the tools say what is wrong with it
    if not host or not port or not (url.username or is_loopback(host)):
        return None
    credential = f"{unquote(url.username or '')}:{unquote(url.password or '')}" if url.username else ""
    header = b"Basic " + base64.b64encode(credential.encode()) if credential else b""
    return Proxy(url.scheme, host, port, header)


@contextlib.asynccontextmanager
async def serve(proxy: Proxy, path: Path, owner: tuple[int, int]) -> AsyncIterator[None]:
    """Pass on to a proxy what comes by a socket that only `owner` can use. Raises OSError."""
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_Connection(proxy, reader, writer).run())
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_unix_server(accept, path, limit=_HEAD)
    try:
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, *owner)
        yield
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


class _Connection:
    """One connection of a build."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer

    async def run(self) -> None:
        """Pass on in both directions until the proxy ends it."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._writer.close)
            try:
                there, to = await asyncio.wait_for(self._connect(), _CONNECT_S)
            except (OSError, TimeoutError) as error:
                why = getattr(error, "strerror", "") or "it does not answer"
                await self._refuse("502 Bad Gateway", f"the proxy {self._proxy.host}:{self._proxy.port}: {why}")
                return
            stack.callback(to.close)
            forth = asyncio.create_task(self._forth(to))
            try:
                await _copy(there, self._writer)
            finally:
                forth.cancel()
                await asyncio.gather(forth, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._proxy.host, self._proxy.port, ssl=self._proxy.scheme == "https")

    async def _forth(self, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self._proxy.credential:
                await self._requests(to)
            else:
                await _copy(self._reader, to)
            if to.can_write_eof() and not to.is_closing():
                to.write_eof()

    async def _requests(self, to: asyncio.StreamWriter) -> None:
        """Pass on one request after the other, each with the credential."""
        while True:
            try:
                head = await self._reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                await self._refuse("431 Request Header Fields Too Large", "the head of this request is too long")
                to.close()
                return
            if head.startswith(b"TRACE "):  # its answer would be this request, with the credential
                await self._refuse("405 Method Not Allowed", "TRACE is not passed on")
                to.close()
                return
            tunnel, chunked = head.startswith(b"CONNECT "), _CHUNKED.search(head) is not None
            to.write(_with_credential(head, self._proxy.credential, last=chunked and not tunnel))
            await to.drain()
            if tunnel or chunked:
                await _copy(self._reader, to)
                return
            length = _LENGTH.search(head)
            await _copy(self._reader, to, int(length[1]) if length is not None else 0)

    async def _refuse(self, status: str, why: str) -> None:
        body = f"huskies: {why}\n".encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        with contextlib.suppress(OSError):
            await self._writer.drain()
        self._writer.close()


def _with_credential(head: bytes, credential: bytes, *, last: bool) -> bytes:
    """A request's head with the credential in place of what it brought. `last`: nothing follows on its connection."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    dropped = (b"proxy-authorization:", b"connection:", b"proxy-connection:") if last else (b"proxy-authorization:",)
    kept = [line for line in lines if not line.lower().startswith(dropped)]
    more = [b"Proxy-Authorization: " + credential, *([b"Connection: close"] if last else [])]
    return b"\r\n".join([first, *more, *kept]) + b"\r\n\r\n"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None = None) -> None:
    """Pass on so many bytes; None: all until the end."""
    with contextlib.suppress(OSError):
        while left != 0 and (data := await reader.read(_PIECE if left is None else min(left, _PIECE))):
            writer.write(data)
            await writer.drain()
            left = None if left is None else left - len(data)
