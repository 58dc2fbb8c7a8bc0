"""Recipes: what a project's container is to be made of, decided from its source and from what operators asked for."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import msgspec

from gateway.engine.container import image_prefix
from gateway.errors import UserError
from gateway.projects.source_tree import SourceTree
from gateway.store.projects import Project
from stacks import catalog
from stacks.images import BuildInputs, ImagePlan, Overlay, plan_image
from stacks.own import Own, read_own
from stacks.plan import Plan, make_plan
from stacks.project_file import check_names, split_names
from stacks.recipe import Recipe

log = logging.getLogger(__name__)


def wish(stack: str | None) -> str:
    """What is stored of a `--stack`: empty if the files decide."""
    return "" if stack in (None, catalog.AUTO) else str(stack)


class Recipes:
    """Those of one gateway. `folder` is where its operators keep stacks of their own."""

    def __init__(self, inputs: BuildInputs, instance: str, folder: Path) -> None:
        self._inputs = inputs
        self._prefix = image_prefix(instance)
        self._folder = folder
        #: The image that everything begins with: kept, and built first if a repository has to be fetched.
        self.base = plan_image(inputs, (), self._prefix)

    def stacks(self) -> tuple[catalog.Stack, ...]:
        """The available stacks, as their folders are now. Raises UserError for one that is not right."""
        return catalog.catalog(catalog.BUILT_IN, self._folder)

    async def decide(self, source: Path, stack: str) -> Plan:
        """The plan of a source as it is now; `stack` was asked for, if any. Raises UserError."""
        return await asyncio.to_thread(lambda: make_plan(SourceTree(source), self.stacks(), stack=stack or None))

    async def offered(self, source: Path) -> Own:
        """What a source wants to add, as it is now. Raises UserError for what cannot be added."""
        return await asyncio.to_thread(lambda: read_own(SourceTree(source)))

    def image(self, recipe: Recipe) -> ImagePlan:
        """The image of a recipe. Raises UserError."""
        known = {stack.name: stack for stack in self.stacks()}
        overlays = [
            Overlay(known[toolchain.stack], toolchain.version)
            for toolchain in recipe.plan.toolchains
            if toolchain.stack in known
        ]
        inputs = self._inputs
        if recipe.fresh:  # an argument that is new: the engine's cache has nothing for it
            inputs = replace(inputs, arguments={**inputs.arguments, "HUSKIES_FRESH": recipe.fresh})
        return plan_image(inputs, overlays, self._prefix, recipe.own)

    def check_stack(self, name: str | None, *, images: bool) -> None:
        """Whether people may ask for a stack. Raises UserError, which lists the available ones."""
        stacks = {stack.name: stack for stack in self.stacks()}
        if name is None or name == catalog.AUTO:
            return
        asked = split_names(name)
        check_names(asked, tuple(stacks.values()))
        for one in asked if images else ():
            if one != catalog.FALLBACK and not stacks[one].has_image:
                raise UserError(
                    f"The stack {one} has no image: {stacks[one].folder / catalog.FRAGMENT} is missing. "
                    f"`--stack {catalog.FALLBACK}` gives the base, with git and a shell."
                )


def difference(before: Plan, after: Plan) -> list[str]:
    """What becomes of the toolchains, line by line."""
    old, new = ({one.stack: one.version for one in plan.toolchains} for plan in (before, after))
    gone = [f"-{stack} {version}".rstrip() for stack, version in old.items() if new.get(stack) != version]
    come = [f"+{stack} {version}".rstrip() for stack, version in new.items() if old.get(stack) != version]
    return gone + come


def stored(project: Project) -> Recipe:
    """The recipe that a project was built by; for a project older than recipes, what is known."""
    return read(project.recipe, project.stack)


def read(recipe: str, stack: str) -> Recipe:
    """A recipe as it was stored; if that is of no use, what is known: the stack."""
    if recipe:
        try:
            return msgspec.json.decode(recipe, type=Recipe)
        except msgspec.DecodeError as error:  # of another version of huskies; `rebuild` writes it again
            log.warning("a recipe cannot be read: %s", error)
    return Recipe(Plan(stack or catalog.FALLBACK, "", "", ()))


def text(recipe: Recipe) -> str:
    """A recipe as it is stored."""
    return msgspec.json.encode(recipe).decode()
