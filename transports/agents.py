"""Agents as people in a chat: what they ask for comes in as messages, and what they are told is in the database.

That is the delivery, too: a call's answer is pushed over the wire, and a sled that did not hear it asks for it. So
there is nothing to send here, and nothing waits for a sled that is away.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.chat import Attachment, Capabilities, Conversation, Fate, MessageRef, Receiver, Reply, WithoutFiles


class Agents(WithoutFiles):
    """Implements `gateway.chat.Transport`."""

    name = "agent"
    capabilities = Capabilities(max_text=1_000_000, edits=False, edit_interval_s=0.0, idempotent=True, marks=False)

    def __init__(self) -> None:
        self.serving = False

    async def run(self, receiver: Receiver) -> None:
        """Calls come by the wire; there is nothing to watch."""
        self.serving = True
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        return MessageRef(conversation, key)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Nothing is shown, so there is nothing to replace."""

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        """A long note: it is where other platforms say how to find a file."""
        await asyncio.to_thread(into.write_text, file.ref, encoding="utf-8")

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """An agent has no marks."""
