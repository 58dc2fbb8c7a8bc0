"""Work in the background: kept alive, its defects told, ended together; and what must be done however long it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from gateway.errors import StateError

log = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds between tries to write what the database refused.
RETRY_S = 1.0


class Tasks:
    """The background work of one part of the gateway. `what` is said in the log of a task that failed unexpectedly."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that nobody needs to wait for."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cut off what is running."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", self._what, exc_info=error)


async def insist(work: Callable[[], Awaitable[T]], what: str) -> T:
    """Do what cannot be left undone, however long the database refuses. `what` is said in the log meanwhile."""
    while True:
        try:
            return await work()
        except StateError as error:
            log.error("%s has to wait: %s", what, error)
            await asyncio.sleep(RETRY_S)
