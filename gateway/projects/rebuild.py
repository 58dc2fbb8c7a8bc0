"""Rebuilding: a project gets a container of today's image, and its source gets a record of what is in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import BuildFailed, EngineError, SledError, UserError
from gateway.projects.builds import Builds, columns
from gateway.projects.containers import Containers
from gateway.projects.leftovers import Leftovers
from gateway.projects.recipes import Recipes, read, stored, wish
from gateway.projects.registry import Registry
from gateway.projects.releases import Releases
from gateway.store.projects import Project
from gateway.store.releases import By, Release
from gateway.turns import Stopped
from stacks.own import Own
from stacks.recipe import Recipe
from stacks.words import outgrown

log = logging.getLogger(__name__)

#: Seconds that all the commands that a source runs in a new container may take together.
COMMANDS_WITHIN_S = 1800.0
#: What a project has again if its new container does not come up, besides its image and layers.
_OF_A_RELEASE = ("stack", "recipe", "wanted", "model", "agent", "limits")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a rebuild is to change. None: as it was.

    `stack`: another primary one (`auto`: the files decide); `own`: the source's additions, as an operator has confirmed
    them; `accept`: versions to do without; `fresh`: a stamp with which everything is fetched again, changed or not.
    """

    stack: str | None = None
    own: Own | None = None
    accept: tuple[str, ...] = ()
    fresh: str = ""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild changed: the layers that had to be built, and whether the project runs another image now.

    `said`: what people should know of what its source then ran, and of the record.
    """

    project: Project
    recipe: Recipe
    built: list[str]
    changed: bool
    stopped: Stopped
    said: list[str]
    number: int


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A project runs with an earlier release again, as a new one; `built`: the layers that had to be built for that."""

    project: Project
    to: Release
    number: int
    built: list[str]
    stopped: Stopped


class Rebuild:
    """See the module."""

    def __init__(
        self,
        registry: Registry,
        containers: Containers,
        builds: Builds,
        leftovers: Leftovers,
        recipes: Recipes,
        *,
        releases: Releases,
    ) -> None:
        self._releases = releases
        self._registry = registry
        self._containers = containers
        self._builds = builds
        self._leftovers = leftovers
        self._recipes = recipes

    async def rebuild(
        self, project: Project, here: int, changes: Changes, said: Callable[[str], None], by: By
    ) -> Rebuilt:
        """Give the project a container of today's image, as its next release; source, home, sessions, port and host key
        stay.

        The image is built first: the project runs on meanwhile, and stays as it is if that fails.

        Raises:
            VersionMissing: the new image lacks a version that the source asks for.
            UserError: anything else; the text says what, and what to type.
        """
        async with self._registry.lock(project.name):
            project = await self._containers.settle_in(self._registry.still(project))
            before = stored(project)
            wanted = project.wanted if changes.stack is None else wish(changes.stack)
            recipe = await self._decide_again(project, wanted, changes)
            plan = self._recipes.image(recipe)
            with self._leftovers.keeping({*plan.tags, project.image, *project.layers} - {""}):
                try:
                    prepared = await self._builds.again(project, plan, said)
                except (EngineError, OSError) as error:
                    await self._releases.note_attempt(project, by, str(error))
                    log_of = (
                        f"\n`logs {project.name} build` has the whole log." if isinstance(error, BuildFailed) else ""
                    )
                    raise UserError(f"Rebuilding {project.name} failed; nothing changed. {error}{log_of}") from error
                recipe = self._builds.settled(recipe, plan, prepared.told)
                stopped = await self._containers.stop_runs(project, f"{project.name} was rebuilt.", here)
                changed = project.image != plan.image
                values = {**columns(recipe, plan), "wanted": wanted, "desired": "up"}
                project = await self._exchange(project, values, by)
                number = (await self._releases.note(project, by)).number or 0
        lines = outgrown(before.told, recipe.told) + await self._tell_source(project, recipe, said)
        await self._leftovers.after_change()
        return Rebuilt(project, recipe, prepared.built, changed, stopped.by_force(), lines, number)

    async def rollback(
        self, project: Project, here: int, number: int | None, said: Callable[[str], None], by: By
    ) -> RolledBack:
        """Let a project run with the image, model, agent and limits of an earlier release; None: the one before.

        Source and home stay as they are. Raises UserError: nothing changed.
        """
        async with self._registry.lock(project.name):
            project = self._registry.still(project)
            to = await self._releases.find(project, number)
            values, built = {**to.values(), "desired": "up"}, list[str]()
            if self._registry.engine.isolated:
                if not to.image:
                    raise UserError(f"Release {to.number} of {project.name} had no container: there is no image.")
                with self._leftovers.keeping({*to.layers, to.image, project.image, *project.layers} - {""}):
                    more, built = await self._image_of(project, to, said, by)
                    stopped, project = await self._go_back(project, here, values | more, by)
            else:
                stopped, project = await self._go_back(project, here, values, by)
            made = await self._releases.note(project, by)
        await self._leftovers.after_change()
        return RolledBack(project, to, made.number or 0, built, stopped.by_force())

    async def _go_back(self, project: Project, here: int, values: dict[str, object], by: By) -> tuple[Stopped, Project]:
        stopped = await self._containers.stop_runs(project, f"{project.name} was rolled back.", here)
        return stopped, await self._exchange(project, values, by)

    async def _image_of(
        self, project: Project, to: Release, said: Callable[[str], None], by: By
    ) -> tuple[dict[str, object], list[str]]:
        """The very image of a release while the engine has it, else one of the same recipe; and what was built."""
        try:
            if await self._registry.engine.has_image(to.image):
                return {"image": to.image, "layers": " ".join(to.layers)}, []
            recipe = read(to.recipe, to.stack)
            plan = self._recipes.image(recipe)
            prepared = await self._builds.again(project, plan, said)
            return columns(self._builds.settled(recipe, plan, prepared.told), plan), prepared.built
        except (EngineError, OSError) as error:
            await self._releases.note_attempt(project, by, str(error))
            raise UserError(f"Release {to.number} could not be built again; nothing changed. {error}") from error

    async def set_limits(self, project: Project, here: int, limits: str, by: By) -> tuple[Project, Stopped, int]:
        """Give a project a container with other limits, as its next release. Raises UserError."""
        async with self._registry.lock(project.name):
            project = self._registry.still(project)
            values: dict[str, object] = {"limits": limits, "desired": "up"}
            stopped = await self._containers.stop_runs(project, f"{project.name} got other limits.", here)
            project = await self._exchange(project, values, by)
            made = await self._releases.note(project, by)
        return project, stopped.by_force(), made.number or 0

    async def renew(self, project: Project) -> bool:
        """Give a project the sled of this version of huskies, in the image that it has otherwise.

        False while that has to wait, as somebody uses it. What it has finished was taken when it reported. Raises
        UserError, EngineError, OSError.
        """
        async with self._registry.lock(project.name):
            project = self._registry.still(project)
            if project.desired != "up" or project.ready_at is None or await self._is_used(project):
                return False
            recipe = stored(project)
            values: dict[str, object] = {"desired": "up"}
            if self._registry.engine.isolated:
                plan = self._recipes.image(recipe)
                with self._leftovers.keeping({*plan.tags, project.image, *project.layers} - {""}):
                    prepared = await self._builds.again(project, plan, lambda _: None)
                    values |= columns(self._builds.settled(recipe, plan, prepared.told), plan)
            try:
                with self._registry.paused(project):
                    if await self._is_used(project):  # somebody came while it was built
                        return False
                    log.info("%s gets a sled of this version", project.name)
                    project = await self._exchange(project, values)
                await self._releases.note_image(project)
            finally:
                self._containers.begin(project)  # what came meanwhile waits
        await self._leftovers.after_change()
        return True

    async def _is_used(self, project: Project) -> bool:
        if self._containers.has_work(project):
            return True
        return await self._registry.engine.people_inside(self._registry.spec(project)) > 0

    async def _decide_again(self, project: Project, wanted: str, changes: Changes) -> Recipe:
        """What the project is to be made of, by its source as it is now. Raises UserError."""
        before = stored(project)
        return Recipe(
            await self._recipes.decide(project.path, wanted),
            before.own if changes.own is None else changes.own,
            tuple(sorted({*before.accepted, *changes.accept})),
            changes.fresh or before.fresh,
        )

    async def _exchange(self, project: Project, values: dict[str, object], by: By | None = None) -> Project:
        """Give a project its new container; if that does not come up, the one that it had. Raises UserError."""
        before = {name: getattr(project, name) for name in ("image", *_OF_A_RELEASE)}
        before["layers"] = " ".join(project.layers)
        await self._containers.bring_down(project)
        changed = await self._registry.change(project, None, **values)
        try:
            await self._containers.bring_up(changed)
        except UserError as error:
            if by is not None:
                await self._releases.note_attempt(changed, by, str(error))
            if not before["image"]:
                raise
            changed = await self._registry.change(changed, **before)
            await self._containers.bring_down(changed)
            await self._containers.bring_up(changed)
            raise UserError(f"{error} So {project.name} is back in a container like the one it had.") from error
        return changed

    # --- the source --------------------------------------------------------------------------------------------------

    async def _tell_source(self, project: Project, recipe: Recipe, said: Callable[[str], None]) -> list[str]:
        """The record, and the source's own commands in a container that is new; what people should know about it.

        The project may be taken down or deleted meanwhile: then they end.
        """
        lines = await self._builds.record(project, recipe)
        clock = asyncio.get_running_loop().time
        until = clock() + COMMANDS_WITHIN_S
        for command in recipe.own.commands:
            shown = command.splitlines()[0]
            said(f"Running {shown}")
            left = max(1.0, until - clock())
            arguments = {"command": command, "within_s": f"{left:.0f}"}
            try:
                await self._containers.call(project, "run", arguments, left + 10, said)
            except SledError as error:
                lines.append(f"`{shown}` failed: {error}")
                break
            lines.append(f"`{shown}` ran")
        said("")
        return lines
