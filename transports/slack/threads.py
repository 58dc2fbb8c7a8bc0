"""What a thread says before the bot is called into it. Looked up once for each thread, and bounded."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from gateway.chat.text import MAX_QUOTED, pointed_at
from gateway.errors import TransportError
from transports.slack import told
from transports.slack.api import Api
from transports.slack.config import NAME
from transports.slack.events import NOTHING, Before, Call, files
from transports.slack.me import Me
from transports.slack.people import People
from transports.slack.told import string

log = logging.getLogger(__name__)

_T = TypeVar("_T")
#: A channel and a timestamp.
_At = tuple[str, str]

#: Seconds that a message may be held up by it; Slack wants its answer within three.
_WITHIN_S = 1.2
#: Messages of one request, and requests.
_PAGE, _PAGES = 200, 3
_REMEMBERED = 4096
#: Messages, and files, that one call brings along; the files are the newest.
_MOST, _MOST_FILES = 50, 5
#: What all of it may have, in characters; the first message keeps its place.
_MAX_ALL = 3 * MAX_QUOTED
_UNREAD = "> (Slack did not give out in time what this thread says above.)"
_LEFT_OUT = "> …"


class Threads:
    """Knows which threads the bot takes part in, and reads the others when it is called."""

    def __init__(self, api: Api, me: Me, people: People, may_speak: Callable[[str], bool]) -> None:
        self._api = api
        self._me = me
        self._people = people
        self._may_speak = may_speak
        self._joined: OrderedDict[_At, None] = OrderedDict()
        self._found: OrderedDict[_At, Before] = OrderedDict()

    def before(self, channel: str, ts: str) -> Before:
        """What `look_up` found for a message."""
        return self._found.get((channel, ts), NOTHING)

    def look_up(self, call: Call) -> Awaitable[None] | None:
        """Find out what a call is about; None if that is known, or being found out."""
        at = call.channel, call.ts
        if at in self._found or (call.channel, call.thread) in self._joined:
            return None
        self._keep(self._found, at, NOTHING)  # the message and the mention of it come one after the other
        return self._look_up(call)

    async def _look_up(self, call: Call) -> None:
        """Never fails: what cannot be had in time is named as missing."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                earlier = await self._read(call)
        except (TimeoutError, TransportError) as error:
            log.warning("slack: a thread could not be read: %s", error or "not in time")
            self._keep(self._found, (call.channel, call.ts), Before(_UNREAD))
            return
        self._keep(self._joined, (call.channel, call.thread), None)
        if self._takes_part(earlier, call):
            return
        await self._people.learn(self._people.unknown(_authors(earlier)))
        found = [file for one in earlier for file in files(one)[0]]
        self._keep(self._found, (call.channel, call.ts), Before(self._quoted(earlier), tuple(found[-_MOST_FILES:])))

    async def _read(self, call: Call) -> list[Mapping[str, Any]]:
        """The messages before a call, the oldest first; of a very long thread the first some hundred are looked at."""
        options: dict[str, Any] = {"channel": call.channel, "ts": call.thread, "latest": call.ts, "limit": _PAGE}
        found: list[Mapping[str, Any]] = []
        for _ in range(_PAGES):
            data, _ = await self._api.call(self._api.client.conversations_replies(**options))
            found += [one for one in told.listed(data.get("messages")) if string(one.get("ts")) != call.ts]
            options["cursor"] = string(told.mapping(data.get("response_metadata")).get("next_cursor"))
            if not options["cursor"]:
                break
        return found

    def _takes_part(self, earlier: Sequence[Mapping[str, Any]], call: Call) -> bool:
        """Whether the bot was called into the thread before: then its session has what was said."""
        if any(one.get("user") == self._me.user_id for one in earlier[1:]):
            return True
        heard = earlier[1:] if call.direct else [one for one in earlier if self._calls(one)]
        return any(self._may_speak(f"{NAME}:{string(one.get('user'))}") for one in heard)

    def _calls(self, message: Mapping[str, Any]) -> bool:
        return self._me.unaddressed(string(message.get("text")))[1]

    def _quoted(self, earlier: Sequence[Mapping[str, Any]]) -> str:
        said = [pointed_at(self._author(one), told.words(one, self._people.name)) for one in earlier]
        said = [one for one in said if one]
        first, rest = said[:1], said[1:]
        left = _MAX_ALL - sum(map(len, first))
        kept: list[str] = []
        for one in reversed(rest[-_MOST:]):
            left -= len(one)
            if left < 0:
                break
            kept.insert(0, one)
        return "\n\n".join([*first, *([_LEFT_OUT] if len(kept) < len(rest) else []), *kept])

    def _author(self, message: Mapping[str, Any]) -> str:
        return "You" if message.get("user") == self._me.user_id else told.author(message, self._people.name)

    @staticmethod
    def _keep(known: OrderedDict[_At, _T], at: _At, value: _T) -> None:
        known[at] = value
        while len(known) > _REMEMBERED:
            known.popitem(last=False)


def _authors(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(user for one in messages if (user := string(one.get("user")))))
