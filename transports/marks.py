"""Reactions: fates, at most two on a message, and answers to tap; never taken back, never in the way of an answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.chat import Fate, MessageRef
from gateway.errors import TransportDown, TransportError

log = logging.getLogger(__name__)

_REMEMBERED = 4096
#: Seconds after which nobody wants to see a mark any more.
_PATIENCE_S = 600.0


class Reacting(Protocol):
    """Whoever can put a reaction on a message."""

    async def react(self, ref: MessageRef, emoji: str) -> None:
        """Do it. Raises as `Transport.send` does."""


class Marks:
    """Marks that wait to be set, and those that were. `emojis`: what each fate looks like; a fate without one is not
    shown."""

    def __init__(self, transport: str, emojis: Mapping[Fate, str]) -> None:
        self._transport = transport
        self._emojis = emojis
        self._waiting: OrderedDict[str, tuple[MessageRef, Fate]] = OrderedDict()
        self._set: OrderedDict[str, Fate] = OrderedDict()
        self._offers: deque[tuple[MessageRef, str]] = deque(maxlen=_REMEMBERED)
        self._changed = asyncio.Event()

    def add(self, ref: MessageRef, fate: Fate) -> None:
        """Show `fate` soon. A newer fate replaces one that is waiting; the first final one stays."""
        emojis, waiting = self._emojis, self._waiting.get(ref.external_id)
        latest = waiting[1] if waiting else self._set.get(ref.external_id)
        if fate not in emojis or (latest and (latest.final or emojis[latest] == emojis[fate])):
            return
        self._waiting[ref.external_id] = (ref, fate)
        while len(self._waiting) > _REMEMBERED:
            self._waiting.popitem(last=False)
        self._changed.set()

    def offer(self, ref: MessageRef, emojis: Sequence[str]) -> None:
        """Put emojis below a message of ours, to be tapped."""
        self._offers.extend((ref, emoji) for emoji in emojis)
        self._changed.set()

    async def run(self, outgoing: Reacting) -> None:
        """Set marks until cancelled."""
        while True:
            self._changed.clear()
            if self._offers:
                ref, emoji = self._offers.popleft()
                await self._react(outgoing, ref, emoji, lambda: False)
                continue
            if not self._waiting:
                await self._changed.wait()
                continue
            ref, fate = self._waiting.popitem(last=False)[1]
            self._set[ref.external_id] = fate
            while len(self._set) > _REMEMBERED:
                self._set.popitem(last=False)
            await self._show(outgoing, ref, fate)

    async def _show(self, outgoing: Reacting, ref: MessageRef, fate: Fate) -> None:
        def outdated() -> bool:
            return self._waiting.get(ref.external_id) is not None and not fate.final

        await self._react(outgoing, ref, self._emojis[fate], outdated)

    async def _react(self, outgoing: Reacting, ref: MessageRef, emoji: str, outdated: Callable[[], bool]) -> None:
        late = time.monotonic() + _PATIENCE_S
        while time.monotonic() < late and not outdated():
            try:
                await outgoing.react(ref, emoji)
                return
            except TransportDown as error:
                await asyncio.sleep(error.retry_after_s or 1.0)
            except TransportError as error:
                log.debug("%s: no mark on %s: %s", self._transport, ref.external_id, error)
                return
