"""Time that may jump: the wall's clock is set, a laptop sleeps, and a process is not there for a while.

A *stamp* is seconds since the epoch, by the wall's clock. What happens at a stamp is an `Alarm`; how long something has
lasted is told by `since`, and over a restart by the clock of the time awake too, which is never set and stands still
while the machine sleeps: a run that slept with it has not worked.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

#: Seconds within which a clock that was set, or a machine that woke up, is noticed.
LOOK_S = 15.0
#: Names a file with seconds by which the wall's clock is off; unset outside of tests, which never set the machine's.
VARIABLE = "HUSKIES_CLOCK"


def now() -> float:
    """The stamp of this moment."""
    file = os.environ.get(VARIABLE)
    return time.time() + (float(Path(file).read_text()) if file else 0.0)


def since(stamp: float) -> float:
    """Seconds since a stamp; 0 for one from the future, which is no fact."""
    return max(0.0, now() - stamp)


def awake() -> float:
    """Seconds since the machine was started, without those for which it slept; the event loop's clock, on Linux."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


@cache
def boot_id() -> str:
    """Tells this start of the machine from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def lasted(stamp: float, booted: str, at_awake: float) -> float:
    """Seconds since something began at a stamp, when the machine's start `booted` had been awake for `at_awake`.

    Of two clocks the one that says less is believed: the wall's was set, or the machine slept.
    """
    return min(since(stamp), max(0.0, awake() - at_awake)) if booted == boot_id() else since(stamp)


class Alarm:
    """Calls `call` once, when a stamp has come: also after the clock was set, or the machine slept.

    `most_s`: what is to last so long, and not until some hour, ends after these seconds awake at the latest, though the
    clock was set back.
    """

    def __init__(self, stamp: float, call: Callable[[], object], *, most_s: float = math.inf) -> None:
        self.stamp = stamp
        self._latest = asyncio.get_running_loop().time() + most_s
        self._call = call
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    @property
    def waits(self) -> bool:
        """Whether it has still to go off."""
        return self._timer is not None

    @property
    def left_s(self) -> float:
        """Seconds until it goes off, at the most."""
        return max(0.0, min(self.stamp - now(), self._latest - asyncio.get_running_loop().time()))

    def cancel(self) -> None:
        """Never mind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        left = min(self.stamp - now(), self._latest - loop.time())
        # Not at once, however late: whoever sets an alarm is not called before it has it.
        self._timer = loop.call_later(min(max(left, 0.0), LOOK_S), self._ring)

    def _ring(self) -> None:
        if self.stamp > now() and self._latest > asyncio.get_running_loop().time():
            self._look()
        else:
            self._timer = None
            self._call()
