"""What was posted under which key, so that no key is posted twice, even across restarts of the gateway.

Twilio itself gives no such guarantee. Its list of what went out is asked before a post

- when an earlier try of this process had an unknown outcome;
- when an earlier process wrote the message, and this one has not looked into that conversation yet: that one may have
  posted it and died before it could record that.

In both cases not before it is certain that whatever was posted is in the list.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from email.utils import parsedate_to_datetime

from gateway.chat import Conversation
from gateway.errors import DeliveryRefused, OutcomeUnknown, TransportDown
from transports.whatsapp.api import Api
from transports.whatsapp.config import NAME

_POSTS, _PLACES = 4096, 4096
#: Seconds that Twilio's clock and ours may differ.
_SKEW_S = 120.0
#: How a message stands that will not arrive.
_NOT_SENT = frozenset({"failed", "undelivered", "canceled"})
_KEY = re.compile(r"huskies-(\d+)-(\d+)")
#: A message's words, or what is said with a file.
Matches = Callable[[str], bool]
Claimed = Callable[[Conversation, float], Awaitable[Collection[str]]]


class Posted:
    """Lives as long as the process. `calm_s`: seconds after which what was posted is in Twilio's list for certain."""

    def __init__(self, calm_s: float) -> None:
        self._calm_s = calm_s
        self._began = time.monotonic()
        #: The newest message of earlier processes; None while that is not known.
        self.newest_before: int | None = 0
        self._sids: OrderedDict[str, str] = OrderedDict()
        self._looked: OrderedDict[Conversation, None] = OrderedDict()
        #: Keys with an unknown outcome, and since when.
        self._doubts: dict[str, float] = {}
        #: Which messages of a conversation are known to be others.
        self.claimed: Claimed | None = None

    def keep(self, key: str, sid: str) -> None:
        """Note that `key` was posted."""
        self._doubts.pop(key, None)
        self._sids[key] = sid
        while len(self._sids) > _POSTS:
            self._sids.popitem(last=False)

    def forget(self, key: str) -> None:
        """What was posted did not arrive, and will be posted again."""
        self._sids.pop(key, None)

    def doubt(self, key: str) -> None:
        """Note that it is not known whether `key` was posted."""
        self._doubts[key] = time.monotonic()

    def heard_of(self, key: str, sid: str) -> None:
        """Twilio speaks of a message with this key: if that was in doubt, no more."""
        if key in self._doubts:
            self.keep(key, sid)

    async def find(self, api: Api, conversation: Conversation, key: str, matches: Matches, *, file: bool) -> str | None:
        """The SID of what was already posted with this key.

        Raises:
            TransportDown: Twilio cannot be asked now, or it is too early to.
            OutcomeUnknown: it cannot be asked.
        """
        if (sid := self._sids.get(key)) is not None:
            return sid
        found = _KEY.fullmatch(key)
        number, created = (int(found[1]), float(found[2])) if found is not None else (0, time.time())
        if self.newest_before is None:
            raise TransportDown("the WhatsApp transport is just starting")
        is_old = found is not None and number <= self.newest_before and conversation not in self._looked
        if key not in self._doubts and not is_old:
            return None
        early = self._calm_s - (time.monotonic() - self._doubts.get(key, self._began))
        if early > 0:
            raise TransportDown("it is not known yet whether Twilio has it", retry_after_s=early)
        sid = await self._search(api, conversation, created - _SKEW_S, matches, file=file)
        self._looked[conversation] = None
        while len(self._looked) > _PLACES:
            self._looked.popitem(last=False)
        self._doubts.pop(key, None)
        if sid is not None:
            self.keep(key, sid)
        return sid

    async def _search(
        self, api: Api, conversation: Conversation, since: float, matches: Matches, *, file: bool
    ) -> str | None:
        """The oldest message since then that reads so, and that no other message of ours is."""
        others = set(self._sids.values())
        if self.claimed is not None:
            others |= set(await self.claimed(conversation, since))
        oldest = None
        try:
            async for told in api.sent_to(f"{NAME}:{conversation.room}"):
                if _when(told.get("date_created")) < since:
                    break
                if told.get("status") in _NOT_SENT:
                    continue
                sid, has_file = told.get("sid"), str(told.get("num_media") or "0") != "0"
                if isinstance(sid, str) and sid not in others and has_file == file:
                    oldest = sid if matches(str(told.get("body") or "")) else oldest
        except DeliveryRefused as error:
            raise OutcomeUnknown(f"Twilio may have it, and does not tell: {error}") from error
        return oldest


def _when(date: object) -> float:
    """A time of Twilio's, in seconds since 1970. One that cannot be read is now: it is looked at."""
    try:
        return parsedate_to_datetime(str(date)).timestamp()
    except ValueError:
        return time.time()
