"""Keeps the account of model calls: each is written to its turn, without holding up the call."""

from __future__ import annotations

import asyncio
import logging

from gateway.errors import StateError
from gateway.store import Store, usage
from gateway.store.usage import Used

log = logging.getLogger(__name__)

_RETRY_S = 1.0
#: Calls that may wait for a database that refuses writes.
MAX_WAITING = 10_000


class Accounts:
    """Writes to `store`. A write that fails is tried again; `close` waits for those under way."""

    def __init__(self, store: Store, *, retry_s: float = _RETRY_S) -> None:
        self._store = store
        self._retry_s = retry_s
        self._writing: set[asyncio.Task[None]] = set()

    def take(self, project: str, session: str, used: Used) -> None:
        """Account for a call of a project (its id). Handed in at once: what its turn writes later comes later."""
        if len(self._writing) >= MAX_WAITING:
            log.error("a model call of project %s is not accounted for: too many wait for the database", project)
            return
        task = asyncio.create_task(self._keep(project, session, used, self._write(project, session, used)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self, within_s: float = 5.0) -> None:
        """Wait until everything is written; what is not in time is lost, and the log says so."""
        if not self._writing:
            return
        _, late = await asyncio.wait(self._writing, timeout=within_s)
        for task in late:
            task.cancel()
        if late:
            log.error("%d model calls are not accounted for: the database did not take them", len(late))

    def _write(self, project: str, session: str, used: Used) -> asyncio.Future[bool]:
        return self._store.write(lambda connection: usage.add(connection, int(project), session, used))

    async def _keep(self, project: str, session: str, used: Used, written: asyncio.Future[bool]) -> None:
        while True:
            try:
                if not await written:
                    log.info("a model call of project %s belongs to no turn", project)
                return
            except StateError as error:
                log.warning("a model call of project %s is not accounted for yet: %s", project, error)
            except Exception:
                log.exception("a model call of project %s cannot be accounted for", project)
                return
            await asyncio.sleep(self._retry_s)
            written = self._write(project, session, used)
