"""Images of recipes: built, checked against what their source asks for, and written down in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.engine import Prepared
from gateway.errors import SledError, VersionMissing
from gateway.projects.containers import Containers
from gateway.projects.leftovers import Leftovers
from gateway.projects.recipes import Recipes, text
from gateway.projects.registry import Registry
from gateway.store.projects import Project
from stacks.images import ImagePlan
from stacks.reading import PROJECT_FILE
from stacks.recipe import Recipe, shortfalls
from stacks.told import Told
from stacks.words import head, record

_RECORD_WITHIN_S = 30.0
#: Seconds that an image is kept while its project waits for an answer: longer than a question is open.
_ASKED_S = 300.0


class Builds:
    """See the module."""

    def __init__(self, registry: Registry, containers: Containers, leftovers: Leftovers, recipes: Recipes) -> None:
        self._registry = registry
        self._engine = registry.engine
        self._containers = containers
        self._leftovers = leftovers
        self._recipes = recipes

    async def first(self, project: Project, recipe: Recipe, said: Callable[[str], None]) -> Project:
        """Build the image of a recipe, and put a new project on it. Raises EngineError, UserError."""
        plan = self._recipes.image(recipe)
        with self._leftovers.keeping(plan.tags):
            prepared = await self._engine.prepare(self._registry.spec(project), plan, said)
            said("")
            values = columns(self.settled(recipe, plan, prepared.told), plan)
            if not self._engine.isolated:
                values |= {"image": "", "layers": ""}
            return await self._registry.change(project, None, **values)

    async def again(self, project: Project, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        """Build another image for an existing project. Raises EngineError, OSError."""
        await self._containers.furnish(project)
        return await self._engine.prepare(self._registry.spec(project), plan, said)

    def settled(self, recipe: Recipe, plan: ImagePlan, told: Mapping[str, Told]) -> Recipe:
        """The recipe with what came of it, once its image is there. Accepting what turned out to be there is forgotten.

        Raises VersionMissing for an image that lacks what its source asks for, unless an operator has accepted that;
        the image is kept for a while, for whoever is asked now.
        """
        if not self._engine.isolated:
            return recipe  # nothing is installed, so nothing can be missed
        recipe = replace(recipe, told={stack: told.get(stack, Told()) for stack in plan.stacks})
        found = shortfalls(recipe.plan, recipe.told)
        missing = [one for one in found if one.key not in recipe.accepted]
        if not missing:
            return replace(recipe, accepted=tuple(sorted(one.key for one in found)))
        self._leftovers.keep_for(plan.tags, _ASKED_S)
        raise VersionMissing(" ".join(f"{one.why}." for one in missing), keys=tuple(one.key for one in missing))

    async def record(self, project: Project, recipe: Recipe) -> list[str]:
        """Write into the source what was built; returns what people should know if that fails.

        No project fails because of it.
        """
        arguments = {"head": head(), "record": record(recipe)}
        try:
            await self._containers.call(project, "record", arguments, _RECORD_WITHIN_S)
        except SledError as error:
            return [f"{PROJECT_FILE} was not written: {error}"]
        return []


def columns(recipe: Recipe, plan: ImagePlan) -> dict[str, object]:
    """What is stored of a project that runs on a recipe from now on."""
    layers = " ".join(layer.tag for layer in plan.layers)
    return {"image": plan.image, "layers": layers, "stack": recipe.plan.stack, "recipe": text(recipe)}
