"""What a new project takes before it is made, and how it is given back when that fails: name, folder, port."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass

from gateway import clock
from gateway.errors import EngineError, UserError
from gateway.projects import folders, ssh
from gateway.projects.containers import Containers
from gateway.projects.leftovers import Leftovers
from gateway.projects.places import Source
from gateway.projects.ports import listens_nowhere
from gateway.projects.recipes import Recipes, wish
from gateway.projects.registry import Registry, Setup
from gateway.store import Connection, Store, conversations
from gateway.store import projects as rows
from gateway.store.projects import Project
from gateway.turns import Stopped
from gateway.wire.git_url import GitUrl

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One `new project`."""

    name: str
    by: str
    conversation_id: int
    asked_at: float
    stack: str | None = None
    path: str | None = None
    git: str | None = None
    #: Fetch the submodules of what is cloned.
    submodules: bool = False
    adopt: bool = False
    #: The conversation gets it as its active project: where a person asks for it.
    switches: bool = True
    #: Versions that the source may ask for in vain, as `stack version`.
    accept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserved:
    """A project whose name, folder and port are taken."""

    project: Project
    taken_up: bool
    #: The project that was active in the conversation before.
    before: int | None


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of a bootstrap that failed."""

    stopped: Stopped
    #: What people are told of it, in a sentence.
    told: str


@dataclass(frozen=True, slots=True)
class Reservations:
    """See the module. Whoever calls holds the lock of the name."""

    store: Store
    registry: Registry
    containers: Containers
    leftovers: Leftovers
    recipes: Recipes
    setup: Setup

    async def take(self, request: Request, git: GitUrl | None) -> Reserved:
        """Take a name, a folder and a port, and switch the conversation. Raises UserError."""
        async with self.containers.reserving:  # two names must not get the same folder, nor the same port
            return await self._take(request, git)

    async def _take(self, request: Request, git: GitUrl | None) -> Reserved:
        self.recipes.check_stack(request.stack, images=self.registry.engine.isolated)
        if request.name in self.registry.names():
            raise UserError(
                f"There is already a project {request.name}. Type `switch {request.name}`, or choose another name."
            )
        grave = await self.store.read(lambda c: rows.by_name(c, request.name))
        source, taken_up = await asyncio.to_thread(self._choose_source, request, grave)
        if git is not None and source.exists:
            folders.check_empty(source.path)
        if grave is not None and grave.contained and not self.registry.engine.isolated:
            raise UserError(
                f"{request.name} lived in a container, and what its agents wrote into its home does not run without "
                "one. Start Docker, then the gateway again; or choose another name."
            )
        owner, port = None, None
        if self.registry.engine.isolated:
            owner = await self.containers.owner_of(source)
            port = await self._port_of(grave)
        token = secrets.token_urlsafe(32)

        def unit(connection: Connection) -> tuple[Project, int | None]:
            project = rows.reserve(
                connection,
                name=request.name,
                path=source.path,
                adopted=source.adopted,
                made_source=not source.exists,
                wanted=wish(request.stack),
                token=token,
                permissions=self.setup.permissions,
                created_by=request.by,
                owner=owner,
                ssh_port=port,
            )
            before = conversations.by_id(connection, request.conversation_id).project_id
            if request.switches:
                conversations.switch(connection, request.conversation_id, project.id)
            lead = self.registry.lead
            return project, None if lead is not None and lead.id == before else before

        try:
            project, before = await self.store.write(unit)
        except rows.Taken:
            raise UserError(f"There is already a project {request.name}.") from None
        self.registry.admit(project)
        return Reserved(project, taken_up, before)

    async def _port_of(self, grave: Project | None) -> int:
        """The port that a tombstone kept, if nobody has it by now; else the next. Raises UserError."""
        if grave is not None and grave.ssh_port is not None:
            if await asyncio.to_thread(listens_nowhere, grave.ssh_port):
                return grave.ssh_port
            log.warning("port %s of %s is used by another program now", grave.ssh_port, grave.name)
        return await self.containers.free_port()

    def _choose_source(self, request: Request, grave: Project | None) -> tuple[Source, bool]:
        """Where the project's files are to be, and whether they are what `delete` kept. Raises UserError."""
        places = self.setup.places
        taken = [project.path for project in self.registry.all()]
        if grave is None or request.path is not None or not grave.path.is_dir():
            return places.choose(request.name, request.path, adopt=request.adopt, taken=taken), False
        # What `delete` kept is taken up again: source, home and history.
        kept = places.choose(request.name, str(grave.path), adopt=True, taken=taken)
        if kept.path != grave.path:
            raise UserError(f"{grave.path} has become a link; choose a folder with --path.")
        return Source(grave.path, grave.adopted, exists=True), True

    # --- undo --------------------------------------------------------------------------------------------------------

    async def keep(self, project: Project) -> Project:
        """A bootstrap is done: what was taken is kept. Raises StateError."""
        return await self.store.write(lambda c: rows.change(c, project.id, ready_at=clock.now()))

    async def undo(self, project: Project, here: int | None = None, before: int | None = None) -> Undone:
        """Remove what a bootstrap made. A project that was taken up again becomes the tombstone that it was.

        Conversation `here`, which asked for it and is told, gets project `before` active again, unless that is gone
        or its people have switched meanwhile.
        """
        told = "Nothing was left behind"
        with self.leftovers.ended_here(project):
            project = self.registry.dismiss(project)
            try:
                await self.containers.take_down(project)
            except EngineError as error:  # it is removed as belonging to nobody, once the engine answers
                log.error("%s is not down yet: %s", project.name, error)
                told = "Its container goes as soon as the engine removes it; nothing else was left behind"
                await self.containers.close_wire(project)
        stopped = await self.containers.stop_runs(project, "The project could not be created.", None)

        def unit(connection: Connection) -> None:
            still_here = here is not None and conversations.by_id(connection, here).project_id == project.id
            if project.revived:
                rows.rebury(connection, project.id)
            else:
                rows.erase(connection, project.id)
            if here is not None and still_here and before is not None and self.registry.by_id(before) is not None:
                conversations.switch(connection, here, before)

        try:
            await self.store.write(unit)
        finally:
            await asyncio.to_thread(self._unmake, project)
            await self.leftovers.after_change()
        return Undone(stopped, told)

    def _unmake(self, project: Project) -> None:
        """Remove the files that a bootstrap made; those that a tombstone kept stay."""
        folders.unmake_source(project)
        if project.revived:
            ssh.forget_client_key(self.registry.paths(project))
        else:
            folders.remove(self.registry.paths(project).folder)

    async def undo_unfinished(self, name: str) -> None:
        """Undo a bootstrap of that name that no process is working on any more. Its lock is held."""
        # As it is stored: people may not have been told yet of one that is READY.
        found = await self.store.read(lambda c: rows.by_name(c, name))
        if found is not None and self.registry.by_id(found.id) is not None and found.ready_at is None:
            log.warning("undoing the unfinished bootstrap of %s", name)
            await self.undo(found)
