"""The Slack transport at work in a test, in front of a workspace on loopback, with a receiver that remembers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Self

from aiohttp import web

from gateway.chat import Conversation, Incoming, MessageRef, Receiver, Reply
from gateway.errors import TransportDown
from gateway.testing import patience
from tests.support.matrix_bot import MemoryReceiver, identity
from tests.support.running import Running
from tests.support.slack_server import SECRET, SlackServer
from transports.slack import SlackConfig, SlackTransport


class SlackReceiver(MemoryReceiver):
    """Takes the same event once also where it comes twice in one call."""

    async def accept(self, incoming: Sequence[Incoming], cursor: str | None = None) -> None:
        once = {identity(item): item for item in reversed(incoming)}
        await super().accept([item for item in incoming if once[identity(item)] is item], cursor)


class SlackBot(Running):
    """A transport that runs from `async with` on; it can be stopped, and born again as a new process would be."""

    transport: SlackTransport

    def __init__(
        self, server: SlackServer, receiver: Receiver | None = None, *, stranger: str = "U0EVE", **settings: Any
    ) -> None:
        """`server` has a `mode` and an `api_url`, and is told the `webhook`; all but `stranger` are listed."""
        self.server = server
        self._stranger = f"slack:{stranger}"
        defaults: dict[str, Any] = {
            **{"mode": server.mode, "bot_token": "xoxb-canary", "app_token": "xapp-canary"},
            **{"signing_secret": SECRET, "api_base_url": server.api_url, "ping_s": 0.4, "check_s": 0.2},
            "apps": ("A0OURS",),
        }
        self.config = SlackConfig(**(defaults | settings))
        self.memory = SlackReceiver()
        self.receiver = receiver or self.memory
        self.transport = self._made()
        self._site: web.AppRunner | None = None

    def _made(self) -> SlackTransport:
        return SlackTransport(self.config, lambda sender: sender != self._stranger)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def launch(self) -> None:
        """Run, without waiting until it serves."""
        await self.listen()
        self.task = asyncio.create_task(self.transport.run(self.receiver))

    async def listen(self) -> None:
        """Serve the transport's route, as the gateway does."""
        if self.transport.routes():
            app = web.Application(client_max_size=2**20)
            app.router.add_routes(self.transport.routes())
            self._site = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await self._site.setup()
            site = web.TCPSite(self._site, "127.0.0.1", 0)
            await site.start()
            self.server.webhook = f"http://127.0.0.1:{self._site.addresses[0][1]}/webhooks/slack"

    async def start(self) -> None:
        """Run, and wait until events flow."""
        await self.launch()
        await self.serves()

    async def stop(self) -> None:
        """Cancel the run and wait until it is over; serve the route no more."""
        await super().stop()
        if self._site is not None:
            await self._site.cleanup()
            self._site = None

    async def reborn(self) -> None:
        """End, and start as a new process that remembers nothing but what was committed."""
        await self.stop()
        self.transport = self._made()
        await self.start()

    async def send(self, conversation: Conversation, text: str, key: str, **more: Any) -> MessageRef:
        """Post as the outbox does: again while the transport is down."""
        deadline = time.monotonic() + 20 * patience()
        while True:
            try:
                return await self.transport.send(conversation, Reply(text, **more), key)
            except TransportDown as error:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(error.retry_after_s or 0.02)
