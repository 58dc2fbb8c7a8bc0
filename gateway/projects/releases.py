"""Releases of projects: numbered, with images that stay for as long as somebody may want to go back."""

from __future__ import annotations

from gateway.errors import UserError
from gateway.projects.registry import Registry
from gateway.store import Store, releases
from gateway.store.projects import Project
from gateway.store.releases import By, Release

#: Of each project, how many releases keep their images.
KEPT = 3
#: How many are listed.
_SHOWN = 20
#: What stands for all that a project had before releases were counted.
_BEFORE = By("as it was when releases began to be counted", "")


class Releases:
    """See the module. Whoever notes one holds the project's lock."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        #: The images to keep, by project.
        self._images: dict[int, set[str]] = {}
        #: What each project runs with, in words.
        self._told: dict[int, str] = {}

    async def recover(self) -> None:
        """Read which images to keep. A project of an earlier version of huskies gets its first release."""
        for project in self._registry.all():
            if project.ready_at is not None and not await self._newest(project, 1):
                await self.note(project, _BEFORE)
            await self._remember(project)

    def images(self) -> set[str]:
        """What living projects may go back to."""
        living = {project.id for project in self._registry.all()}
        self._images = {key: tags for key, tags in self._images.items() if key in living}
        return set[str]().union(*self._images.values())

    def told(self, project_id: int) -> str:
        """With which release a project runs, for its agent."""
        return self._told.get(project_id, "")

    async def note(self, project: Project, by: By) -> Release:
        """A project runs with what it has now. Raises StateError."""
        made = await self._store.write(lambda c: releases.add(c, project, by))
        await self._remember(project)
        return made

    async def note_attempt(self, project: Project, by: By, told: str) -> None:
        """Something did not come about, and why. Raises StateError."""
        await self._store.write(lambda c: releases.add_attempt(c, project, by, told))

    async def note_image(self, project: Project) -> None:
        """A project has a newer image of the same recipe. Raises StateError."""
        for release in await self._newest(project, 1):
            await self._store.write(lambda c, r=release: releases.set_image(c, r.id, project.image, _text(project)))  # type: ignore[misc]
        await self._remember(project)

    async def shown(self, project: Project) -> list[Release]:
        """The newest ones, oldest first, with what was tried in vain."""
        return await self._store.read(lambda c: releases.of_project(c, project.id, _SHOWN))

    async def current(self, project: Project) -> Release | None:
        """What it runs with."""
        return next(iter(await self._newest(project, 1)), None)

    async def find(self, project: Project, number: int | None) -> Release:
        """The one of that number; else the one before what it runs with. Raises UserError."""
        found = await self._newest(project, 2)
        if number is not None:
            wanted = await self._store.read(lambda c: releases.by_number(c, project.id, number))
            if wanted is None:
                raise UserError(f"{project.name} has no release {number}. `releases {project.name}` lists them.")
            if found and wanted.id == found[0].id:
                raise UserError(f"{project.name} runs with release {number} already.")
            return wanted
        if len(found) < 2:
            raise UserError(f"{project.name} has no release before the one that it runs with.")
        return found[1]

    async def _newest(self, project: Project, limit: int) -> list[Release]:
        return await self._store.read(lambda c: releases.newest(c, project.id, limit))

    async def _remember(self, project: Project) -> None:
        kept = await self._newest(project, KEPT)
        self._images[project.id] = {tag for one in kept for tag in (one.image, *one.layers)} - {""}
        for now in kept[:1]:
            reason = f", because {now.reason}" if now.reason else ""
            self._told[project.id] = f"release {now.number} ({now.what}{reason})"


def _text(project: Project) -> str:
    return " ".join(project.layers)
