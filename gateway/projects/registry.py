"""The registry: the projects there are. Each change is committed first, then seen here."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.engine import Engine, ProjectPaths, SledSpec
from gateway.errors import UserError
from gateway.projects import ssh
from gateway.projects.places import Places
from gateway.projects.recipes import Recipes, stored
from gateway.store import Store
from gateway.store import projects as rows
from gateway.store.projects import Project
from gateway.wire import Sleds
from sled.protocol import Frame
from stacks.images import BuildInputs, ImagePlan


@dataclass(frozen=True, slots=True)
class Setup:
    """What every project gets from the configuration. `instance` tells this gateway's containers from another's.

    `forget` is told of each name of which nothing is to be kept.
    """

    state_dir: Path
    places: Places
    permissions: str
    #: Whether the project of that name is paid for by a subscription.
    oauth: Callable[[str], bool]
    forget: Callable[[str], None]
    git_identity: Callable[[], Awaitable[tuple[str, str]]]
    default_branch: str
    git_hosts: frozenset[str]
    instance: str
    inputs: BuildInputs
    ssh_ports: range


class Registry:
    """Looks projects up. Also the dispatcher's `Wire`: a sled counts once its project is READY."""

    def __init__(self, store: Store, engine: Engine, sleds: Sleds, setup: Setup) -> None:
        self._store = store
        self._engine = engine
        self._sleds = sleds
        self._setup = setup
        self._living: dict[int, Project] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        #: What projects' containers are made of.
        self.recipes = Recipes(setup.inputs, setup.instance, setup.state_dir / ".stacks")
        #: Images that are being built for a project that does not run on them yet.
        self._coming: Counter[str] = Counter()

    @property
    def engine(self) -> Engine:
        """What runs the sleds."""
        return self._engine

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
        raise UserError(f"There is no project {name}. `projects` lists those there are.")

    def by_id(self, project_id: int) -> Project | None:
        """The project with this id, unless it is gone."""
        return self._living.get(project_id)

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
        )

    def access(self, project: Project) -> ssh.Access | None:
        """How to get in over SSH; None where the engine has none."""
        return ssh.Access.to(self.spec(project)) if self._engine.isolated and project.image else None

    @property
    def include_line(self) -> str:
        """What people put into their SSH configuration, once."""
        return ssh.include_line(self._setup.state_dir)

    async def fingerprint(self, project: Project) -> str:
        """The project's SSH host key, as a client shows it at the first connection. Raises OSError."""
        return await asyncio.to_thread(ssh.fingerprint, self.paths(project))

    def journal(self, project_id: int) -> str | None:
        """See `gateway.turns.dispatcher.Wire`."""
        project = self._living.get(project_id)
        if project is None or project.ready_at is None or project.desired != "up":
            return None
        return self._sleds.journal(project_id)

    async def send(self, project_id: int, frame: Frame) -> bool:
        """See `gateway.turns.dispatcher.Wire`."""
        return await self._sleds.send(project_id, frame)

    async def write_ssh_config(self) -> None:
        """Have the file that people Include name the projects there are. Raises OSError."""
        ways = [way for project in self.all() if (way := self.access(project)) is not None]
        if self._engine.isolated:
            await asyncio.to_thread(ssh.write_config, self._setup.state_dir, ways)

    def _tags_in_use(self) -> set[str]:
        """The images to keep: those of projects, also while one is being made, and the base, which is the gateway's."""
        keep = {*self.recipes.base.tags, *self._coming}
        for project in self._living.values():
            keep |= {project.image, *project.layers}
        return keep

    @contextlib.contextmanager
    def _keeping(self, plan: ImagePlan) -> Iterator[None]:
        """Have nobody clear away what is built here before a project has it."""
        self._coming.update(plan.tags)
        try:
            yield
        finally:
            self._coming -= Counter(plan.tags)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _change(self, project: Project, **values: object) -> Project:
        changed = await self._store.write(lambda c: rows.change(c, project.id, **values))
        if project.id in self._living:  # what was deleted meanwhile stays deleted
            self._living[project.id] = changed
        return changed

    def _still(self, project: Project) -> Project:
        """The project as it is now, asked for once its lock is held. Raises UserError when it is gone."""
        current = self._living.get(project.id)
        if current is None:
            raise UserError(f"There is no project {project.name}. `projects` lists those there are.")
        return current
