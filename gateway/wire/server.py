"""The wire's server: a Unix socket per project, and who speaks over it.

A request's identity is the socket it came by; the project's token is the second lock. So one project's sled can
neither see nor name another's runs.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.errors import UserError

#: The kernel's limit on a socket's path, in bytes.
MAX_SOCKET_PATH = 107
#: Connections that one project may have open: its sled's, and one for each request to a proxy that is under way.
MAX_CONNECTIONS = 128
#: Seconds after which one is closed that has said nothing yet, and one that has said nothing since its last request.
SILENT_S, _IDLE_S = 30.0, 75.0


@dataclass(frozen=True, slots=True)
class Socket:
    """A project's socket. `token`: the second lock."""

    project_id: int
    token: str
    server: asyncio.AbstractServer


class _Crowded(asyncio.Protocol):
    """Refuses a connection: a project that opens too many must not use up what the gateway may have open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        transport.close()


class _Connection(web.RequestHandler):
    """A connection that is counted until it is `lost`."""

    __slots__ = ("_first_word", "_lost")

    def __init__(self, server: web.Server, lost: Callable[[], None]) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None, keepalive_timeout=_IDLE_S)  # type: ignore[arg-type]  # it means none
        self._lost = lost
        self._first_word: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._first_word = asyncio.get_running_loop().call_later(SILENT_S, transport.close)

    def data_received(self, data: bytes) -> None:
        if self._first_word is not None:
            self._first_word.cancel()
            self._first_word = None
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._first_word is not None:
            self._first_word.cancel()
        super().connection_lost(exc)
        self._lost()


class WireServer:
    """See the module. `dropped` is told of each project whose socket is closed."""

    def __init__(self, dropped: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        self._dropped = dropped
        self._runner: web.AppRunner | None = None
        self._sockets: dict[str, Socket] = {}
        #: How many connections there are of each path.
        self._open: Counter[str] = Counter()

    async def start(self, routes: Iterable[web.RouteDef]) -> None:
        """Get ready to open sockets, which all serve these routes."""
        app = web.Application(client_max_size=2**26)
        app.router.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await self._runner.setup()

    async def open(self, project_id: int, token: str, path: Path) -> None:
        """Listen on a project's socket.

        Raises:
            UserError: its path is longer than the kernel allows.
            OSError: it cannot be made.
        """
        if len(bytes(path)) > MAX_SOCKET_PATH:
            raise UserError(
                f"the socket path {path} has more than {MAX_SOCKET_PATH} bytes; "
                "set gateway.state_dir to a shorter folder"
            )
        if (known := self._sockets.get(str(path))) is not None:
            if (known.project_id, known.token) == (project_id, token):
                return
            await self.close(path)  # of an earlier project of that name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: self._accept(str(path)), str(path), start_serving=False)
        self._sockets[str(path)] = Socket(project_id, token, server)
        try:
            path.chmod(0o600)
            await server.start_serving()
        except OSError:
            del self._sockets[str(path)]
            server.close()
            raise

    async def close(self, path: Path) -> None:
        """Stop listening there, and drop whoever came by it."""
        socket = self._sockets.pop(str(path), None)
        if socket is None:
            return
        await self._dropped(socket.project_id)
        socket.server.close()
        path.unlink(missing_ok=True)

    def refuse(self) -> None:
        """Take no new connections."""
        for socket in self._sockets.values():
            socket.server.close()

    async def stop(self) -> None:
        """End what is still being served."""
        self.refuse()
        if self._runner is not None:
            await self._runner.cleanup()

    def project_of(self, request: web.Request) -> int | None:
        """The project that a request speaks for, by its socket and its token; None: nobody we know."""
        name = request.transport.get_extra_info("sockname") if request.transport else None
        socket = self._sockets.get(name) if isinstance(name, str) else None
        header = request.headers.get("Authorization", "")
        offered = header.removeprefix("Bearer ") or request.headers.get("x-api-key", "")
        if socket is None or not hmac.compare_digest(offered.encode(errors="surrogateescape"), socket.token.encode()):
            return None
        return socket.project_id

    def authenticate(self, request: web.Request) -> str | None:
        """The same, as text."""
        found = self.project_of(request)
        return None if found is None else str(found)

    def _accept(self, path: str) -> asyncio.Protocol:
        """Who speaks to a new connection of a wire."""
        assert self._runner is not None
        assert self._runner.server is not None
        if self._open[path] >= MAX_CONNECTIONS:
            return _Crowded()
        self._open[path] += 1
        return _Connection(self._runner.server, partial(self._ended, path))

    def _ended(self, path: str) -> None:
        self._open[path] -= 1
        if not self._open[path]:
            del self._open[path]
