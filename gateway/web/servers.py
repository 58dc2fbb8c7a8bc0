"""The two servers: one that strangers can reach, and one for the `huskies` command of the gateway's own user."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.errors import ConfigError
from gateway.web.place import Place
from gateway.web.webhooks import SERVER

#: Bytes of one request.
_MOST_OF_STRANGERS, _MOST_OF_OURS = 2**20, 2**24


@dataclass(frozen=True, slots=True)
class Servers:
    """What each of them serves, and where: `listen` is host:port, `socket` a path. `place` hears of the port.

    `close` ends what would keep the first from ending.
    """

    listen: str
    place: Place
    public: Iterable[web.RouteDef]
    socket: Path
    local: Iterable[web.RouteDef]
    close: Callable[[], Awaitable[None]]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until the end of the block. Raises ConfigError for an address that cannot be used."""
        host, _, port = self.listen.rpartition(":")
        public = web.Application(client_max_size=_MOST_OF_STRANGERS)
        public.router.add_routes(self.public)
        local = web.Application(client_max_size=_MOST_OF_OURS)
        local.router.add_routes(self.local)
        runners = [
            web.AppRunner(public, access_log=None, shutdown_timeout=1.0, **SERVER),
            web.AppRunner(local, access_log=None, shutdown_timeout=1.0),
        ]
        for runner in runners:
            await runner.setup()
        try:
            try:
                await web.TCPSite(runners[0], host.strip("[]"), int(port)).start()
            except OSError as error:
                raise ConfigError(
                    f"gateway.listen {self.listen} cannot be used: {error.strerror}; "
                    "choose another address, or end what uses it"
                ) from error
            self.place.port = int(runners[0].addresses[0][1])
            await web.UnixSite(runners[1], str(self.socket)).start()
            self.socket.chmod(0o600)
            yield
        finally:
            await self.close()
            for runner in runners:
                await runner.cleanup()
            self.socket.unlink(missing_ok=True)
