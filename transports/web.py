"""The page in the browser as a chat. The database is the delivery: a page reads there what was said.

So nothing has to be sent; whoever looks is told that there is something new. Only text that is about to be replaced is
not in the database, but here, for whoever opens the page meanwhile.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from gateway.chat import Attachment, Capabilities, Conversation, Fate, MessageRef, OutgoingFile, Receiver, Reply
from gateway.errors import DeliveryRefused

NAME = "web"


def room_of(sender: str, name: str) -> str:
    """The room of a person's conversation about a project, or about none."""
    return f"{sender} {name}"


class Web:
    """Implements `gateway.chat.Transport` for the page.

    `changed` is called with a room, and with what is new there: `out/<key>` for a message of ours, by the key that it
    was sent with, `in/<external id>` for the fate of a person's. `folder`: where the files lie that people sent.
    """

    name = NAME
    capabilities = Capabilities(
        max_text=100_000, edits=True, edit_interval_s=0.2, idempotent=True, marks=True, files=True
    )

    def __init__(self, changed: Callable[[str, str], None], folder: Path) -> None:
        self._changed = changed
        self.folder = folder
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

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        return await self.send(conversation, reply, key)

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        if file.size > most:
            raise DeliveryRefused(f"it has more than {most // 2**20} MiB")
        try:
            await asyncio.to_thread(shutil.copyfile, self.folder / file.ref, into)
        except FileNotFoundError:
            raise DeliveryRefused("it is not kept any more; send it again") from None

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        self._changed(ref.conversation.room, f"in/{ref.external_id}")

    def _show(self, conversation: Conversation, key: str, reply: Reply) -> None:
        if reply.live:
            self.live[key] = reply.text
        else:
            self.live.pop(key, None)
        self._changed(conversation.room, f"out/{key}")
