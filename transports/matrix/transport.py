"""The transport as the gateway sees it. The SDK is imported only once it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.chat import Attachment, Capabilities, Conversation, Fate, MessageRef, OutgoingFile, Receiver, Reply
from gateway.errors import TransportDown
from transports.matrix import taps
from transports.matrix.config import CAPABILITIES, NAME, MatrixConfig

if TYPE_CHECKING:
    from transports.matrix.connection import Connection


class MatrixTransport:
    """One Matrix account of the bot."""

    def __init__(self, config: MatrixConfig, may_invite: Callable[[str], bool]) -> None:
        """Make a transport that does not run yet.

        Args:
            config: account and store.
            may_invite: whether `matrix:@user:server` may bring the bot into a room.
        """
        self._config = config
        self._may_invite = may_invite
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """`matrix`."""
        return NAME

    @property
    def capabilities(self) -> Capabilities:
        """What Matrix can do."""
        return CAPABILITIES

    @property
    def serving(self) -> bool:
        """True while the last request for news succeeded and what it brought was committed."""
        return self._connection is not None and self._connection.serving

    async def run(self, receiver: Receiver) -> None:
        """Receive until cancelled, recovering from outages by itself.

        Raises:
            TransportRefused: the account cannot be used, or another process uses the store.
        """
        if self._connection is not None:
            raise RuntimeError("this transport is already running")
        from transports.matrix.connection import Connection

        self._connection = Connection(self._config, self._may_invite, receiver)
        try:
            await self._connection.run()
        finally:
            self._connection = None

    async def is_in(self, conversation: Conversation, sender: str) -> bool:
        """See `gateway.chat.Membership`: the homeserver is asked."""
        return sender.removeprefix(f"{self.name}:") in await self._running().outgoing.joined(conversation.room)

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        """Post `reply`; the same `key` posts it only once.

        Raises:
            TransportDown: not now. Another try with the same key is harmless, whatever became of this one.
            DeliveryRefused, TransportRefused: never.
        """
        running = self._running()
        ref = await running.outgoing.send(conversation, reply, key)
        running.marks.offer(ref, taps.offered(reply.choices))
        return ref

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        """Post a file, encrypted where the room is. Raises as `send` does."""
        return await self._running().outgoing.send_file(conversation, file, reply, key)

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        """Write a file that came with a message to `into`. Raises as `send` does."""
        await self._running().outgoing.fetch(file, into, most)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Replace the text of our message `ref`. Raises as `send` does."""
        await self._running().outgoing.edit(ref, reply, key)

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """Show `fate` on a person's message, in the background."""
        if self._connection is not None:
            self._connection.marks.add(ref, fate)

    def _running(self) -> Connection:
        if self._connection is None:
            raise TransportDown("the Matrix transport is not running")
        return self._connection
