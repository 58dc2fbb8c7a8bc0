"""One message about a long piece of work, which reads what is going on now, where the platform can edit."""

from __future__ import annotations

from gateway.chat import Conversation
from gateway.outbox import Outbox
from gateway.store import Store
from gateway.store.outbox import Kind
from gateway.text import shorten

#: Characters of the detail that are shown.
_DETAIL = 300


class Notice:
    """Where messages cannot be edited, each `say` is a message and each `show` nothing."""

    def __init__(self, store: Store, outbox: Outbox, conversation: Conversation, conversation_id: int) -> None:
        self._store = store
        self._outbox = outbox
        self._conversation = conversation
        self._conversation_id = conversation_id
        self._edits = outbox.can_edit(conversation)
        self._row: int | None = None
        self._headline = ""
        self._detail = ""

    async def say(self, headline: str) -> None:
        """What is being done; commits the message, or has it read this from now on."""
        self._headline, self._detail = headline, ""
        if self._row is not None:
            self._refresh()
            return
        kind: Kind = "progress" if self._edits else "reply"
        ids = await self._store.write(
            lambda c: self._outbox.add(c, self._conversation, self._conversation_id, headline, kind=kind)
        )
        self._outbox.wake(self._conversation)
        if self._edits:
            self._row = ids[0]

    def show(self, detail: str) -> None:
        """How it goes at the moment; empty when there is no more to say."""
        detail = "\n".join(f"› {shorten(line, _DETAIL)}" for line in detail.splitlines() if line.strip())
        if detail != self._detail and self._row is not None:
            self._detail = detail
            self._refresh()

    def _refresh(self) -> None:
        assert self._row is not None
        text = f"{self._headline}\n{self._detail}" if self._detail else self._headline
        self._outbox.show(self._conversation, self._row, text)
