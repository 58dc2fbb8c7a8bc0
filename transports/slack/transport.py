"""The transport as the gateway sees it. The SDK is imported only once it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.chat import Attachment, Capabilities, Conversation, Fate, MessageRef, OutgoingFile, Receiver, Reply
from gateway.errors import TransportDown
from transports.slack.config import CAPABILITIES, NAME, SlackConfig
from transports.slack.memory import Memory
from transports.slack.webhook import Webhook

if TYPE_CHECKING:
    from transports.slack.connection import Connection


class SlackTransport:
    """One Slack app in one workspace."""

    def __init__(self, config: SlackConfig, may_speak: Callable[[str], bool]) -> None:
        """Make a transport that does not run yet.

        Args:
            config: mode and tokens.
            may_speak: whether the access lists know `slack:U...`; for anybody else the bot looks nothing up.
        """
        self._config = config
        self._may_speak = may_speak
        self._memory = Memory()
        self._webhook = Webhook(config.signing_secret) if config.mode == "http" else None
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """`slack`."""
        return NAME

    @property
    def capabilities(self) -> Capabilities:
        """What Slack can do."""
        return CAPABILITIES

    @property
    def serving(self) -> bool:
        """True while events can come: the socket is open, or the token was accepted and Slack may post."""
        return self._connection is not None and self._connection.serving

    def routes(self) -> list[web.RouteDef]:
        """What the gateway's HTTP server serves for Slack: nothing in socket mode."""
        return self._webhook.routes() if self._webhook is not None else []

    async def run(self, receiver: Receiver) -> None:
        """Receive until cancelled, recovering from outages by itself.

        Raises:
            TransportRefused: Slack does not accept the app or its tokens.
        """
        if self._connection is not None:
            raise RuntimeError("this transport is already running")
        from transports.slack.connection import Connection

        self._connection = Connection(
            self._config, self._may_speak, receiver, memory=self._memory, webhook=self._webhook
        )
        try:
            await self._connection.run()
        finally:
            self._connection = None

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        """Post `reply`; the same `key` posts it only once.

        Raises:
            TransportDown: not now. Another try with the same key is harmless, whatever became of this one.
            DeliveryRefused, TransportRefused: never.
        """
        return await self._running().outgoing.send(conversation, reply, key)

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        """Post a file. Raises as `send` does."""
        return await self._running().outgoing.send_file(conversation, file, reply, key)

    async def is_in(self, conversation: Conversation, sender: str) -> bool:
        """See `gateway.chat.Membership`: Slack is asked."""
        from transports.slack import rooms

        api = self._running().api
        if api is None:
            raise TransportDown("the Slack transport is not connected yet")
        return await rooms.is_in(api, conversation.room, sender.removeprefix(f"{self.name}:"))

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        """Write a file that came with a message to `into`. Raises as `send` does."""
        from transports.slack import files

        api = self._running().api
        if api is None:
            raise TransportDown("the Slack transport is not connected yet")
        await files.download(api, self._config, file, into, most)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Replace the text of our message `ref`. Raises as `send` does."""
        await self._running().outgoing.edit(ref, reply)

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """Show `fate` on a person's message, in the background."""
        if self._connection is not None:
            self._connection.mark(ref, fate)

    def _running(self) -> Connection:
        if self._connection is None:
            raise TransportDown("the Slack transport is not running")
        return self._connection
