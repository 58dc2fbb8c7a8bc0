"""Agents as people in a chat: what they ask for comes in as messages, and each reply is the answer to one of them.

The database is the delivery: a sled that did not hear an answer asks for it. So nothing is sent twice, and nothing
waits for a sled that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.chat import Capabilities, Conversation, Fate, MessageRef, Receiver, Reply, WithoutFiles


class Agents(WithoutFiles):
    """Implements `gateway.chat.Transport`. `tell` lets a call's sled have its answer."""

    name = "agent"
    capabilities = Capabilities(max_text=1_000_000, edits=False, edit_interval_s=0.0, idempotent=True, marks=False)

    def __init__(self, tell: Callable[[str, str], Awaitable[None]]) -> None:
        self._tell = tell
        self.serving = False

    async def run(self, receiver: Receiver) -> None:
        """Calls come by the wire; there is nothing to watch."""
        self.serving = True
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        if reply.reply_to:
            await self._tell(reply.reply_to, reply.text)
        return MessageRef(conversation, key)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Nothing is shown, so there is nothing to replace."""

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """An agent has no marks."""
