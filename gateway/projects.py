"""Projects: bootstrap, life and end. What people asked for is stored; reconciling makes it so.

`create` is the line of one `new project`::

    validate -> reserve (the conversation is switched; prompts wait) -> folders -> start -> hello -> init -> READY

Whatever fails or is killed on the way is undone, by the same code at once or at the next start: a row without
`ready_at` is a bootstrap that did not finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway import faults
from gateway.dispatcher import Dispatcher, Stopped
from gateway.engine import Engine
from gateway.errors import EngineError, HuskiesError, SledAway, SledError, StateError, UserError
from gateway.places import check_name
from gateway.registry import Registry, Setup
from gateway.sleds import Sleds
from gateway.store import Store, conversations
from gateway.store import projects as rows
from gateway.store.projects import Project
from sled.protocol import Call
from stacks.catalog import catalog, detect

log = logging.getLogger(__name__)

#: Seconds until a sled that was started has to have reported.
HELLO_WITHIN_S = 30.0
_JOB_WITHIN_S = 60.0

Tell = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """One `new project`."""

    name: str
    by: str
    conversation_id: int
    asked_at: float
    stack: str | None = None
    path: str | None = None
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """A project that is READY; `stack_because` is the file that decided its stack."""

    project: Project
    stack_because: str
    taken_up: bool


class Projects(Registry):
    """Makes projects, keeps them running, ends them."""

    def __init__(self, store: Store, engine: Engine, sleds: Sleds, setup: Setup) -> None:
        super().__init__(store, engine, sleds, setup)
        self._dispatcher: Dispatcher | None = None
        self._reserving = asyncio.Lock()
        #: How often each sled had to be started since it last reported.
        self._falls: dict[int, int] = {}

    def attach(self, dispatcher: Dispatcher) -> None:
        """The dispatcher, which in turn needs this object."""
        self._dispatcher = dispatcher

    async def logs(self, project: Project, lines: int) -> str:
        """The last lines of the project's sled and agents."""
        return await self._engine.logs(self.spec(project), lines)

    # --- create ------------------------------------------------------------------------------------------------------

    async def create(self, request: Request, reserved: Callable[[], None], tell: Tell) -> Created:
        """Bootstrap a project. `reserved` is called once the name is taken and the conversation switched.

        Call `begin` when people have been told: what they wrote meanwhile waits for it.

        Raises:
            UserError: nothing is left of the attempt, the name is free; the text says which step failed and why.
        """
        check_name(request.name)
        async with self._lock(request.name):
            if (own := self._made_by(request)) is not None:
                names = await asyncio.to_thread(_names_in, own.path)
                because = "asked for" if request.stack else detect(names, catalog())[1]
                return Created(own, because, own.revived)
            async with self._reserving:  # two names must not be given one folder
                project, taken_up, before = await self._reserve(request)
            reserved()
            faults.reach("project.reserved")
            step = "start the sled"
            try:
                await tell(f"Creating {project.name} in {project.path} …")
                await asyncio.to_thread(_make_source, project.path)
                faults.reach("project.folder")
                await self._bring_up(project)
                faults.reach("project.started")
                step = "prepare the workspace"
                because = await self._init(project)
                faults.reach("project.prepared")
                project = await self._change(project, ready_at=time.time())
            except (HuskiesError, OSError) as error:
                stopped = await self._undo(project, request.conversation_id, before)
                log.warning("creating %s failed: %s", project.name, error)
                raise UserError(
                    f"Creating {project.name} failed at: {step}. {error}\nNothing was left behind; "
                    f"put that right and type `new project {project.name}` again.{stopped.told}"
                ) from error
        faults.reach("project.ready")
        return Created(project, because, taken_up)

    def _made_by(self, request: Request) -> Project | None:
        """The project that this very request made before the gateway was killed, READY but not yet told of."""
        for project in self._living.values():
            same = project.name == request.name and project.created_by == request.by
            if same and project.ready_at is not None and project.created_at >= request.asked_at:
                return project
        return None

    async def _reserve(self, request: Request) -> tuple[Project, bool, int | None]:
        stacks = {stack.name for stack in catalog()}
        if request.stack is not None and request.stack not in stacks:
            raise UserError(f"There is no stack {request.stack}. There are: {', '.join(sorted(stacks))}.")
        if request.name in self.names():
            raise UserError(
                f"There is a project {request.name} already. `switch {request.name}` goes there, "
                "or choose another name."
            )
        grave = await self._store.read(lambda c: rows.by_name(c, request.name))
        taken = [project.path for project in self._living.values()]
        if grave is not None and request.path is None and grave.path.is_dir():
            # What `delete` kept is taken up again: source, home and history.
            kept = await asyncio.to_thread(
                self._setup.places.choose, request.name, str(grave.path), adopt=True, taken=taken
            )
            if kept.path != grave.path:
                raise UserError(f"{grave.path} has become a link; choose a folder with --path.")
            path, adopted, made, taken_up = grave.path, grave.adopted, False, True
        else:
            source = await asyncio.to_thread(
                self._setup.places.choose, request.name, request.path, adopt=request.adopt, taken=taken
            )
            path, adopted, made, taken_up = source.path, source.adopted, not source.exists, False
        token = secrets.token_urlsafe(32)

        def unit(connection: Connection) -> tuple[Project, int | None]:
            project = rows.reserve(
                connection,
                name=request.name,
                path=path,
                adopted=adopted,
                made_source=made,
                stack=request.stack or "",
                token=token,
                permissions=self._setup.permissions,
                created_by=request.by,
            )
            before = conversations.by_id(connection, request.conversation_id).project_id
            conversations.switch(connection, request.conversation_id, project.id)
            return project, before

        try:
            project, before = await self._store.write(unit)
        except IntegrityError:
            raise UserError(f"There is a project {request.name} already.") from None
        self._living[project.id] = project
        return project, taken_up, before

    async def _init(self, project: Project) -> str:
        """Have the sled prepare the workspace; which file decided the stack."""
        names = await asyncio.to_thread(_names_in, project.path)
        stack, because = project.stack, "asked for"
        if not stack:
            stack, because = detect(names, catalog())
            await self._change(project, stack=stack)
        user_name, user_email = await self._setup.git_identity()
        arguments = {
            "git": "no" if project.adopted else "yes",
            "branch": self._setup.default_branch,
            "user_name": user_name,
            "user_email": user_email,
            "project_toml": f'# What huskies found when the project was made.\nstack = "{stack}"\n',
        }
        call = Call(call=self._sleds.new_call_id(), job="init", arguments=arguments)
        await self._sleds.call(project.id, call, _JOB_WITHIN_S)
        return because

    async def _undo(self, project: Project, here: int | None = None, before: int | None = None) -> Stopped:
        """Remove what a bootstrap made. A project that was taken up again becomes a tombstone again.

        Conversation `here`, which asked for it and is told, has project `before` active again.
        """
        self._living.pop(project.id, None)
        await self._take_down(project)
        stopped = await self._stop_runs(project, "The project could not be created.", here)

        def unit(connection: Connection) -> None:
            if project.revived:
                rows.bury(connection, project.id)
            else:
                rows.erase(connection, project.id)
            if here is not None:
                conversations.switch(connection, here, before)

        await self._store.write(unit)
        if project.made_source:
            await asyncio.to_thread(shutil.rmtree, project.path, ignore_errors=True)
        elif not project.adopted and not project.revived:
            for made in (".git", ".huskies"):  # the folder was there, and empty
                await asyncio.to_thread(shutil.rmtree, project.path / made, ignore_errors=True)
        if not project.revived:
            await asyncio.to_thread(shutil.rmtree, self.paths(project).folder, ignore_errors=True)
        return stopped

    # --- up, down, restart, delete -----------------------------------------------------------------------------------

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
            await self._store.write(lambda c: rows.bury(c, project.id))
            self._living.pop(project.id, None)
            stopped = await self._stop_runs(project, f"{project.name} was deleted.", here)
            await self._down_or_explain(project)
            removed, kept = await asyncio.to_thread(self._clear, project, purge=purge)
            if purge:
                await self._store.write(lambda c: rows.erase(c, project.id))
            else:
                kept.append("history")
        return stopped, removed, kept

    def _clear(self, project: Project, *, purge: bool) -> tuple[list[str], list[str]]:
        paths = self.paths(project)
        removed: list[str] = ["sled", "wire"]
        kept: list[str] = []
        _remove(paths.wire)
        home, source = f"home with its sessions ({paths.home})", f"source ({project.path})"
        # What could not be removed is told as kept: a receipt says what is, not what was meant.
        (removed if purge and _remove(paths.folder) else kept).append(home)
        (removed if purge and not project.adopted and _remove(project.path) else kept).append(source)
        if purge:
            removed.append("history")
        return removed, kept

    async def set_permissions(self, project: Project, mode: str) -> None:
        """Choose what the project's agents may do."""
        async with self._lock(project.name):
            await self._change(self._still(project), permissions=mode)

    # --- convergence -------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """At start-up: open the wires, undo bootstraps that did not finish, finish deletions."""
        everything = await self._store.read(rows.all_projects)
        for project in everything:
            if project.desired != "deleted":
                self._living[project.id] = project
            try:
                if project.desired != "up" and await self._engine.is_running(self.spec(project)):
                    await self._take_down(project)
            except EngineError as error:
                log.error("%s did not end: %s", project.name, error)  # the others start all the same

    async def undo_unfinished(self) -> None:
        """At start-up, once the dispatcher can stop runs: undo bootstraps that did not finish."""
        for project in self.all():
            if project.ready_at is None:
                log.warning("undoing the unfinished bootstrap of %s", project.name)
                try:
                    await self._undo(project)
                except EngineError as error:
                    log.error("%s could not be undone: %s", project.name, error)

    async def reconcile_forever(self, every_s: float) -> None:
        """Make it so, again and again: sleds that should run, run."""
        while True:
            for project in self.all():
                try:
                    await self.reconcile(project)
                except StateError as error:
                    log.error("%s: %s", project.name, error)  # the next round tries again
            await asyncio.sleep(every_s)

    async def reconcile(self, project: Project) -> None:
        """Have one project's sled run if it should. Raises StateError."""
        lock = self._lock(project.name)
        if lock.locked() or project.ready_at is None:
            return  # somebody is at it
        async with lock:
            current = self._living.get(project.id)
            if current is None or current.desired != "up":
                return
            try:
                trouble = await self._have_it_run(current)
            except (HuskiesError, OSError) as error:
                trouble = str(error)
            if trouble != current.last_error:
                if trouble:
                    log.error("%s: %s", current.name, trouble)
                await self._change(current, last_error=trouble)

    async def _have_it_run(self, project: Project) -> str:
        """Start the sled if need be; what people should know of it, if anything. Raises EngineError, OSError."""
        await self._open_wire(project)
        if self._sleds.journal(project.id) is not None:
            self._falls.pop(project.id, None)
            return ""
        if await self._engine.is_running(self.spec(project)):
            return project.last_error  # started, and not heard of yet
        falls = self._falls[project.id] = self._falls.get(project.id, 0) + 1
        words = await self._engine.logs(self.spec(project), 3)
        log.info("starting the sled of %s", project.name)
        await self._engine.start(self.spec(project))
        if falls == 1:
            return ""
        return f"its sled ended {falls} times before it reported; its last words: {words or 'none'}"

    # --- small parts -------------------------------------------------------------------------------------------------

    async def _open_wire(self, project: Project) -> None:
        await self._sleds.open(project.id, project.token, self.paths(project).socket)

    async def _bring_up(self, project: Project) -> None:
        await self._open_wire(project)
        await self._engine.start(self.spec(project))
        try:
            await self._sleds.arrival(project.id, HELLO_WITHIN_S)
        except SledAway as error:
            last = await self._engine.logs(self.spec(project), 5)
            raise EngineError(f"{error}; its last words: {last or 'none'}") from error

    async def _take_down(self, project: Project) -> None:
        await self._engine.stop(self.spec(project))
        await self._sleds.close(self.paths(project).socket)

    async def _up_or_explain(self, project: Project) -> None:
        try:
            await self._bring_up(project)
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

    def begin(self, project: Project) -> None:
        """The project is up: what waits for it may start."""
        assert self._dispatcher is not None
        self._dispatcher.on_connected(project.id)


def _make_source(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(0o755)


def _remove(folder: Path) -> bool:
    """Remove a folder, read-only parts included (package caches are); False if something of it stays."""

    def open_up(_: object, path: str, __: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            Path(path).unlink()

    shutil.rmtree(folder, onerror=open_up)
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _names_in(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}
