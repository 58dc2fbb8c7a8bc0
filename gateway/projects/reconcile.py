"""The loop that makes it so: sleds that should run, run; what another process left half-way is finished."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine

from gateway.errors import EngineError, HuskiesError, UserError
from gateway.projects.containers import HELLO_WITHIN_S, Containers
from gateway.projects.leftovers import Leftovers
from gateway.projects.registry import Registry
from gateway.projects.reservations import Reservations
from gateway.store import Connection, Store
from gateway.store import projects as rows
from gateway.store.messages import StoredMessage
from gateway.store.projects import Project
from gateway.tasks import Tasks
from gateway.turns import Waker

log = logging.getLogger(__name__)

#: Seconds that a gateway has for coming up before it clears away what an earlier process left.
_SETTLING_S = 1.0
#: Seconds between two tries to give a project another sled.
_RENEW_AGAIN_S = 600.0


class Reconciler:
    """See the module."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        containers: Containers,
        leftovers: Leftovers,
        reservations: Reservations,
        *,
        renew: Callable[[Project], Awaitable[bool]],
        waker: Waker | None,
    ) -> None:
        self._waker = waker
        self._store = store
        self._registry = registry
        self._engine = registry.engine
        self._containers = containers
        self._leftovers = leftovers
        self._reservations = reservations
        self._renew = renew
        self._tasks = Tasks("a sled was not replaced")
        #: How often each sled had to be started since it last reported.
        self._falls: dict[int, int] = {}
        #: Since when each sled that runs has been away, on the event loop's clock and on everybody's.
        self._away: dict[int, tuple[float, str]] = {}
        self._renewing: asyncio.Task[None] | None = None  # a build may take long, and holds up nobody
        #: When a project whose sled is of another version may be looked at again, on the event loop's clock.
        self._renew_at: dict[int, float] = {}

    async def forever(self, every_s: float) -> None:
        """Make it so, again and again."""
        try:
            await self._go_on(every_s)
        finally:
            await self._tasks.close()

    async def _go_on(self, every_s: float) -> None:
        # The wires first: sleds that run need no engine, and whatever the rest waits for must not hold them up.
        for project in self._registry.all():
            await _or_log(project.name, self._reopen(project))
        for project in await self._store.read(rows.all_projects):
            await _or_log(project.name, self.finish(project))
        for pause in itertools.chain([min(every_s, _SETTLING_S)], itertools.repeat(every_s)):
            projects = self._registry.all()
            for project in projects:
                await _or_log(project.name, self.reconcile(project))
            living = {project.id for project in projects}
            self._falls = {which: falls for which, falls in self._falls.items() if which in living}
            self._away = {which: since for which, since in self._away.items() if which in living}
            if self._renewing is None or self._renewing.done():
                self._renewing = self._tasks.start(self._renew_one())
            await asyncio.sleep(pause)
            if self._leftovers.owing:
                await _or_log("clearing up", self._leftovers.after_change())

    async def _reopen(self, project: Project) -> None:
        """Listen on the wire of a project that another process left running. Raises OSError, HuskiesError."""
        async with self._registry.lock(project.name):
            current = self._registry.by_id(project.id)
            if current is not None and current.desired == "up" and current.ready_at is not None:
                self._containers.check_engine(current)
                await self._containers.open_wire(current)

    async def finish(self, project: Project) -> None:
        """Finish what another process was killed in, or left on this host although an engine isolates now."""
        async with self._registry.lock(project.name):
            found = await self._store.read(lambda c: rows.by_name(c, project.name))
            if found is None or found.id != project.id:
                return
            if found.desired == "deleted":
                stays = await self._end_leftover(found)
                await self._leftovers.clear(found, purge=found.purging, stays=stays)
            elif found.ready_at is None:
                await self._reservations.undo_unfinished(found.name)
            elif self._engine.isolated and not found.image:
                await self._containers.leave_the_host(found)

    async def _end_leftover(self, project: Project) -> str:
        """End the sled of a tombstone; why it is still there, if it is."""
        try:
            await self._rest(project)
        except EngineError as error:
            return str(error)
        return ""

    async def reconcile(self, project: Project) -> None:
        """Start or end one project's sled, as it should be. Raises StateError."""
        lock = self._registry.lock(project.name)
        if lock.locked() or project.ready_at is None:
            return  # somebody is working on it
        async with lock:
            current = self._registry.by_id(project.id)
            if current is None:
                return
            try:
                if current.desired == "up":
                    trouble = await self._run(current)
                else:
                    trouble = ""
                    await self._rest(current)
            except (HuskiesError, OSError) as error:
                trouble = str(error)
            if trouble != current.last_error:
                if trouble:
                    log.error("%s: %s", current.name, trouble)
                await self._note(current, trouble)

    async def _note(self, project: Project, trouble: str) -> None:
        """People see what is wrong, and the lead is told once a day of each trouble. Raises StateError."""
        woken: StoredMessage | None = None

        def also(connection: Connection) -> None:
            nonlocal woken
            if trouble and self._waker is not None:
                key = f"trouble/{project.id}/{zlib.crc32(trouble.encode())}/{time.strftime('%Y-%m-%d')}"
                woken = self._waker.wake(connection, project.id, key, f"it does not run: {trouble}")

        await self._registry.change(project, also, last_error=trouble)
        if self._waker is not None:
            self._waker.hand(woken)

    async def _run(self, project: Project) -> str:
        """Start the sled if need be; what people should know of it, if anything. Raises EngineError, OSError."""
        spec = self._registry.spec(project)
        self._containers.check_engine(project)
        await self._containers.open_wire(project)
        if self._registry.journal(project.id) is not None:
            self._falls.pop(project.id, None)
            self._away.pop(project.id, None)
            return ""
        if await self._engine.is_running(spec):
            return self._unheard(project)
        self._away.pop(project.id, None)
        words = await self._engine.logs(spec, "sled", 3)
        log.info("starting the sled of %s", project.name)
        await self._containers.furnish(project)
        await self._engine.start(spec)
        falls = self._falls[project.id] = self._falls.get(project.id, 0) + 1  # not for starts that were refused
        if falls == 1:
            return ""
        return f"its sled ended {falls} times before it reported; its last words: {words or 'none'}"

    def _unheard(self, project: Project) -> str:
        """What people should know of a sled that runs and is not here."""
        if why := self._registry.turned_away(project):
            cure = "rebuild" if self._registry.is_foreign(project) else "restart"
            return f"{why}; `{cure} {project.name}` replaces it"
        now = asyncio.get_running_loop().time()
        since, clock = self._away.setdefault(project.id, (now, time.strftime("%H:%M")))
        if now - since < HELLO_WITHIN_S:
            return project.last_error  # started, and not heard of yet
        return f"its sled runs, and has not been heard of since {clock}; `restart {project.name}` replaces it"

    def replace_soon(self, project_id: int) -> None:
        """End a sled that does not do as it is told, with all that it runs, and start another."""
        self._tasks.start(self._replace(project_id))

    async def _replace(self, project_id: int) -> None:
        project = self._registry.by_id(project_id)
        if project is None:
            return
        async with self._registry.lock(project.name):
            project = self._registry.by_id(project_id)
            if project is None or project.desired != "up":
                return
            try:
                await self._containers.bring_down(project)
                await self._containers.bring_up(project)
            except UserError as error:
                log.error("%s: its sled was to be replaced: %s", project.name, error)

    async def _renew_one(self) -> None:
        """Give one project whose sled is of another version of huskies today's, if nobody uses it."""
        now = asyncio.get_running_loop().time()
        self._renew_at = {which: at for which, at in self._renew_at.items() if at > now}
        for project in self._registry.all():
            if project.id in self._renew_at or not self._registry.is_foreign(project):
                continue
            self._renew_at[project.id] = now + _RENEW_AGAIN_S
            try:
                if not await self._renew(project):
                    del self._renew_at[project.id]
            except (HuskiesError, OSError) as error:
                log.error("%s keeps the sled that it has: %s", project.name, error)
            return

    async def _rest(self, project: Project) -> None:
        """End the sled of a project that is to be down, if an engine that did not answer left it.

        Raises EngineError.
        """
        if await self._engine.is_running(self._registry.spec(project)):
            await self._containers.take_down(project)


async def _or_log(what: str, work: Coroutine[object, object, object]) -> None:
    """Do a part of the loop; whatever is wrong with one project, the others are served."""
    try:
        await work
    except Exception as error:
        log.error("%s: %s", what, error, exc_info=None if isinstance(error, HuskiesError) else error)
