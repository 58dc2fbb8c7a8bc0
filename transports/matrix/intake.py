"""From one sync response to what the gateway commits.

Everything that the network may refuse is fetched first; a failure there changes nothing and the step is repeated.
Only then do members, lanes and messages move.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nio import MegolmEvent

from gateway.chat import Conversation, Incoming, Move, Withdrawal
from gateway.chat.text import pointed_at
from gateway.errors import DeliveryRefused
from transports.matrix import events, history
from transports.matrix.client import Client
from transports.matrix.config import NAME, MatrixConfig
from transports.matrix.held import Held, Sealed
from transports.matrix.rooms import Members

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Batch:
    """What to commit together."""

    incoming: list[Incoming]
    cursor: str


@dataclass(frozen=True, slots=True)
class _Heard:
    """One event of a room's timeline.

    Attributes:
        meant: for the bot; False for an event from before its time in the room.
        clear: None while it cannot be decrypted.
    """

    room_id: str
    event: Any
    meant: bool
    clear: Mapping[str, Any] | None


class Intake:
    """Reads sync responses, in order."""

    def __init__(self, client: Client, config: MatrixConfig) -> None:
        self._client = client
        self._config = config
        self._members = Members()
        self._held = Held()
        #: Event ids that messages replied to, and whether they are ours.
        self._ours: OrderedDict[str, bool] = OrderedDict()
        #: What those events say.
        self._said: OrderedDict[str, str] = OrderedDict()
        #: Events without a key that came with the last batch.
        self.fresh: list[MegolmEvent] = []
        #: Events of that batch that ask to verify the bot, each with its room.
        self.verifications: list[tuple[str, Mapping[str, Any]]] = []

    async def take(self, response: Any, since: str | None) -> Batch:
        """What a sync response brings, together with what no longer has to be held.

        Args:
            response: the SDK's, already digested by it.
            since: the token that the sync started from; None for the first ever, which brings no messages.

        Raises:
            TransportDown, TransportRefused: nothing has changed; try again.
        """
        joined = response.rooms.join.items()
        heard: list[_Heard] = []
        for room_id, info in joined:
            found, start = info.timeline.events, len(info.timeline.events)
            if since is not None:
                found, start = await history.complete(self._client, room_id, info.timeline, since)
            heard += [self._hear(room_id, e, index >= start) for index, e in enumerate(found) if _whole(e)]
        moves = [move for room_id, info in joined if (move := await self._move_to(room_id, info)) is not None]
        opened = {sealed.event.event_id: self._read(sealed) for sealed in self._held.sealed()}
        await self._learn([(h.room_id, h.clear) for h in heard if h.meant] + list(opened.values()))

        for room_id in response.rooms.leave:
            self._members.forget(room_id)
            self._client.rooms.pop(room_id, None)
        for room_id, info in joined:
            for event in info.state:
                self._members.apply(room_id, event.source)
        batch = self._pass_on(heard, opened, since, response.next_batch)
        return Batch([*moves, *batch.incoming], batch.cursor)

    def poll_s(self) -> float:
        """Seconds until something held has to move on, at most the configured wait."""
        deadline = self._held.next_deadline()
        wait_s = self._config.poll_s if deadline is None else deadline - time.monotonic()
        return min(max(wait_s, 0.1), self._config.poll_s)

    async def _move_to(self, room_id: str, info: Any) -> Move | None:
        """What it means that a room replaces another one; both must say so."""
        sources = (event.source for event in (*info.state, *info.timeline.events))
        old = next(filter(None, map(events.predecessor, sources)), "")
        if not old:
            return None
        path = f"/_matrix/client/v3/rooms/{quote(old)}/state/m.room.tombstone/"
        try:
            answer = await self._client.api("GET", path, {})
        except DeliveryRefused:  # it has none, or we were never there
            return None
        if answer.get("replacement_room") != room_id:
            return None
        return Move(Conversation(NAME, old), Conversation(NAME, room_id))

    def _hear(self, room_id: str, event: Any, meant: bool) -> _Heard:
        clear = event.source
        if isinstance(event, MegolmEvent) and meant:
            clear = self._client.read(event, room_id)
        return _Heard(room_id, event, meant, clear)

    def _read(self, sealed: Sealed) -> tuple[str, Mapping[str, Any] | None]:
        return sealed.place.room_id, self._client.read(sealed.event, sealed.place.room_id)

    async def _learn(self, found: list[tuple[str, Mapping[str, Any] | None]]) -> None:
        """Find out which of the events that are replied to are ours."""
        for room_id, event in found:
            if event is None:
                continue
            if event.get("sender") == self._client.user_id:
                self._remember(str(event.get("event_id")), True)
            target = events.replied_to(event) or events.tapped(event)
            if target and (target not in self._ours or target not in self._said):
                known = self._ours.get(target, False)
                self._remember(target, await self._is_ours(room_id, target) or known)

    async def _is_ours(self, room_id: str, event_id: str) -> bool:
        try:
            answer = await self._client.call(self._client.room_get_event(room_id, event_id))
        except DeliveryRefused:
            return False
        found = answer.event.source
        clear = self._client.read(answer.event, room_id) if isinstance(answer.event, MegolmEvent) else found
        sender = str(found.get("sender"))
        author = "You" if sender == self._client.user_id else self._members.name(room_id, sender) or sender
        self._said[event_id] = pointed_at(author, events.words(clear)) if clear is not None else ""
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return bool(sender == self._client.user_id)

    def _remember(self, event_id: str, ours: bool) -> None:
        self._ours[event_id] = ours
        while len(self._ours) > _REMEMBERED:
            self._ours.popitem(last=False)

    def _pass_on(
        self,
        heard: list[_Heard],
        opened: dict[str, tuple[str, Mapping[str, Any] | None]],
        since: str | None,
        newest: str,
    ) -> Batch:
        now = time.monotonic()

        def open_(sealed: Sealed) -> list[Incoming] | None:
            clear = opened[sealed.event.event_id][1]
            if clear is None:
                return [events.undecryptable(sealed.event.source, sealed.place)] if now >= sealed.until else None
            return self._nouns(clear, sealed.place)

        incoming = list(self._held.release(open_))
        self.fresh, self.verifications = [], []
        for item in heard:
            incoming += self._pass(item, now, since or "")
        return Batch(incoming, self._held.cursor(newest))

    def _pass(self, heard: _Heard, now: float, since: str) -> list[Incoming]:
        """The part of one event that can be handed on at once; the rest is held."""
        room_id, source = heard.room_id, heard.event.source
        self._members.apply(room_id, source)
        if not heard.meant:
            return []
        sender = str(source.get("sender"))
        place = self._members.place(room_id, sender)
        if heard.clear is None:
            if sender == self._client.user_id:
                return []
            if self._client.olm is None:
                return [events.undecryptable(source, place)]
            self._held.add(room_id, sender, Sealed(heard.event, place, now + self._config.hold_s), since)
            self.fresh.append(heard.event)
            return []
        nouns = self._nouns(heard.clear, place)
        for noun in nouns:
            if isinstance(noun, Withdrawal):
                self._held.drop(noun.external_id)
        if nouns and self._held.blocks(room_id, sender):
            for noun in nouns:
                self._held.add(room_id, sender, noun, since)
            return []
        return nouns

    def _nouns(self, clear: Mapping[str, Any], place: events.Place) -> list[Incoming]:
        me = self._client.user_id
        if events.asks_verification(clear, me):
            self.verifications.append((place.room_id, clear))
        shown = self._members.name(place.room_id, me)
        names = tuple(name for name in (self._config.bot_name, shown) if name)
        noun = events.incoming(
            clear,
            place,
            events.Me(me, names),
            lambda event_id: self._ours.get(event_id, False),
            lambda event_id: self._said.get(event_id, ""),
        )
        return [] if noun is None else [noun]


def _whole(event: Any) -> bool:
    """Whether an event has what every event has; the SDK passes on those that do not."""
    return all(isinstance(event.source.get(field), str) for field in ("event_id", "sender", "type"))
