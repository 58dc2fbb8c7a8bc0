"""Rebuilds: a project gets a container of today's image, and its source is told what that has."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.dispatcher import Stopped
from gateway.engine import ImagePlan
from gateway.errors import BuildFailed, EngineError, SledError, UserError, VersionMissing
from gateway.lifecycle import Lifecycle
from gateway.recipes import stored, text, wish
from gateway.store.projects import Project
from stacks.own import Own
from stacks.reading import PROJECT_FILE
from stacks.recipe import Recipe, shortfalls
from stacks.words import head, record

_RECORD_WITHIN_S = 30.0
#: Seconds that a command which a source runs in a new container may take.
COMMAND_WITHIN_S = 900.0
#: Seconds that an image is kept whose project waits for somebody's word: longer than a question is open.
_ASKED_S = 300.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What a rebuild is to change. `stack`: another primary one (`auto`: the files decide); `own`: the source's
    additions, as an operator has just confirmed them; `accept`: versions to go on without; `fresh`: fetch everything
    anew, also what has not changed here. None: as it was."""

    stack: str | None = None
    own: Own | None = None
    accept: tuple[str, ...] = ()
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild changed: the layers that had to be built, and whether the project runs another image now.

    `said`: what the commands said that its source runs in a new container.
    """

    project: Project
    recipe: Recipe
    built: list[str]
    changed: bool
    stopped: Stopped
    said: list[str]


def recipe_columns(recipe: Recipe, plan: ImagePlan) -> dict[str, object]:
    """What is stored of a project that runs by a recipe from now on."""
    layers = " ".join(layer.tag for layer in plan.layers)
    return {"image": plan.image, "layers": layers, "stack": recipe.plan.stack, "recipe": text(recipe)}


class Rebuilds(Lifecycle):
    """Adds to `Lifecycle` what changes a project's container."""

    def check_versions(self, recipe: Recipe, plan: ImagePlan) -> None:
        """Raises VersionMissing for an image that lacks what its source asks for, unless an operator accepted that.

        The image stays for whoever is asked now, for a while.
        """
        missing = [found for found in shortfalls(recipe.plan, recipe.told) if found.key not in recipe.accepted]
        if not missing:
            return
        self._coming.update(plan.tags)
        asyncio.get_running_loop().call_later(_ASKED_S, self._let_go, plan)
        raise VersionMissing(" ".join(f"{found.why}." for found in missing), keys=tuple(f.key for f in missing))

    def _let_go(self, plan: ImagePlan) -> None:
        self._coming -= Counter(plan.tags)
        self._owing = True  # the loop clears it away, unless a project has it by now

    async def rebuild(self, project: Project, here: int, changes: Changes, said: Callable[[str], None]) -> Rebuilt:
        """Give the project a container of today's image; source, home, sessions, port and host key stay.

        The image is built first: the project goes on meanwhile, and stays as it is if that fails.

        Raises:
            VersionMissing: the new image lacks a version that the source asks for.
            UserError: anything else; the text says what, and what to type.
        """
        async with self._lock(project.name):
            project = await self._settle_in(self._still(project))
            wanted = project.wanted if changes.stack is None else wish(changes.stack)
            before = stored(project)
            recipe = Recipe(
                await self.recipes.decide(project.path, wanted),
                before.own if changes.own is None else changes.own,
                tuple(sorted({*before.accepted, *changes.accept})),
                time.strftime("%Y-%m-%dT%H:%M:%S") if changes.fresh else before.fresh,
            )
            plan = self.recipes.image(recipe)
            with self._keeping(plan):
                try:
                    await self._furnish(project)
                    prepared = await self._engine.prepare(self.spec(project), plan, said)
                except (EngineError, OSError) as error:
                    log_of = (
                        f"\n`logs {project.name} build` has the whole log." if isinstance(error, BuildFailed) else ""
                    )
                    raise UserError(f"Rebuilding {project.name} failed; it is as it was. {error}{log_of}") from error
                recipe = replace(recipe, told=prepared.told)
                self.check_versions(recipe, plan)
                stopped = await self._stop_runs(project, f"{project.name} was rebuilt.", here)
                await self._down_or_explain(project)
                changed = project.image != plan.image
                values = recipe_columns(recipe, plan)
                project = await self._change(project, **values, wanted=wanted, desired="up")
            await self._up_or_explain(project)
            lines = await self._settle_source(project, recipe)
        await self._after_change()
        return Rebuilt(project, recipe, prepared.built, changed, stopped, lines)

    async def _settle_source(self, project: Project, recipe: Recipe) -> list[str]:
        """What belongs into the source of a project that is up in a new container: the record, and its own commands.

        What people should know of it. Nothing of it makes a project fail that is up already.
        """
        try:
            await self._call(project, "record", {"head": head(), "record": record(recipe)}, _RECORD_WITHIN_S)
        except SledError as error:
            return [f"{PROJECT_FILE} was not written: {error}"]
        lines = []
        for command in recipe.own.commands:
            try:
                await self._call(project, "run", {"command": command}, COMMAND_WITHIN_S)
            except SledError as error:
                lines.append(f"`{command}` failed: {error}")
                break
            lines.append(f"`{command}` ran")
        return lines
