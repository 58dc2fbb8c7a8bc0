"""Telling the world where a message stands: a mark on its platform, and whoever waits for it to be settled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from gateway.chat import Fate
from gateway.delivery.outbox import Outbox
from gateway.store.messages import StoredMessage


class Fates:
    """Hears of each change after it was committed."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiters: dict[int, asyncio.Future[Fate]] = {}
        self._open: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.counts: Counter[Fate] = Counter()

    def changed(self, messages: Sequence[StoredMessage], fate: Fate) -> None:
        """These messages have this fate now."""
        self.counts[fate] += len(messages)
        self._outbox.mark([message.ref for message in messages if message.reply_to and not message.presses], fate)
        for message in messages:
            if not fate.final:
                self._open.add(message.id)
                self._idle.clear()
                continue
            self._open.discard(message.id)
            waiter = self._waiters.pop(message.id, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(fate)
        if not self._open:
            self._idle.set()

    def settled(self, message_id: int) -> asyncio.Future[Fate]:
        """A future of the message's final fate. Ask before the message can be settled."""
        return self._waiters.setdefault(message_id, asyncio.get_running_loop().create_future())

    async def all_settled(self) -> None:
        """Wait until no message is under way."""
        await self._idle.wait()
