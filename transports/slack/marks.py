"""Fates as reactions: two at most on a message, never taken back, never in the way of an answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict

from gateway.chat import Fate, MessageRef
from gateway.errors import TransportDown, TransportError
from transports.slack.outgoing import Outgoing, place

log = logging.getLogger(__name__)

_EMOJI = {
    Fate.QUEUED: "eyes",
    Fate.RUNNING: "eyes",
    Fate.ANSWERED: "white_check_mark",
    Fate.FAILED: "x",
    Fate.INTERRUPTED: "black_square_for_stop",
    Fate.DISCARDED: "black_square_for_stop",
    Fate.REFUSED: "no_entry_sign",
}
_REMEMBERED = 4096
#: Seconds after which nobody wants to see a mark any more.
_PATIENCE_S = 600.0


class Marks:
    """Marks that wait to be set, and what was set last."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[MessageRef, Fate]] = OrderedDict()
        self._set: OrderedDict[str, Fate] = OrderedDict()
        self._changed = asyncio.Event()

    def add(self, ref: MessageRef, fate: Fate) -> None:
        """Show `fate` soon; a newer one takes the place of one that waits, the first final one stays."""
        if fate not in _EMOJI or not place(ref.external_id)[1]:
            return
        waiting = self._waiting.get(ref.external_id)
        latest = waiting[1] if waiting else self._set.get(ref.external_id)
        if latest is not None and (latest.final or _EMOJI[latest] == _EMOJI[fate]):
            return
        self._waiting[ref.external_id] = (ref, fate)
        while len(self._waiting) > _REMEMBERED:
            self._waiting.popitem(last=False)
        self._changed.set()

    async def run(self, outgoing: Outgoing) -> None:
        """Set marks until cancelled."""
        while True:
            self._changed.clear()
            if not self._waiting:
                await self._changed.wait()
                continue
            ref, fate = self._waiting.popitem(last=False)[1]
            self._set[ref.external_id] = fate
            while len(self._set) > _REMEMBERED:
                self._set.popitem(last=False)
            await self._show(outgoing, ref, fate)

    async def _show(self, outgoing: Outgoing, ref: MessageRef, fate: Fate) -> None:
        late = time.monotonic() + _PATIENCE_S
        while time.monotonic() < late and (fate.final or ref.external_id not in self._waiting):
            try:
                await outgoing.react(ref, _EMOJI[fate])
                return
            except TransportDown as error:
                await asyncio.sleep(error.retry_after_s or 1.0)
            except TransportError as error:
                log.debug("slack: no mark on %s: %s", ref.external_id, error)
                return
