"""The WhatsApp transport on a listener of its own, as the gateway serves it, in front of Twilio on loopback."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from aiohttp import web

from gateway.chat import Deliveries, Receiver
from gateway.web.webhooks import SERVER
from tests.support.running import Running
from tests.support.twilio_server import ACCOUNT, BOT, PUBLIC_URL, TOKEN, TwilioServer
from transports.whatsapp import WhatsAppConfig, WhatsAppTransport


class WhatsAppBot(Running):
    """Use as an async context manager; `start` lets the transport run."""

    transport: WhatsAppTransport

    def __init__(self, server: TwilioServer, deliveries: Deliveries | None = None, **settings: Any) -> None:
        self.server = server
        values: dict[str, Any] = {
            "account_sid": ACCOUNT,
            "auth_token": TOKEN,
            "from_number": BOT,
            "public_url": PUBLIC_URL,
            "api_base_url": server.url,
            "order_s": 0.05,
            **settings,
        }
        self.config = WhatsAppConfig(**values)
        self.transport = WhatsAppTransport(self.config, deliveries)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**20)
        app.router.add_routes(self.transport.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **SERVER)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port: int = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.server.target = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._runner.cleanup()

    async def start(self, receiver: Receiver) -> None:
        """Run until `stop`; return once it serves."""
        self.task = asyncio.create_task(self.transport.run(receiver))
        await self.serves(timeout_s=10)


class Nobody:
    """A receiver for tests in which nobody writes."""

    async def accept(self, incoming: object, cursor: str | None = None) -> None:
        """Take nothing."""

    async def cursor(self, transport: str) -> str | None:
        return None

    def typing(self, conversation: object, senders: object) -> None:
        """Nobody writes, so nobody types."""
