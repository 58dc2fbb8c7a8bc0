"""Reactions: fates, two at most on a message, and answers to tap; never taken back, never in the way of an answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from gateway.chat import Fate, MessageRef
from gateway.errors import TransportDown, TransportError
from transports.matrix.outgoing import Outgoing

log = logging.getLogger(__name__)

_EMOJI = {
    Fate.QUEUED: "👀",
    Fate.RUNNING: "👀",
    Fate.ANSWERED: "✅",
    Fate.FAILED: "❌",
    Fate.INTERRUPTED: "⏹️",
    Fate.DISCARDED: "⏹️",
    Fate.REFUSED: "🚫",
}
_REMEMBERED = 4096
#: Seconds after which nobody wants to see a mark any more.
_PATIENCE_S = 600.0


class Marks:
    """Marks that wait to be set, and those that were."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[MessageRef, Fate]] = OrderedDict()
        self._set: OrderedDict[str, Fate] = OrderedDict()
        self._offers: deque[tuple[MessageRef, str]] = deque(maxlen=_REMEMBERED)
        self._changed = asyncio.Event()

    def add(self, ref: MessageRef, fate: Fate) -> None:
        """Show `fate` soon. A newer fate takes the place of one that waits; the first final one stays."""
        shown = self._set.get(ref.external_id)
        waiting = self._waiting.get(ref.external_id)
        latest = waiting[1] if waiting else shown
        if fate not in _EMOJI or (latest and (latest.final or _EMOJI[latest] == _EMOJI[fate])):
            return
        self._waiting[ref.external_id] = (ref, fate)
        while len(self._waiting) > _REMEMBERED:
            self._waiting.popitem(last=False)
        self._changed.set()

    def offer(self, ref: MessageRef, emojis: Sequence[str]) -> None:
        """Put emojis below a message of ours, to be tapped."""
        self._offers.extend((ref, emoji) for emoji in emojis)
        self._changed.set()

    async def run(self, outgoing: Outgoing) -> None:
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

    async def _show(self, outgoing: Outgoing, ref: MessageRef, fate: Fate) -> None:
        def outdated() -> bool:
            return self._waiting.get(ref.external_id) is not None and not fate.final

        await self._react(outgoing, ref, _EMOJI[fate], outdated)

    async def _react(self, outgoing: Outgoing, ref: MessageRef, emoji: str, outdated: Callable[[], bool]) -> None:
        late = time.monotonic() + _PATIENCE_S
        while time.monotonic() < late and not outdated():
            try:
                await outgoing.react(ref, emoji)
                return
            except TransportDown as error:
                await asyncio.sleep(error.retry_after_s or 1.0)
            except TransportError as error:
                log.debug("matrix: no mark on %s: %s", ref.external_id, error)
                return
