"""Sessions that have something to do: each in its window first, then in line for a place.

First come, first served: what counts is when a session's oldest waiting message came. An idle session is not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from gateway.chat import Conversation
from gateway.store.conversations import Destination
from gateway.store.messages import StoredMessage
from gateway.store.turns import SessionKey
from gateway.turns.progress import Live
from gateway.turns.running import RunSettings

#: Seconds after which somebody who stopped typing has said what they wanted to say.
AFTER_TYPING_S = 0.3
#: Seconds for which it counts that somebody stopped typing: a message comes just before that, or just after.
_RECENT_S = 5.0


@dataclass(slots=True)
class Lane:
    """A session with something in its window or in line. `opened_at` is on the event loop's clock."""

    key: SessionKey
    to: Destination
    reply_to: str
    opened_at: float
    timer: asyncio.TimerHandle | None = None
    live: Live | None = None
    told: str = ""  # why it waits, where that is a message of its own
    ahead: str = ""  # the session on the wire whose agent was started ahead of the turn that begins now
    watch: asyncio.TimerHandle | None = None  # looks why its project is not up
    away: str = ""  # what people were told of that
    settings: RunSettings | None = None  # what the turn that begins now is like
    wrote_at: float = 0.0  # when its newest message came
    authors: set[str] = field(default_factory=set)
    quiet: bool = True  # nothing waits in it that people must see

    @property
    def room(self) -> tuple[str, str]:
        """Where its people type."""
        return self.to.conversation.transport, self.to.conversation.room

    def end(self) -> None:
        """No timer is at work any more."""
        self.close_window()
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None

    def close_window(self) -> None:
        """Its window does not end any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Line:
    """See the module. `window_s` begins anew with each message, up to `window_max_s` from the first one.

    Where all who wrote in a window are known to have stopped typing, it is over `AFTER_TYPING_S` after that.
    `closed` is called with each session whose window is over.
    """

    def __init__(self, window_s: float, window_max_s: float, closed: Callable[[Lane], None]) -> None:
        self._window_s = window_s
        self._window_max_s = window_max_s
        self._closed = closed
        self._lanes: dict[SessionKey, Lane] = {}
        self._standing: dict[SessionKey, Lane] = {}  # in order
        #: Who is typing in which room, and when those stopped who did so just now.
        self._typing: dict[tuple[str, str], frozenset[str]] = {}
        self._stopped: dict[tuple[tuple[str, str], str], float] = {}

    def __contains__(self, key: SessionKey) -> bool:
        """Whether a session stands in line, its window over."""
        return key in self._standing

    def __len__(self) -> int:
        return len(self._standing)

    def __iter__(self) -> Iterator[Lane]:
        """Those in line, first come first."""
        return iter(list(self._standing.values()))

    @property
    def sessions(self) -> Iterator[SessionKey]:
        """Every session that has something to do, in its window or in line."""
        return iter(self._lanes)

    def get(self, key: SessionKey) -> Lane | None:
        """A session's lane; None while it has nothing to do."""
        return self._lanes.get(key)

    def place(self, key: SessionKey) -> int | None:
        """How many sessions are ahead of this one; None when it does not stand in line."""
        return list(self._standing).index(key) if key in self._standing else None

    def add(self, key: SessionKey, message: StoredMessage, opened_at: float | None = None) -> Lane:
        """The lane of a session in which this message waits, a new one if need be."""
        lane = self._lanes.get(key)
        if lane is None:
            if opened_at is None:
                opened_at = asyncio.get_running_loop().time()
            lane = self._lanes[key] = Lane(key, message.destination, message.reply_to, opened_at)
        lane.quiet &= message.quiet
        return lane

    def open_window(self, lane: Lane, sender: str) -> None:
        """A message came into a session that is idle: its window begins, or begins anew."""
        lane.wrote_at = asyncio.get_running_loop().time()
        lane.authors.add(sender)
        self._set_timer(lane)

    def typing(self, conversation: Conversation, senders: Collection[str]) -> None:
        """Those of a room that are typing now."""
        room, now = (conversation.transport, conversation.room), asyncio.get_running_loop().time()
        before = self._typing.pop(room, frozenset())
        if senders:
            self._typing[room] = frozenset(senders)
        self._stopped = {who: at for who, at in self._stopped.items() if now - at < _RECENT_S}
        self._stopped.update({(room, sender): now for sender in before.difference(senders)})
        for lane in list(self._lanes.values()):
            if lane.timer is not None and lane.authors and lane.room == room:
                self._set_timer(lane)

    def _set_timer(self, lane: Lane) -> None:
        """Let the window end when it should, as far as is known now."""
        loop = asyncio.get_running_loop()
        lane.close_window()
        end = min(lane.wrote_at + self._window_s, lane.opened_at + self._window_max_s)
        stopped = [self._stopped.get((lane.room, author), 0.0) for author in lane.authors]
        if all(stopped) and not lane.authors & self._typing.get(lane.room, frozenset()):
            end = min(end, max(lane.wrote_at, *stopped) + AFTER_TYPING_S)
        if end <= loop.time():
            self._closed(lane)
        else:
            lane.timer = loop.call_at(end, self._closed, lane)

    def again(self, lane: Lane, after_s: float) -> None:
        """A session that could not begin is put back, as if its window ended then, so that `stop` finds it."""
        self._lanes[lane.key] = lane
        lane.timer = asyncio.get_running_loop().call_later(after_s, self._closed, lane)

    def join(self, lane: Lane) -> None:
        """A session stands in line from now on."""
        lane.close_window()
        last = next(reversed(self._standing.values()), None)
        self._standing[lane.key] = lane
        if last is not None and last.opened_at > lane.opened_at:
            self._standing = dict(sorted(self._standing.items(), key=lambda item: item[1].opened_at))

    def leave(self, lane: Lane) -> None:
        """A session has nothing to do any more, or its turn begins."""
        self._lanes.pop(lane.key, None)
        self._standing.pop(lane.key, None)
        lane.end()

    def take_out(self, concerns: Callable[[SessionKey], bool]) -> list[Lane]:
        """Those that `concerns` names leave."""
        lanes = [lane for key, lane in self._lanes.items() if concerns(key)]
        for lane in lanes:
            self.leave(lane)
        return lanes

    def close(self) -> None:
        """No window ends any more."""
        for lane in self._lanes.values():
            lane.end()
