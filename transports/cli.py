"""The `huskies send` command as a chat: one message in, its replies out of the database.

The database itself is the delivery: whoever sent the message reads the replies there once it is settled, even when
they ask again after an interruption. So there is nothing to send, and nothing can be sent twice.
"""

from __future__ import annotations

import asyncio

from gateway.chat import Capabilities, Conversation, Fate, Message, MessageRef, Receiver, Reply, WithoutFiles


class Cli(WithoutFiles):
    """Implements `gateway.chat.Transport` for the command line."""

    name = "cli"
    capabilities = Capabilities(max_text=1_000_000, edits=False, edit_interval_s=0.0, idempotent=True, marks=False)

    def __init__(self, user: str) -> None:
        self.sender = f"cli:{user}"
        self._user = user
        self.serving = False

    async def run(self, receiver: Receiver) -> None:
        """Messages come through the gateway's own socket; there is nothing to watch."""
        self.serving = True
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False

    def message(self, text: str, conversation: str, external_id: str) -> Message:
        """What somebody sent."""
        return Message(
            conversation=Conversation(self.name, conversation),
            external_id=external_id,
            sender=self.sender,
            sender_name=self._user,
            text=text,
        )

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        return MessageRef(conversation, key)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Nothing was sent, so there is nothing to replace."""

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """A command line has no marks."""
