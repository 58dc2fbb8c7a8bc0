"""The page in the browser as a chat. The database is the delivery: a page reads there what was said.

So nothing has to be sent; whoever looks is told that there is something new. Only text that is about to be replaced is
not in the database, but here, for whoever opens the page meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.chat import Capabilities, Conversation, Fate, MessageRef, Receiver, Reply, WithoutFiles

NAME = "web"


class Web(WithoutFiles):
    """Implements `gateway.chat.Transport` for the page.

    `changed` is called with a room, and with what is new there: `out/<key>` for a message of ours, by the key that it
    was sent with, `in/<external id>` for the fate of a person's.
    """

    name = NAME
    capabilities = Capabilities(max_text=100_000, edits=True, edit_interval_s=0.2, idempotent=True, marks=True)

    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed
        #: By the key of the message: text that will be replaced.
        self.live: dict[str, str] = {}
        self.serving = False

    async def run(self, receiver: Receiver) -> None:
        """Messages come by the page's own requests; there is nothing to watch."""
        self.serving = True
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        self._show(conversation, key, reply)
        return MessageRef(conversation, key)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        self._show(ref.conversation, ref.external_id, reply)

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        self._changed(ref.conversation.room, f"in/{ref.external_id}")

    def _show(self, conversation: Conversation, key: str, reply: Reply) -> None:
        if reply.live:
            self.live[key] = reply.text
        else:
            self.live.pop(key, None)
        self._changed(conversation.room, f"out/{key}")
