"""What a project leaves behind: containers, images, files and names that nobody accounts for are removed.

After each change the engine's containers and images are compared with the registry, which is asked after the look. So
a deletion that a kill or a frozen engine cut off is finished by the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gateway.errors import EngineError, UserError
from gateway.projects import folders, ssh
from gateway.projects.containers import Containers
from gateway.projects.recipes import Recipes
from gateway.projects.registry import Registry
from gateway.store import Store
from gateway.store import projects as rows
from gateway.store.projects import Project

log = logging.getLogger(__name__)


class Leftovers:
    """See the module. `released`: the images that projects may go back to. `forget` is told each name of which nothing
    is kept."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        containers: Containers,
        recipes: Recipes,
        released: Callable[[], set[str]],
        *,
        state_dir: Path,
        forget: Callable[[str], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._engine = registry.engine
        self._containers = containers
        self._recipes = recipes
        self._released = released
        self._state_dir = state_dir
        self._forget = forget
        #: Images to keep although no project runs on them yet, or soon none will.
        self._kept: Counter[str] = Counter()
        #: Projects that are no longer among the living, but not down yet.
        self._ending: set[str] = set()
        self._writing_ssh_config = asyncio.Lock()
        #: Something may still have to be removed, as the engine did not answer.
        self.owing = True

    # --- what is not to be removed -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def keeping(self, tags: Iterable[str]) -> Iterator[None]:
        """Keep these images meanwhile, whether a project has them or not."""
        kept = Counter(tags)
        self._kept += kept
        try:
            yield
        finally:
            self._kept -= kept

    def keep_for(self, tags: Iterable[str], seconds: float) -> None:
        """Keep these images for a while."""
        kept = Counter(tags)

        def let_go() -> None:
            self._kept -= kept
            self.owing = True  # the loop removes them, unless a project has them by now

        self._kept += kept
        asyncio.get_running_loop().call_later(seconds, let_go)

    @contextlib.contextmanager
    def ended_here(self, project: Project) -> Iterator[None]:
        """Leave the container of a project that is being taken down in good order to whoever does that."""
        self._ending.add(project.name)
        try:
            yield
        finally:
            self._ending.discard(project.name)

    def _tags_in_use(self) -> set[str]:
        """The images to keep: those of projects, also while they are made, and of their last releases; and the base,
        which is the gateway's.
        """
        keep = {*self._recipes.base.tags, *self._kept, *self._released()}
        for project in self._registry.all():
            keep |= {project.image, *project.layers}
        return keep

    # --- what is removed ---------------------------------------------------------------------------------------------

    async def after_change(self) -> list[str]:
        """What follows from other projects or other images: the Include file, and what nobody uses now is removed."""
        self.owing = True
        try:
            async with self._writing_ssh_config:  # the last to write knows most
                await self._write_ssh_config()
            removed = await self._engine.reap(lambda: self._registry.names() | self._ending, self._tags_in_use)
        except (EngineError, OSError) as error:
            log.warning("clearing up has to wait: %s", error)
            return []
        self.owing = False
        return removed

    async def end(self, project: Project) -> str:
        """Take down a project that is to go; returns why its container is still there, if it is. Raises UserError."""
        try:
            await self._containers.bring_down(project)
        except UserError as error:
            if not self._engine.isolated:
                raise
            self.owing = True
            await self._containers.close_wire(project)
            return str(error.__cause__)
        return ""

    async def clear(self, project: Project, *, purge: bool, stays: str) -> tuple[list[str], list[str]]:
        """Remove what a deletion removes: what is gone, what is kept. `stays`: why the container is still there."""
        # A gateway that may be root does not walk through what a container may still write to; a later start does.
        removed, kept, all_gone = await asyncio.to_thread(self._clear_files, project, purge=purge and not stays)
        if stays:
            removed = [what for what in removed if what not in ("container", "sled")]
            kept.append(f"the container, until the engine removes it ({stays})")
        if all_gone:
            # Before the tombstone goes: cut off in between, the next start comes by here again. The other way round,
            # the next project of that name would find the secret.
            self._forget(project.name)
            await self._store.write(lambda c: rows.erase(c, project.id))
        (removed if all_gone else kept).append("history")
        return removed, kept

    def _clear_files(self, project: Project, *, purge: bool) -> tuple[list[str], list[str], bool]:
        """The third: nothing is left that a purge removes."""
        paths = self._registry.paths(project)
        removed: list[str] = ["container", "client key"] if project.contained else ["sled"]
        removed.append("wire")
        kept: list[str] = []
        folders.remove(paths.wire)
        ssh.forget_client_key(paths)
        home, source = f"home with its sessions ({paths.home})", f"source ({project.path})"
        # What could not be removed is listed as kept: a receipt says what is, not what was meant.
        home_gone = purge and folders.remove(paths.folder)
        source_gone = purge and not project.adopted and folders.remove(project.path)
        (removed if home_gone else kept).append(home)
        (removed if source_gone else kept).append(source)
        all_gone = home_gone and (source_gone or project.adopted)
        if project.contained:
            (removed if all_gone else kept).append(f"host key and SSH port {project.ssh_port}")
        return removed, kept, all_gone

    async def _write_ssh_config(self) -> None:
        """Write the file that people Include, with all projects. Raises OSError."""
        ways = [way for project in self._registry.all() if (way := self._registry.access(project)) is not None]
        if self._engine.isolated:
            await asyncio.to_thread(ssh.write_config, self._state_dir, ways)
