"""The transport as the gateway sees it. The SDK is imported only once it listens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.chat import (
    Attachment,
    Capabilities,
    Conversation,
    Deliveries,
    Fate,
    MessageRef,
    OutgoingFile,
    Receiver,
    Reply,
)
from gateway.errors import DeliveryRefused
from transports.whatsapp.config import CAPABILITIES, NAME, WhatsAppConfig

if TYPE_CHECKING:
    from aiohttp import web

    from transports.whatsapp.connection import Connection


class WhatsAppTransport:
    """One WhatsApp sender of a Twilio account. `deliveries` hears what became of messages, and knows who wrote when."""

    def __init__(self, config: WhatsAppConfig, deliveries: Deliveries | None = None) -> None:
        self._config = config
        self._deliveries = deliveries
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """`whatsapp`."""
        return NAME

    @property
    def capabilities(self) -> Capabilities:
        """What WhatsApp can do."""
        return CAPABILITIES

    @property
    def serving(self) -> bool:
        """True while the account was in order at the last check."""
        return self._connection is not None and self._connection.serving

    def routes(self) -> list[web.RouteDef]:
        """What Twilio posts to and fetches from."""
        return self._made().routes()

    async def run(self, receiver: Receiver) -> None:
        """Receive until cancelled, recovering from outages by itself.

        Raises:
            TransportRefused: the account cannot be used. What people write is taken all the same.
        """
        await self._made().run(receiver)

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        """Post `reply`.

        Raises:
            TransportDown: not now. If it was perhaps sent all the same, the next try with its key looks for it.
            DeliveryHeld: not before the person writes again.
            OutcomeUnknown: perhaps sent, and Twilio does not tell.
            DeliveryRefused, TransportRefused: never.
        """
        return await self._made().outgoing.send(conversation, reply, key)

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        """Post a file, which Twilio then fetches from us. Raises as `send` does."""
        return await self._made().outgoing.send_file(conversation, file, reply, key)

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        """Write a file that came with a message to `into`. Raises as `send` does."""
        await self._made().outgoing.fetch(file, into, most)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Nothing that was sent can be changed. Raises DeliveryRefused."""
        raise DeliveryRefused("WhatsApp cannot change what was sent")

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """Show typing while `ref` is at work."""
        if self._connection is not None:
            self._connection.mark(ref, fate)

    def _made(self) -> Connection:
        if self._connection is None:
            from transports.whatsapp.connection import Connection

            self._connection = Connection(self._config, self._deliveries)
        return self._connection
