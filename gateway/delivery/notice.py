"""One message about a long piece of work, which reads what is going on now, where the platform can edit."""

from __future__ import annotations

import time
from typing import Self

from gateway.chat.text import code, seconds, shorten
from gateway.delivery.outbox import Outbox
from gateway.store import Store
from gateway.store.conversations import Destination
from gateway.store.outbox import Kind

#: Characters of the detail that are shown.
_DETAIL = 300


class Notice:
    """Use as an async context manager: at its end the message says how long the work took, and is no longer live.

    Where messages cannot be edited, each `say` is a message, and the rest nothing.
    """

    def __init__(self, store: Store, outbox: Outbox, to: Destination) -> None:
        self._store = store
        self._outbox = outbox
        self._to = to
        self._edits = outbox.can_edit(to.conversation)
        self._row: int | None = None
        self._headline = ""
        self._detail = ""
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if (row := self._row) is None or (kind is not None and not issubclass(kind, Exception)):
            return  # nothing was shown; or the gateway ends, and the next one continues the work
        self._row = None
        outcome = "failed" if kind is not None else "done"
        took = seconds(max(1.0, time.monotonic() - self._began))
        text = f"{self._headline.removesuffix(' …')}: {outcome} after {took}."
        await self._store.write(lambda c: self._outbox.add(c, self._to, text, replaces=row))
        self._outbox.wake(self._to.conversation)

    async def say(self, headline: str) -> None:
        """What is being done; commits the message, or has it read this from now on."""
        self._headline, self._detail = headline, ""
        if self._row is not None:
            self._refresh()
            return
        kind: Kind = "progress" if self._edits else "reply"
        ids = await self._store.write(lambda c: self._outbox.add(c, self._to, headline, kind=kind))
        self._outbox.wake(self._to.conversation)
        if self._edits:
            self._row = ids[0]

    def show(self, detail: str) -> None:
        """How it goes at the moment; empty when there is no more to say."""
        detail = "\n".join(f"› {code(shorten(line, _DETAIL))}" for line in detail.splitlines() if line.strip())
        if detail != self._detail and self._row is not None:
            self._detail = detail
            self._refresh()

    def _refresh(self) -> None:
        assert self._row is not None
        text = f"{self._headline}\n{self._detail}" if self._detail else self._headline
        self._outbox.show(self._to.conversation, self._row, text)
