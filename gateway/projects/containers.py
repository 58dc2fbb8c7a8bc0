"""A project's container, or its process: furnished, started, ended; and jobs for the sled in it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable

from gateway.config.git_identity import Identity
from gateway.engine import LogOf
from gateway.engine.log_file import tail
from gateway.errors import EngineError, SledAway, SledError, StateError, UserError
from gateway.projects import shared, ssh
from gateway.projects.places import Source, choose_owner
from gateway.projects.ports import choose_port
from gateway.projects.registry import Registry, Setup
from gateway.projects.users import choose_user
from gateway.store import Store
from gateway.store import projects as rows
from gateway.store.projects import Project
from gateway.turns import Dispatcher, Stopped
from gateway.wire import Sleds
from sled.protocol import Call, Job

log = logging.getLogger(__name__)

#: Seconds within which a started sled has to report, and its SSH server to let us in.
HELLO_WITHIN_S = 30.0
SSH_WITHIN_S = 30.0
_INTRODUCED_WITHIN_S = 10.0


class Containers:
    """See the module. Whoever calls holds the project's lock."""

    def __init__(self, store: Store, registry: Registry, sleds: Sleds, dispatcher: Dispatcher, setup: Setup) -> None:
        self._store = store
        self._registry = registry
        self._engine = registry.engine
        self._sleds = sleds
        self._dispatcher = dispatcher
        self._ssh_ports = setup.ssh_ports
        self._user_ids = setup.user_ids
        self._git_identity = setup.git_identity
        #: Held while a project is given its folder and port: no two may be given the same.
        self.reserving = asyncio.Lock()

    # --- up and down -------------------------------------------------------------------------------------------------

    async def bring_up(self, project: Project) -> None:
        """Start the project, until it answers. Raises UserError."""
        try:
            self.check_engine(project)
            await self.furnish(project)
            await self.start(project)
            await self.answers_ssh(project)
        except (EngineError, SledError, OSError) as error:
            await self._registry.change(project, last_error=str(error))
            raise UserError(f"{project.name} did not come up: {error} See `logs {project.name}`.") from error
        await self._registry.change(project, last_error="")
        self.begin(project)

    async def bring_down(self, project: Project) -> None:
        """End the project's sled, and with it what it runs. Raises UserError."""
        try:
            await self.take_down(project)
        except EngineError as error:
            raise UserError(f"{project.name} did not go down: {error}") from error
        finally:
            for work in self._dispatcher.interrupt_all(project.id):
                await work

    def begin(self, project: Project) -> None:
        """The project is up, and people have been told: what waits for it may start."""
        self._registry.is_ready(project)
        self._dispatcher.on_connected(project.id)

    async def stop_runs(self, project: Project, reason: str, here: int | None) -> Stopped:
        """Stop what the project runs; conversations other than `here` are told there."""
        told = [] if here is None else [here]
        return await self._dispatcher.stop(reason, project_id=project.id, conversations=[], told=told)

    def has_work(self, project: Project) -> bool:
        """Whether a run of the project is under way, or begins."""
        return self._dispatcher.is_at_work(project.id)

    # --- its parts ---------------------------------------------------------------------------------------------------

    def check_engine(self, project: Project) -> None:
        """A project that was made in a container never runs without one. Raises EngineError."""
        if project.image and not self._engine.isolated:
            raise EngineError(
                f"{project.name} lives in a container, and this gateway runs on the {self._engine.kind} engine. "
                "Start Docker, then the gateway again."
            )
        if not project.image and self._engine.isolated:
            raise EngineError(f"{project.name} was made without a container: `rebuild {project.name}` gives it one.")

    async def settle_in(self, project: Project) -> Project:
        """Give a project that was made without a container what one needs. Raises UserError."""
        if project.image:
            return project
        owner = await asyncio.to_thread(choose_owner, Source(project.path, project.adopted, exists=True))
        async with self.reserving:
            port = project.ssh_port or await self.free_port()
            # A new token: a sled that is still a process of this host must not be taken for the one in the container.
            token = secrets.token_urlsafe(32)
            project = await self._registry.change(project, uid=owner[0], gid=owner[1], ssh_port=port, token=token)
        await self.leave_the_host(project)
        return project

    async def leave_the_host(self, project: Project) -> None:
        """End what a project without a container left running on this host, where an engine isolates now."""
        from gateway.engine.process import ProcessEngine  # seldom needed, and slow to import

        try:
            await ProcessEngine({}).stop(self._registry.spec(project))
        except EngineError as error:
            log.error("%s: %s", project.name, error)

    async def free_port(self) -> int:
        """The next SSH port that nobody has. Raises UserError."""
        everything = await self._store.read(rows.all_projects)
        taken = {project.ssh_port for project in everything if project.ssh_port is not None}
        newest = max(everything, key=lambda project: (project.created_at, project.id), default=None)
        last = newest.ssh_port if newest is not None else None
        return await asyncio.to_thread(choose_port, self._ssh_ports, taken, last)

    async def owner_of(self, source: Source) -> tuple[int, int]:
        """Whom a new project runs as; with `reserving` held. Raises UserError."""
        if source.exists or os.geteuid() != 0 or not self._user_ids:
            return await asyncio.to_thread(choose_owner, source)
        everything = await self._store.read(rows.all_projects)
        taken = {project.owner[0] for project in everything if project.owner is not None}
        uid = await asyncio.to_thread(choose_user, self._user_ids, taken)
        return uid, uid

    async def furnish(self, project: Project) -> None:
        """Make keys, accounts and folders of the project's container. Raises OSError."""
        if self._engine.isolated:
            spec = self._registry.spec(project)
            await ssh.furnish(spec)
            await asyncio.to_thread(shared.furnish, spec)

    async def open_wire(self, project: Project) -> None:
        """Listen on the project's socket. Raises OSError, UserError."""
        spec = self._registry.spec(project)
        await self._sleds.open(project.id, project.token, spec.paths.socket)
        if self._engine.isolated:
            await asyncio.to_thread(ssh.own, spec, spec.paths.wire, spec.paths.socket)

    async def close_wire(self, project: Project) -> None:
        """Stop listening on it."""
        await self._sleds.close(self._registry.paths(project).socket)

    async def start(self, project: Project) -> None:
        """Start the sled and wait for its hello. Raises EngineError, OSError."""
        spec = self._registry.spec(project)
        await self.open_wire(project)
        await self._engine.start(spec)
        try:
            await self._sleds.arrival(project.id, HELLO_WITHIN_S)
        except SledAway as error:
            last = await self._engine.logs(spec, "sled", 5)
            raise EngineError(f"{error}; its last words: {last or 'none'}") from error
        if self._git_identity.must_tell(project.id):
            await self._introduce(project)

    async def answers_ssh(self, project: Project) -> None:
        """Log in over SSH, where there is any. Raises EngineError."""
        if (way := self._registry.access(project)) is not None:
            await ssh.answers(way, SSH_WITHIN_S)

    async def take_down(self, project: Project) -> None:
        """End the sled, and stop listening for it. Raises EngineError."""
        await self._engine.stop(self._registry.spec(project))
        await self.close_wire(project)

    # --- what it says ------------------------------------------------------------------------------------------------

    async def call(
        self,
        project: Project,
        job: Job,
        arguments: dict[str, str],
        within_s: float,
        said: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Give the project's sled a job; what it answers. `said` hears how it goes. Raises SledError."""
        call = Call(call=self._sleds.new_call_id(), job=job, arguments=arguments)
        return await self._sleds.call(project.id, call, within_s, said)

    async def identify(self, identity: Identity | None) -> list[str]:
        """Make commits bear another name in all projects; None: the configured one. Which of them are yet to be told.

        Raises StateError.
        """
        ready = [project for project in self._registry.all() if project.ready_at is not None]
        self._git_identity.choose(identity, [project.id for project in ready])
        await asyncio.gather(*(self._introduce(project) for project in ready if project.desired == "up"))
        return [project.name for project in ready if self._git_identity.must_tell(project.id)]

    async def _introduce(self, project: Project) -> None:
        """Tell a project whose name its commits bear; if it does not hear it now, its next start will."""
        found = await self._git_identity.find()
        arguments = {"git": "no", "user_name": found.name, "user_email": found.email, "identity": "replace"}
        try:
            await self._sleds.arrival(project.id, _INTRODUCED_WITHIN_S)
            await self.call(project, "init", arguments, _INTRODUCED_WITHIN_S)
            self._git_identity.told(project.id)
        except (SledError, StateError) as error:
            log.warning("%s was not told whose name its commits bear: %s", project.name, error)

    async def logs(self, project: Project, of: LogOf | str, lines: int) -> str:
        """The last lines of the project's sled, its agents, or its latest build. Raises EngineError."""
        if of == "build":
            return await asyncio.to_thread(tail, self._registry.paths(project).build_log, lines)
        return await self._engine.logs(self._registry.spec(project), "agent" if of == "agent" else "sled", lines)
