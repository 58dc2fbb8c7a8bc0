"""Rebuilds: a project gets a container of today's image, and its source is told what that has."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from gateway.errors import BuildFailed, EngineError, SledError, UserError, VersionMissing
from gateway.projects.lifecycle import Lifecycle
from gateway.projects.recipes import stored, text, wish
from gateway.store.projects import Project
from gateway.turns import Stopped
from stacks.images import ImagePlan
from stacks.own import Own
from stacks.reading import PROJECT_FILE
from stacks.recipe import Recipe, shortfalls
from stacks.told import Told
from stacks.words import head, record

_RECORD_WITHIN_S = 30.0
#: Seconds that the commands which a source runs in a new container may take together.
COMMANDS_WITHIN_S = 1800.0
#: Seconds that an image is kept whose project waits for somebody's word: longer than a question is open.
_ASKED_S = 300.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What a rebuild is to change. None: as it was.

    `stack`: another primary one (`auto`: the files decide); `own`: the source's additions, as an operator has confirmed
    them; `accept`: versions to go on without; `fresh`: a stamp to fetch everything anew by, also what has not changed.
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


def recipe_columns(recipe: Recipe, plan: ImagePlan) -> dict[str, object]:
    """What is stored of a project that runs by a recipe from now on."""
    layers = " ".join(layer.tag for layer in plan.layers)
    return {"image": plan.image, "layers": layers, "stack": recipe.plan.stack, "recipe": text(recipe)}


class Rebuilds(Lifecycle):
    """Adds to `Lifecycle` what changes a project's container."""

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
            recipe = await self._decide_again(project, wanted, changes)
            plan = self.recipes.image(recipe)
            with self._keeping(plan), self._keeping_current(project):
                try:
                    await self._furnish(project)
                    prepared = await self._engine.prepare(self.spec(project), plan, said)
                except (EngineError, OSError) as error:
                    log_of = (
                        f"\n`logs {project.name} build` has the whole log." if isinstance(error, BuildFailed) else ""
                    )
                    raise UserError(f"Rebuilding {project.name} failed; it is as it was. {error}{log_of}") from error
                recipe = self.settled(recipe, plan, prepared.told)
                stopped = await self._stop_runs(project, f"{project.name} was rebuilt.", here)
                changed = project.image != plan.image
                values = {**recipe_columns(recipe, plan), "wanted": wanted, "desired": "up"}
                project = await self._exchange(project, values)
        lines = await self._tell_source(project, recipe, said)
        await self._after_change()
        return Rebuilt(project, recipe, prepared.built, changed, stopped, lines)

    async def _decide_again(self, project: Project, wanted: str, changes: Changes) -> Recipe:
        """What the project is to be made of, by its source as it is now. Raises UserError."""
        before = stored(project)
        return Recipe(
            await self.recipes.decide(project.path, wanted),
            before.own if changes.own is None else changes.own,
            tuple(sorted({*before.accepted, *changes.accept})),
            changes.fresh or before.fresh,
        )

    async def _exchange(self, project: Project, values: dict[str, object]) -> Project:
        """Give a project its new container; where that does not come up, the one that it had. Raises UserError."""
        before = {name: getattr(project, name) for name in ("image", "stack", "recipe", "wanted")}
        before["layers"] = " ".join(project.layers)
        await self._down_or_explain(project)
        changed = await self._change(project, **values)
        try:
            await self._up_or_explain(changed)
        except UserError as error:
            if not before["image"]:
                raise
            changed = await self._change(changed, **before)
            await self._down_or_explain(changed)
            await self._up_or_explain(changed)
            raise UserError(f"{error} So {project.name} runs in a container like the one that it had.") from error
        return changed

    @contextlib.contextmanager
    def _keeping_current(self, project: Project) -> Iterator[None]:
        """Have nobody clear away what the project runs on until it runs on something else."""
        tags = {project.image, *project.layers} - {""}
        self._coming.update(tags)
        try:
            yield
        finally:
            self._coming -= Counter(tags)

    # --- versions ----------------------------------------------------------------------------------------------------

    def settled(self, recipe: Recipe, plan: ImagePlan, told: Mapping[str, Told]) -> Recipe:
        """The recipe with what came of it, once its image is there. What was accepted and came after all is forgotten.

        Raises VersionMissing for an image that lacks what its source asks for, unless an operator has accepted that;
        the image stays for whoever is asked now, for a while.
        """
        if not self._engine.isolated:
            return recipe  # nothing is installed, so nothing can be missed
        recipe = replace(recipe, told={stack: told.get(stack, Told()) for stack in plan.stacks})
        found = shortfalls(recipe.plan, recipe.told)
        missing = [one for one in found if one.key not in recipe.accepted]
        if not missing:
            return replace(recipe, accepted=tuple(sorted(one.key for one in found)))
        self._coming.update(plan.tags)
        asyncio.get_running_loop().call_later(_ASKED_S, self._let_go, plan)
        raise VersionMissing(" ".join(f"{one.why}." for one in missing), keys=tuple(one.key for one in missing))

    def _let_go(self, plan: ImagePlan) -> None:
        self._coming -= Counter(plan.tags)
        self._owing = True  # the loop clears it away, unless a project has it by now

    # --- the source --------------------------------------------------------------------------------------------------

    async def record(self, project: Project, recipe: Recipe) -> list[str]:
        """Have the source say what was built; what people should know where that cannot be.

        No project fails because of it.
        """
        try:
            await self._call(project, "record", {"head": head(), "record": record(recipe)}, _RECORD_WITHIN_S)
        except SledError as error:
            return [f"{PROJECT_FILE} was not written: {error}"]
        return []

    async def _tell_source(self, project: Project, recipe: Recipe, said: Callable[[str], None]) -> list[str]:
        """The record, and the commands of the source's own in a container that is new; what people should know of it.

        The project may be taken down or deleted meanwhile: then they end.
        """
        lines = await self.record(project, recipe)
        clock = asyncio.get_running_loop().time
        until = clock() + COMMANDS_WITHIN_S
        for command in recipe.own.commands:
            shown = command.splitlines()[0]
            said(f"Running {shown}")
            left = max(1.0, until - clock())
            arguments = {"command": command, "within_s": f"{left:.0f}"}
            try:
                await self._call(project, "run", arguments, left + 10, said)
            except SledError as error:
                lines.append(f"`{shown}` failed: {error}")
                break
            lines.append(f"`{shown}` ran")
        said("")
        return lines
