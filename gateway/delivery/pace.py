"""The budget of a platform that its conversations share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Pace:
    """One budget of a platform's, for whatever is sent within its scope.

    Live edits take turns, and only while no answer and no question is on its way: so these never wait for progress.
    """

    def __init__(self) -> None:
        self._sending = 0
        self._next = 0.0
        self.calm = asyncio.Event()
        self.calm.set()

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """While an answer or a question is on its way."""
        self._sending += 1
        self.calm.clear()
        try:
            yield
        finally:
            self._sending -= 1
            if self._sending == 0:
                self.calm.set()

    def book(self, interval_s: float) -> float:
        """When it is one's turn to edit, on the event loop's clock; the next one's is later."""
        slot = max(asyncio.get_running_loop().time(), self._next)
        self._next = slot + interval_s
        return slot

    @property
    def idle(self) -> bool:
        """Whether it says no more than a new one would."""
        return self._sending == 0 and self._next <= asyncio.get_running_loop().time()

    def pause(self, seconds: float) -> None:
        """The platform wants no edits for this long."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)
