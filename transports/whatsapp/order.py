"""Which message goes first: WhatsApp keeps no order among messages that are sent within moments.

The next part of an answer waits until the one before has arrived, or failed, as Twilio's statuses tell; never longer
than a limit. Where no statuses come at all (Twilio cannot reach the gateway) nothing waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.chat import Conversation

log = logging.getLogger(__name__)

#: Statuses after which the next message cannot overtake.
_SETTLED = frozenset({"delivered", "read", "failed", "undelivered"})
#: Waits in vain, without a single status, until nobody waits any more.
_IN_VAIN = 2
_REMEMBERED = 4096


@dataclass(slots=True)
class _Sent:
    sid: str
    at: float = field(default_factory=time.monotonic)
    heard: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Order:
    """Lives as long as the process. `limit_s`: the longest that a message waits for the one before."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last: OrderedDict[Conversation, _Sent] = OrderedDict()
        #: Newest statuses by SID: one may come before the answer to its post.
        self._statuses: OrderedDict[str, str] = OrderedDict()
        self._in_vain = 0

    async def wait(self, conversation: Conversation) -> None:
        """Return once a message may be posted there."""
        last = self._last.get(conversation)
        if last is None or self._in_vain >= _IN_VAIN:
            return
        left_s = last.at + self._limit_s - time.monotonic()
        if left_s <= 0:
            return
        try:
            async with asyncio.timeout(left_s):
                await last.settled.wait()
        except TimeoutError:
            if last.heard:
                return
            self._in_vain += 1
            if self._in_vain == _IN_VAIN:
                log.warning("whatsapp: Twilio posts no statuses, so the parts of an answer may change places")

    def posted(self, conversation: Conversation, sid: str) -> None:
        """Note what was posted last there."""
        self._last[conversation] = sent = _Sent(sid)
        self._last.move_to_end(conversation)
        if (status := self._statuses.get(sid)) is not None:
            self._apply(sent, status)
        while len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)

    def heard(self, conversation: Conversation, sid: str, status: str) -> None:
        """Twilio tells how a message stands."""
        self._in_vain = 0
        self._statuses[sid] = status
        while len(self._statuses) > _REMEMBERED:
            self._statuses.popitem(last=False)
        if (last := self._last.get(conversation)) is not None and last.sid == sid:
            self._apply(last, status)

    @staticmethod
    def _apply(sent: _Sent, status: str) -> None:
        sent.heard = True
        if status in _SETTLED:
            sent.settled.set()
