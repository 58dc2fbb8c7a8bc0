"""How long turns wait for people: a wait is not on a turn's clock, and does not count as silence of its agent."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from gateway.clock import since


@dataclass(slots=True)
class _Clock:
    """How many questions wait, and on the event loop's clock since when, for how long in all, and until when."""

    waiting: int = 0
    since: float = 0.0
    total: float = 0.0
    until: float = 0.0


@dataclass(slots=True)
class Waits:
    """The clocks of open turns, by their id. Questions that wait at the same time count once."""

    _clocks: defaultdict[int, _Clock] = field(default_factory=lambda: defaultdict(_Clock))

    def begin(self, turn_id: int, asked_at: float) -> None:
        """A turn asks; it did so at `asked_at` (seconds since the epoch), before a restart perhaps."""
        clock = self._clocks[turn_id]
        if clock.waiting == 0:
            clock.since = asyncio.get_running_loop().time() - since(asked_at)
        clock.waiting += 1

    def end(self, turn_id: int) -> None:
        """One of its questions waits no longer."""
        clock = self._clocks[turn_id]
        clock.waiting -= 1
        clock.until = asyncio.get_running_loop().time()
        if clock.waiting == 0:
            clock.total += clock.until - clock.since

    def forget(self, turn_id: int) -> None:
        """The turn has ended."""
        self._clocks.pop(turn_id, None)

    def now(self, turn_id: int) -> bool:
        """Whether a turn waits."""
        return turn_id in self._clocks and self._clocks[turn_id].waiting > 0

    def total_s(self, turn_id: int) -> float:
        """Seconds that it has waited, until now."""
        clock = self._clocks.get(turn_id)
        if clock is None:
            return 0.0
        return clock.total + (asyncio.get_running_loop().time() - clock.since if clock.waiting else 0.0)

    def last_heard(self, turn_id: int) -> float:
        """When it last got an answer, on the event loop's clock; 0 if it never asked."""
        clock = self._clocks.get(turn_id)
        return 0.0 if clock is None else clock.until
