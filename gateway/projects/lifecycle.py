"""What people do with an existing project: up, down, restart, delete, and its settings.

What they asked for is stored first; reconciling makes it so. Nothing here depends on how a project came to be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gateway.errors import UserError
from gateway.projects.containers import Containers
from gateway.projects.leftovers import Leftovers
from gateway.projects.registry import Registry
from gateway.projects.releases import Releases
from gateway.store import Store
from gateway.store import projects as rows
from gateway.store.projects import Project
from gateway.store.releases import By
from gateway.turns import Dispatcher, Stopped


class Lifecycle:
    """See the module. A project that is gone meanwhile is a UserError in all of these."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        containers: Containers,
        leftovers: Leftovers,
        dispatcher: Dispatcher,
        *,
        releases: Releases,
    ) -> None:
        self._store = store
        self._registry = registry
        self._containers = containers
        self._leftovers = leftovers
        self._dispatcher = dispatcher
        self._releases = releases

    async def up(self, project: Project) -> None:
        """Start the project. Raises UserError."""
        async with self._registry.lock(project.name):
            project = await self._registry.change(self._registry.still(project), desired="up")
            await self._containers.bring_up(project)

    async def down(self, project: Project, here: int) -> Stopped:
        """End the project until it is wanted again; its runs are stopped. Raises UserError."""
        async with self._registry.lock(project.name):
            project = self._registry.still(project)
            stopped = await self._containers.stop_runs(project, f"{project.name} was taken down.", here)
            project = await self._registry.change(project, desired="down")
            with _telling(stopped):
                await self._containers.bring_down(project)
        return stopped.by_force()

    async def restart(self, project: Project, here: int) -> Stopped:
        """End the sled and start a fresh one. Raises UserError."""
        async with self._registry.lock(project.name):
            project = self._registry.still(project)
            stopped = await self._containers.stop_runs(project, f"{project.name} was restarted.", here)
            with _telling(stopped):
                await self._containers.bring_down(project)
                project = await self._registry.change(project, desired="up")
                await self._containers.bring_up(project)
        return stopped.by_force()

    async def delete(self, project: Project, here: int, *, purge: bool) -> tuple[Stopped, list[str], list[str]]:
        """End a project: what was stopped, what is gone, what is kept. The caller tells conversation `here`.

        Raises UserError.
        """
        async with self._registry.lock(project.name):
            project = self._registry.still(project)
            # The tombstone first: a gateway killed from here on goes on deleting, and resurrects nothing; and nobody
            # can write to it any more, so that what is stopped then is all there is.
            await self._store.write(lambda c: rows.bury(c, project.id, purging=purge))
            with self._leftovers.ended_here(project):
                self._registry.dismiss(project)
                stopped = await self._containers.stop_runs(project, f"{project.name} was deleted.", here)
                stays = await self._leftovers.end(project)
                await self._dispatcher.forget(project.id)
            removed, kept = await self._leftovers.clear(project, purge=purge, stays=stays)
        removed += [f"image {tag}" for tag in await self._leftovers.after_change()]
        return stopped if stays else stopped.by_force(), removed, kept

    async def set_permissions(self, project: Project, mode: str) -> Project:
        """Choose what the project's agents may do."""
        return await self._set(project, permissions=mode)

    async def set_model(self, project: Project, model: str, by: By) -> Project:
        """Choose the model of the project's agents, as its next release; empty: what the configuration says."""
        return await self._set(project, by, model=model)

    async def set_agent(self, project: Project, agent: str, by: By) -> Project:
        """Choose what answers in the project, as its next release; empty: what the configuration says."""
        return await self._set(project, by, agent=agent)

    async def _set(self, project: Project, by: By | None = None, **values: str) -> Project:
        async with self._registry.lock(project.name):
            project = await self._registry.change(self._registry.still(project), None, **values)
            if by is not None:
                await self._releases.note(project, by)
            return project


@contextlib.contextmanager
def _telling(stopped: Stopped) -> Iterator[None]:
    """What was stopped is told by whoever asked for it, also when what follows fails."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}{stopped.told}") from error
