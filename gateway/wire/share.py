"""What one project may take of the event loop that all share: so many frames a second, and then it has to wait.

It waits on its own connection. Its sled holds what it cannot send, and drops the live events that have grown old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: Frames in a second, and at once after a pause; an agent that streams sends a hundred. Bytes that count as one more.
A_SECOND, AT_ONCE, BYTES = 500.0, 1000.0, 4096
#: Frames that one counts for which is committed, and shown to people.
COMMITTED = 20.0
#: Frames after which others have their turn, however many have come in one piece.
_IN_A_ROW = 8


class Share:
    """The share of one project."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = AT_ONCE
        self._at = clock()
        self._in_a_row = 0

    def committed(self) -> None:
        """What was taken is more work than most."""
        self._left -= COMMITTED

    async def take(self, size: int) -> None:
        """Before a frame of so many bytes is looked at: wait until it is its turn."""
        now = self._clock()
        self._left = min(AT_ONCE, self._left + (now - self._at) * A_SECOND) - 1 - size / BYTES
        self._at = now
        self._in_a_row += 1
        if self._left < 0:
            await asyncio.sleep(-self._left / A_SECOND)
            self._in_a_row = 0
        elif self._in_a_row >= _IN_A_ROW:
            await asyncio.sleep(0)
            self._in_a_row = 0
