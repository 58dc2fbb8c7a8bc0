"""The life of projects that there are: up, down, restart, delete, and the loop that makes it so.

What people asked for is stored; reconciling makes it so. Nothing here depends on how a project came to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from gateway.engine import Engine, LogOf
from gateway.engine.process import ProcessEngine, tail
from gateway.errors import (
    EngineError,
    HuskiesError,
    SledAway,
    SledError,
    UserError,
)
from gateway.projects import folders, ssh
from gateway.projects.places import Source, choose_owner
from gateway.projects.ports import choose_port
from gateway.projects.registry import Registry, Setup
from gateway.store import Store
from gateway.store import projects as rows
from gateway.store.projects import Project
from gateway.turns import Dispatcher, Stopped
from gateway.wire import Sleds
from sled.protocol import Call, Job

log = logging.getLogger(__name__)

#: Seconds until a sled that was started has to have reported, and its SSH server to let us in.
HELLO_WITHIN_S = 30.0
SSH_WITHIN_S = 30.0


class Lifecycle(Registry):
    """Keeps projects running, and ends them."""

    def __init__(self, store: Store, engine: Engine, sleds: Sleds, setup: Setup) -> None:
        super().__init__(store, engine, sleds, setup)
        self._dispatcher: Dispatcher | None = None
        self._reserving = asyncio.Lock()
        #: Projects that are not among the living any more, and not down yet.
        self._ending: set[str] = set()
        self._writing_ssh_config = asyncio.Lock()
        #: Something may be left to be removed, by an engine that did not answer.
        self._owing = True
        #: How often each sled had to be started since it last reported.
        self._falls: dict[int, int] = {}

    def attach(self, dispatcher: Dispatcher) -> None:
        """The dispatcher, which in turn needs this object."""
        self._dispatcher = dispatcher

    def begin(self, project: Project) -> None:
        """The project is up, and people have been told: what waits for it may start."""
        assert self._dispatcher is not None
        if (known := self._living.get(project.id)) is not None and known.ready_at is None:
            self._living[project.id] = project
        self._dispatcher.on_connected(project.id)

    async def logs(self, project: Project, of: LogOf | str, lines: int) -> str:
        """The last lines of the project's sled, its agents, or its latest build. Raises EngineError."""
        if of == "build":
            return await asyncio.to_thread(tail, self.paths(project).build_log, lines)
        return await self._engine.logs(self.spec(project), "agent" if of == "agent" else "sled", lines)

    # --- up, down, restart, rebuild, delete --------------------------------------------------------------------------

    async def up(self, project: Project) -> None:
        """Have the project run. Raises UserError."""
        async with self._lock(project.name):
            project = await self._change(self._still(project), desired="up")
            await self._up_or_explain(project)

    async def down(self, project: Project, here: int) -> Stopped:
        """Have the project not run; its runs are stopped. Raises UserError."""
        async with self._lock(project.name):
            project = self._still(project)
            stopped = await self._stop_runs(project, f"{project.name} was taken down.", here)
            project = await self._change(project, desired="down")
            await self._down_or_explain(project)
        return stopped

    async def restart(self, project: Project, here: int) -> Stopped:
        """End the sled and start a fresh one. Raises UserError."""
        async with self._lock(project.name):
            project = self._still(project)
            stopped = await self._stop_runs(project, f"{project.name} was restarted.", here)
            await self._down_or_explain(project)
            project = await self._change(project, desired="up")
            await self._up_or_explain(project)
        return stopped

    async def delete(self, project: Project, here: int, *, purge: bool) -> tuple[Stopped, list[str], list[str]]:
        """End a project: what was stopped, what is gone, what is kept. Conversation `here` is told of it by the caller.

        Raises UserError.
        """
        async with self._lock(project.name):
            project = self._still(project)
            # The tombstone first: a gateway killed from here on goes on deleting, and resurrects nothing; and nobody
            # can write to it any more, so that what is stopped then is all there is.
            await self._store.write(lambda c: rows.bury(c, project.id, purging=purge))
            with self._ended_here(project):
                self._living.pop(project.id, None)
                stopped = await self._stop_runs(project, f"{project.name} was deleted.", here)
                stays = await self._end_or_owe(project)
                assert self._dispatcher is not None
                await self._dispatcher.forget(project.id)
            removed, kept = await self._clear(project, purge=purge, stays=stays)
        removed += [f"image {tag}" for tag in await self._after_change()]
        return stopped, removed, kept

    async def set_permissions(self, project: Project, mode: str) -> None:
        """Choose what the project's agents may do."""
        async with self._lock(project.name):
            await self._change(self._still(project), permissions=mode)

    async def set_model(self, project: Project, model: str) -> None:
        """Choose the model of the project's agents; empty: what the configuration says."""
        async with self._lock(project.name):
            await self._change(self._still(project), model=model)

    async def set_agent(self, project: Project, agent: str) -> None:
        """Choose what answers in the project; empty: what the configuration says."""
        async with self._lock(project.name):
            await self._change(self._still(project), agent=agent)

    async def job(self, project: Project, job: Job, arguments: dict[str, str], within_s: float) -> str:
        """Have the project's sled do a job; what it answers. Raises SledError."""
        return await self._call(project, job, arguments, within_s)

    async def _clear(self, project: Project, *, purge: bool, stays: str) -> tuple[list[str], list[str]]:
        """Remove what a deletion removes: what is gone, what is kept. `stays`: why the container is still there."""
        # What a container may still write to is not walked through by a gateway that may be root; a later start does.
        removed, kept, all_gone = await asyncio.to_thread(self._clear_files, project, purge=purge and not stays)
        if stays:
            removed = [what for what in removed if what not in ("container", "sled")]
            kept.append(f"the container, until the engine removes it ({stays})")
        if all_gone:
            await self._store.write(lambda c: rows.erase(c, project.id))
            self._setup.forget(project.name)
        (removed if all_gone else kept).append("history")
        return removed, kept

    def _clear_files(self, project: Project, *, purge: bool) -> tuple[list[str], list[str], bool]:
        """The third: nothing is left that a purge removes."""
        paths = self.paths(project)
        removed: list[str] = ["container", "client key"] if project.contained else ["sled"]
        removed.append("wire")
        kept: list[str] = []
        folders.remove(paths.wire)
        ssh.forget_client_key(paths)
        home, source = f"home with its sessions ({paths.home})", f"source ({project.path})"
        # What could not be removed is told as kept: a receipt says what is, not what was meant.
        home_gone = purge and folders.remove(paths.folder)
        source_gone = purge and not project.adopted and folders.remove(project.path)
        (removed if home_gone else kept).append(home)
        (removed if source_gone else kept).append(source)
        all_gone = home_gone and (source_gone or project.adopted)
        if project.contained:
            (removed if all_gone else kept).append(f"host key and SSH port {project.ssh_port}")
        return removed, kept, all_gone

    @contextlib.contextmanager
    def _ended_here(self, project: Project) -> Iterator[None]:
        """Have nobody else clear away the container of a project that is being taken down in good order."""
        self._ending.add(project.name)
        try:
            yield
        finally:
            self._ending.discard(project.name)

    async def _end_or_owe(self, project: Project) -> str:
        """Take a project down that is to go; why its container is still there, if it is. Raises UserError."""
        try:
            await self._down_or_explain(project)
        except UserError as error:
            if not self._engine.isolated:
                raise
            self._owing = True
            await self._sleds.close(self.paths(project).socket)
            return str(error.__cause__)
        return ""

    async def _after_change(self) -> list[str]:
        """What follows from other projects or other images: the Include file, and what nobody uses now is removed."""
        self._owing = True
        try:
            async with self._writing_ssh_config:  # the last to write knows most
                await self.write_ssh_config()
            removed = await self._engine.reap(lambda: self.names() | self._ending, self._tags_in_use)
        except (EngineError, OSError) as error:
            log.warning("clearing up has to wait: %s", error)
            return []
        self._owing = False
        return removed

    # --- convergence -------------------------------------------------------------------------------------------------

    async def reconcile_forever(self, every_s: float) -> None:
        """Make it so, again and again: sleds that should run, run; what belongs to nobody goes."""
        # The wires first: sleds that run need no engine, and whatever the rest waits for must not hold them up.
        for project in self.all():
            await self._or_log(project.name, self._reopen(project))
        for project in await self._store.read(rows.all_projects):
            await self._or_log(project.name, self._finish(project))
        while True:
            if self._owing:
                await self._or_log("clearing up", self._after_change())
            for project in self.all():
                await self._or_log(project.name, self.reconcile(project))
            await asyncio.sleep(every_s)

    async def _or_log(self, what: str, work: Coroutine[Any, Any, object]) -> None:
        """Do a part of the loop; whatever is wrong with one project, the others are looked after."""
        try:
            await work
        except Exception as error:
            log.error("%s: %s", what, error, exc_info=None if isinstance(error, HuskiesError) else error)

    async def _reopen(self, project: Project) -> None:
        """Listen on the wire of a project that another process left running. Raises OSError, HuskiesError."""
        async with self._lock(project.name):
            current = self._living.get(project.id)
            if current is not None and current.desired == "up" and current.ready_at is not None:
                self._check_engine(current)
                await self._open_wire(current)

    async def _finish(self, project: Project) -> None:
        """Finish what another process was killed in, or left on this host where an engine isolates now."""
        async with self._lock(project.name):
            found = await self._store.read(lambda c: rows.by_name(c, project.name))
            if found is None or found.id != project.id:
                return
            if found.desired == "deleted":
                stays = await self._end_leftover(found)
                await self._clear(found, purge=found.purging, stays=stays)
            elif self._engine.isolated and not found.image and found.ready_at is not None:
                await self._leave_the_host(found)

    async def _end_leftover(self, project: Project) -> str:
        """End the sled of a tombstone; why it is still there, if it is."""
        try:
            if await self._engine.is_running(self.spec(project)):
                await self._take_down(project)
        except EngineError as error:
            return str(error)
        return ""

    async def reconcile(self, project: Project) -> None:
        """Have one project's sled run, or not, as it should. Raises StateError."""
        lock = self._lock(project.name)
        if lock.locked() or project.ready_at is None:
            return  # somebody is at it
        async with lock:
            current = self._living.get(project.id)
            if current is None:
                return
            try:
                trouble = await (self._have_it_run if current.desired == "up" else self._have_it_rest)(current)
            except (HuskiesError, OSError) as error:
                trouble = str(error)
            if trouble != current.last_error:
                if trouble:
                    log.error("%s: %s", current.name, trouble)
                await self._change(current, last_error=trouble)

    async def _have_it_run(self, project: Project) -> str:
        """Start the sled if need be; what people should know of it, if anything. Raises EngineError, OSError."""
        self._check_engine(project)
        await self._open_wire(project)
        if self._sleds.journal(project.id) is not None:
            self._falls.pop(project.id, None)
            return ""
        if await self._engine.is_running(self.spec(project)):
            return project.last_error  # started, and not heard of yet
        falls = self._falls[project.id] = self._falls.get(project.id, 0) + 1
        words = await self._engine.logs(self.spec(project), "sled", 3)
        log.info("starting the sled of %s", project.name)
        await self._furnish(project)
        await self._engine.start(self.spec(project))
        if falls == 1:
            return ""
        return f"its sled ended {falls} times before it reported; its last words: {words or 'none'}"

    async def _have_it_rest(self, project: Project) -> str:
        """End the sled of a project that is to be down, where an engine that did not answer left it.

        Raises EngineError.
        """
        if await self._engine.is_running(self.spec(project)):
            await self._take_down(project)
        return ""

    # --- small parts -------------------------------------------------------------------------------------------------

    def _check_engine(self, project: Project) -> None:
        """A project that was made in a container never runs without one. Raises EngineError."""
        if project.image and not self._engine.isolated:
            raise EngineError(
                f"{project.name} lives in a container, and this gateway runs on the {self._engine.kind} engine. "
                "Start Docker, then the gateway again."
            )
        if not project.image and self._engine.isolated:
            raise EngineError(f"{project.name} was made without a container: `rebuild {project.name}` gives it one.")

    async def _settle_in(self, project: Project) -> Project:
        """Give a project that was made without a container what one needs. Raises UserError."""
        if project.image:
            return project
        owner = await asyncio.to_thread(choose_owner, Source(project.path, project.adopted, exists=True))
        async with self._reserving:
            port = project.ssh_port or await self._free_port()
            # A new token: a sled that is still a process of this host must not be taken for the one in the container.
            token = secrets.token_urlsafe(32)
            project = await self._change(project, uid=owner[0], gid=owner[1], ssh_port=port, token=token)
        await self._leave_the_host(project)
        return project

    async def _leave_the_host(self, project: Project) -> None:
        """End what a project without a container left running on this host, where an engine isolates now."""
        try:
            await ProcessEngine({}).stop(self.spec(project))
        except EngineError as error:
            log.error("%s: %s", project.name, error)

    async def _free_port(self) -> int:
        """The next SSH port that nobody has. Raises UserError."""
        everything = await self._store.read(rows.all_projects)
        taken = {project.ssh_port for project in everything if project.ssh_port is not None}
        newest = max(everything, key=lambda project: (project.created_at, project.id), default=None)
        last = newest.ssh_port if newest is not None else None
        return await asyncio.to_thread(choose_port, self._setup.ssh_ports, taken, last)

    async def _furnish(self, project: Project) -> None:
        """Keys, accounts and folders of the project's container. Raises OSError."""
        if self._engine.isolated:
            await ssh.furnish(self.spec(project))

    async def _open_wire(self, project: Project) -> None:
        """Raises OSError, UserError."""
        spec = self.spec(project)
        await self._sleds.open(project.id, project.token, spec.paths.socket)
        if self._engine.isolated:
            await asyncio.to_thread(ssh.own, spec, spec.paths.wire, spec.paths.socket)

    async def _start(self, project: Project) -> None:
        """Start the sled and wait for its hello. Raises EngineError, OSError."""
        await self._open_wire(project)
        await self._engine.start(self.spec(project))
        try:
            await self._sleds.arrival(project.id, HELLO_WITHIN_S)
        except SledAway as error:
            last = await self._engine.logs(self.spec(project), "sled", 5)
            raise EngineError(f"{error}; its last words: {last or 'none'}") from error

    async def _answers_ssh(self, project: Project) -> None:
        """Raises EngineError."""
        if (way := self.access(project)) is not None:
            await ssh.answers(way, SSH_WITHIN_S)

    async def _take_down(self, project: Project) -> None:
        await self._engine.stop(self.spec(project))
        await self._sleds.close(self.paths(project).socket)

    async def _up_or_explain(self, project: Project) -> None:
        try:
            self._check_engine(project)
            await self._furnish(project)
            await self._start(project)
            await self._answers_ssh(project)
        except (EngineError, SledError, OSError) as error:
            await self._change(project, last_error=str(error))
            raise UserError(f"{project.name} did not come up: {error} See `logs {project.name}`.") from error
        await self._change(project, last_error="")
        self.begin(project)

    async def _down_or_explain(self, project: Project) -> None:
        assert self._dispatcher is not None
        try:
            await self._take_down(project)
        except EngineError as error:
            raise UserError(f"{project.name} did not go down: {error}") from error
        finally:
            for work in self._dispatcher.interrupt_all(project.id):
                await work

    async def _stop_runs(self, project: Project, reason: str, here: int | None) -> Stopped:
        """Stop what the project runs; other conversations than `here` are told where they are."""
        assert self._dispatcher is not None
        told = [] if here is None else [here]
        return await self._dispatcher.stop(reason, project_id=project.id, conversations=[], told=told)

    async def _call(
        self,
        project: Project,
        job: Job,
        arguments: dict[str, str],
        within_s: float,
        said: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Have the project's sled do a job; what it answers. Raises SledError."""
        call = Call(call=self._sleds.new_call_id(), job=job, arguments=arguments)
        return await self._sleds.call(project.id, call, within_s, said)
