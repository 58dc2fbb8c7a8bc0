"""What platforms post to: routes that a transport brings along, on a server that strangers can reach."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from aiohttp import web

#: How the public server treats connections: one that has not sent a whole header within 10 seconds is closed, and
#: bodies stay as they were sent: signatures are made over these bytes, and nothing is unpacked unasked.
SERVER: dict[str, Any] = {"keepalive_timeout": 10.0, "lingering_time": 5.0, "auto_decompress": False}


@runtime_checkable
class Webhooks(Protocol):
    """A transport that its platform posts to."""

    def routes(self) -> list[web.RouteDef]:
        """The routes, each under `/webhooks/`; they answer 503 while the transport does not run."""
