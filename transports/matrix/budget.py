"""What may be sent now. Homeservers limit a whole account, so one live reply could hold up every answer.

Until the server complains, everything goes out at once. After that, edits and marks wait until the pause is
over and then take at most half of the rate that the server showed; answers only wait for the pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_FORGET_S = 600.0
_LONGEST_S = 30.0


class Budget:
    """The account's allowance."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paused_until = float("-inf")
        self._limited_at = float("-inf")
        self._spacing_s = 0.0
        self._last_small = float("-inf")

    def limited(self, retry_after_s: float) -> None:
        """The server refused a request because of its rate limit, and asks for `retry_after_s` of rest."""
        now = self._clock()
        if now - self._limited_at > _FORGET_S:
            self._spacing_s = 0.0
        self._limited_at = now
        self._paused_until = max(self._paused_until, now + retry_after_s)
        self._spacing_s = min(max(self._spacing_s, 2 * retry_after_s), _LONGEST_S)

    def pause_s(self) -> float:
        """Seconds until an answer may go out."""
        return max(0.0, self._paused_until - self._clock())

    def wait_s(self) -> float:
        """Seconds until the next edit or mark may go out."""
        now = self._clock()
        if now - self._limited_at > _FORGET_S:
            return 0.0
        # One spacing after the pause, so that an answer that waits as well goes first.
        return max(0.0, max(self._paused_until, self._last_small) + self._spacing_s - now)

    def spent(self) -> None:
        """An edit or a mark went out."""
        self._last_small = self._clock()
