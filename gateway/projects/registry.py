"""The registry of all projects. Each change is committed first, then seen here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from gateway.config.git_identity import GitIdentity
from gateway.engine import Engine, ProjectPaths, SledSpec, Way
from gateway.errors import UserError
from gateway.events import Events, ProjectChanged
from gateway.projects import limits, skills, ssh
from gateway.projects.places import Places
from gateway.projects.recipes import stored
from gateway.store import Connection, Store, conversations
from gateway.store import projects as rows
from gateway.store.projects import Project
from gateway.turns import RunSettings
from gateway.wire import Sleds
from sled.protocol import Frame
from stacks.images import BuildInputs


@dataclass(frozen=True, slots=True)
class Setup:
    """What every project gets from the configuration. `instance` tells this gateway's containers from another's.

    `agent` is what answers in the project of that name unless its operators chose something else, with `model`.
    `forget` is told each name of which nothing is kept.
    """

    state_dir: Path
    places: Places
    permissions: str
    agent: Callable[[str], str]
    model: str
    #: Whether the project of that name is paid for by a subscription.
    oauth: Callable[[str], bool]
    forget: Callable[[str], None]
    git_identity: GitIdentity
    default_branch: str
    git_hosts: frozenset[str]
    instance: str
    inputs: BuildInputs
    ssh_ports: range
    #: Empty where projects share a user.
    user_ids: range
    #: The account of this host that gets into new sources.
    host_user: int | None


class Registry:
    """Looks projects up. Also the dispatcher's `Wire`: a sled counts once its project is READY."""

    def __init__(self, store: Store, engine: Engine, sleds: Sleds, setup: Setup, events: Events) -> None:
        self._store = store
        self._events = events
        #: What runs the sleds.
        self.engine = engine
        self._sleds = sleds
        self._setup = setup
        self._living: dict[int, Project] = {}
        self._paused: set[int] = set()
        #: Each for as long as somebody holds it, or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def recover(self) -> None:
        """Load the projects; what should run is started by reconciling."""
        for project in await self._store.read(rows.all_projects):
            if project.desired != "deleted":
                self.admit(project)

    # --- which there are ---------------------------------------------------------------------------------------------

    def names(self) -> set[str]:
        """The names of all projects."""
        return {project.name for project in self._living.values()}

    def all(self) -> list[Project]:
        """All projects, by name."""
        return sorted(self._living.values(), key=lambda project: project.name)

    def get(self, name: str) -> Project:
        """The project of that name. Raises UserError."""
        for project in self._living.values():
            if project.name == name:
                return project
        raise UserError(f"There is no project {name}. Type `projects` to see them all.")

    def by_id(self, project_id: int) -> Project | None:
        """The project with this id, unless it is gone."""
        return self._living.get(project_id)

    async def active_in(self, conversation_id: int) -> Project | None:
        """The project that a conversation is about."""
        here = await self._store.read(lambda c: conversations.by_id(c, conversation_id))
        return self._living.get(here.project_id) if here.project_id is not None else None

    def name_of(self, project: str, other: str) -> str:
        """The name of the project with this id, as text; `other` for anything else."""
        found = self._living.get(int(project)) if project.isdecimal() else None
        return found.name if found else other

    def state(self, project: Project) -> str:
        """What a project is right now: derived, never stored."""
        if project.ready_at is None:
            return "creating"
        if project.desired == "down":
            return "down"
        if self._sleds.journal(project.id) is not None:
            return "ready"
        return "failed" if project.last_error else "starting"

    def paths(self, project: Project) -> ProjectPaths:
        """The project's places below the state directory."""
        return ProjectPaths.of(self._setup.state_dir, project.name)

    def spec(self, project: Project) -> SledSpec:
        """What the project's sled is like."""
        own = limits.read(project.limits)
        return SledSpec(
            project=project.name,
            paths=self.paths(project),
            source=project.path,
            token=project.token,
            oauth=self._setup.oauth(project.name),
            image=project.image,
            owner=project.owner or (0, 0),
            ssh_port=project.ssh_port or 0,
            environment=stored(project).own.environment,
            memory=own.memory,
            cpus=own.cpus,
            pids=own.pids,
            leads=project.leads,
            skills=folder if (folder := skills.folder(self._setup.state_dir)).is_dir() else None,
        )

    def access(self, project: Project) -> Way | None:
        """How to get in over SSH; None where the engine has none."""
        if not self.engine.isolated or not project.image or project.ssh_port is None:
            return None
        return Way.to(self.paths(project), project.name, project.ssh_port)

    @property
    def include_line(self) -> str:
        """What people put into their SSH configuration, once."""
        return ssh.include_line(self._setup.state_dir)

    def agent(self, project: Project) -> str:
        """What answers in a project: what its operators chose, else what the configuration and its key say."""
        return project.agent or self._setup.agent(project.name)

    def runs_claude(self, project_id: int) -> bool:
        """Whether what answers in the project with this id needs a key of ours."""
        project = self._living.get(project_id)
        return project is not None and self.agent(project) == "claude"

    def model(self, project: Project) -> str:
        """The model that its agents use; empty: their own choice."""
        return project.model or self._setup.model

    def run_settings(self, project_id: int) -> RunSettings:
        """What the project's runs are like now; of one that is gone, what harms nobody."""
        project = self._living.get(project_id)
        if project is None:
            return RunSettings("", "scripted", "ask", isolated=self.engine.isolated, model="")
        return RunSettings(
            project=project.name,
            agent=self.agent(project),
            permissions=project.permissions,
            isolated=self.engine.isolated,
            model=self.model(project),
        )

    async def fingerprint(self, project: Project) -> str:
        """The project's SSH host key, as a client shows it at the first connection. Raises OSError."""
        return await asyncio.to_thread(ssh.fingerprint, self.paths(project))

    def journal(self, project_id: int) -> str | None:
        """See `gateway.turns.running.Wire`."""
        project = self._living.get(project_id)
        if project is None or project.ready_at is None or project.desired != "up" or project_id in self._paused:
            return None
        return self._sleds.journal(project_id)

    def trouble(self, project_id: int) -> str:
        """See `gateway.turns.running.Wire`."""
        project = self._living.get(project_id)
        if project is None or self._sleds.journal(project_id) is not None:
            return ""
        return project.last_error or self._sleds.trouble(project_id)

    def turned_away(self, project: Project) -> str:
        """Why its sled, which came, was not let in; empty where none came."""
        return self._sleds.trouble(project.id)

    def is_foreign(self, project: Project) -> bool:
        """Whether its sled is of another version of huskies than the gateway."""
        return self._sleds.is_foreign(project.id)

    @contextlib.contextmanager
    def paused(self, project: Project) -> Iterator[None]:
        """No run of the project begins until the end of the block."""
        self._paused.add(project.id)
        try:
            yield
        finally:
            self._paused.discard(project.id)

    async def send(self, project_id: int, frame: Frame) -> bool:
        """See `gateway.turns.running.Wire`."""
        return await self._sleds.send(project_id, frame)

    # --- changes -----------------------------------------------------------------------------------------------------

    def lock(self, name: str) -> asyncio.Lock:
        """What is held while anything is done to the project of that name."""
        found = self._locks.get(name)
        if found is None:
            found = self._locks[name] = asyncio.Lock()
        return found

    def still(self, project: Project) -> Project:
        """The project as it is now, asked for once its lock is held. Raises UserError when it is gone.

        Also when another has its name, or its number: what was asked was about that one, and its folders.
        """
        current = self._living.get(project.id)
        if current is None or current.created_at != project.created_at:
            raise UserError(f"There is no project {project.name}. Type `projects` to see them all.")
        return current

    async def change(
        self, project: Project, also: Callable[[Connection], None] | None = None, **values: object
    ) -> Project:
        """Set columns of a project; the project as it is now. `also` is part of the unit. Raises StateError."""

        def unit(connection: Connection) -> Project:
            if also is not None:
                also(connection)
            return rows.change(connection, project.id, **values)

        changed = await self._store.write(unit)
        if project.id in self._living:  # what was deleted meanwhile stays deleted
            self._know(changed)
        return changed

    @property
    def lead(self) -> Project | None:
        """Whose agent answers where no project is active."""
        return next((project for project in self._living.values() if project.leads), None)

    def leads(self, project_id: int) -> bool:
        """Whether the project with this id is the lead."""
        project = self._living.get(project_id)
        return project is not None and project.leads

    async def set_lead(self, project: Project | None) -> None:
        """Make a project the lead, and no other; None: there is none. Raises StateError."""
        await self._store.write(lambda c: rows.set_lead(c, None if project is None else project.id))
        for known in list(self._living.values()):
            leads = project is not None and known.id == project.id
            if known.leads != leads:
                self._know(replace(known, leads=leads))

    def admit(self, project: Project) -> None:
        """A project is among the living."""
        self._know(project)

    def dismiss(self, project: Project) -> Project:
        """A project is no longer among them; the project as it was last."""
        last = self._living.pop(project.id, project)
        self._events.tell(ProjectChanged(project.id))
        return last

    def is_ready(self, project: Project) -> None:
        """A bootstrap is done: from now on its sled counts."""
        if (known := self._living.get(project.id)) is not None and known.ready_at is None:
            self._know(replace(known, ready_at=project.ready_at))

    def _know(self, project: Project) -> None:
        self._living[project.id] = project
        self._events.tell(ProjectChanged(project.id))
