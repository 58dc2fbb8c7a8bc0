"""What a payload says, asking Slack for what that needs. Strangers cost us no request."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from gateway.chat import Incoming
from transports.slack import events
from transports.slack.config import NAME
from transports.slack.intake import Payload
from transports.slack.me import Me
from transports.slack.people import People
from transports.slack.rooms import Rooms
from transports.slack.threads import Threads
from transports.slack.told import mapping, string

log = logging.getLogger(__name__)

_WORKSPACES = 100


class PayloadReader:
    """Implements `intake.Reader` for one workspace."""

    def __init__(
        self, me: Me, people: People, rooms: Rooms, threads: Threads, may_speak: Callable[[str], bool]
    ) -> None:
        self._me = me
        self._people = people
        self._rooms = rooms
        self._threads = threads
        self._may_speak = may_speak
        self._strange: set[str] = set()

    def prepare(self, payload: Payload) -> Awaitable[str] | None:
        """Look up names, what a thread said so far, and whether the bot can answer there, unless these are known."""
        channel = events.asked_from(payload)
        doer, *others = events.people(payload) or [""]
        if not doer or not self._may_speak(f"{NAME}:{doer}") or not events.is_ours(payload, self._me):
            return None
        unknown = self._people.unknown([one for one in (doer, *others) if one != self._me.user_id])
        call = events.call(payload, self._me)
        thread = self._threads.look_up(call) if call is not None else None
        return self._find_out(unknown, channel, thread) if unknown or channel or thread else None

    def read(self, payload: Payload) -> Sequence[Incoming]:
        """What people did; nothing for a payload of another workspace."""
        if events.is_ours(payload, self._me):
            whose = events.by_tool(mapping(payload.get("event")), self._me)
            if whose and not self._may_speak(f"{NAME}:{whose}"):  # most bots concern nobody
                return ()
            return events.read(payload, self._me, self._name, self._threads.before)
        team = string(payload.get("team_id")) or "unknown"
        if team not in self._strange and len(self._strange) < _WORKSPACES:
            self._strange.add(team)
            log.error(
                "slack: an event of another workspace (%s) is ignored; one gateway serves one workspace, "
                "so install the app only there",
                team,
            )
        return ()

    def _name(self, user_id: str) -> str:
        return self._me.name if user_id == self._me.user_id else self._people.name(user_id)

    async def _find_out(self, unknown: Sequence[str], channel: str, thread: Awaitable[None] | None) -> str:
        if channel and (refusal := await self._rooms.refusal(channel)):
            return refusal
        if unknown:
            await self._people.learn(unknown)
        if thread is not None:
            await thread
        return ""
