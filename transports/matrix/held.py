"""Messages whose key is not here yet, and what their senders wrote after them.

A message without its key opens a lane for its sender in its room; that person's later messages queue up in the lane,
so that they stay in order and nobody else waits. A lane moves on when the key comes or time is up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nio import MegolmEvent

from gateway.chat import Incoming
from transports.matrix.events import Place


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event that could not be decrypted when it came.

    Attributes:
        event: as the homeserver sent it.
        place: the room as it was.
        until: when to give up, on the monotonic clock.
    """

    event: MegolmEvent
    place: Place
    until: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    serial: int
    item: Sealed | Incoming
    since: str


class Held:
    """The lanes of all rooms."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], deque[_Waiting]] = {}
        self._serial = 0

    def blocks(self, room_id: str, sender: str) -> bool:
        """Whether a message of `sender` has to queue up."""
        return (room_id, sender) in self._lanes

    def add(self, room_id: str, sender: str, item: Sealed | Incoming, since: str) -> None:
        """Put an item at the end of its sender's lane; `since` is the token of the sync that brought it."""
        self._serial += 1
        self._lanes.setdefault((room_id, sender), deque()).append(_Waiting(self._serial, item, since))

    def sealed(self) -> Iterator[Sealed]:
        """All events without a key."""
        for lane in self._lanes.values():
            yield from (waiting.item for waiting in lane if isinstance(waiting.item, Sealed))

    def drop(self, event_id: str) -> None:
        """Forget an event that was taken back before it could be read."""
        for key, lane in list(self._lanes.items()):
            self._put(
                key,
                deque(w for w in lane if not isinstance(w.item, Sealed) or w.item.event.event_id != event_id),
            )

    def release(self, opened: Callable[[Sealed], list[Incoming] | None]) -> Iterator[Incoming]:
        """Take out whatever no longer has to wait, in order.

        Args:
            opened: what an event turned into, perhaps nothing; None while it has to wait.
        """
        for key, lane in list(self._lanes.items()):
            while lane:
                item = lane[0].item
                result = opened(item) if isinstance(item, Sealed) else [item]
                if result is None:
                    break
                lane.popleft()
                yield from result
            self._put(key, lane)

    def _put(self, key: tuple[str, str], lane: deque[_Waiting]) -> None:
        if lane:
            self._lanes[key] = lane
        else:
            del self._lanes[key]

    def next_deadline(self) -> float | None:
        """When a lane moves on by itself, on the monotonic clock; None while nothing is held."""
        return min((sealed.until for sealed in self.sealed()), default=None)

    def cursor(self, newest: str) -> str:
        """The token to commit instead of `newest`: from there, a new process finds again what is held only here."""
        oldest = min((w for lane in self._lanes.values() for w in lane), key=lambda w: w.serial, default=None)
        return newest if oldest is None else oldest.since
