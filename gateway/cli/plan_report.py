"""`huskies plan PATH`: what `new project --path PATH` would do, decided by the same code, without an engine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from gateway.config import Settings, build_inputs, host_network
from gateway.config.state_dir import instance
from gateway.errors import UserError
from gateway.projects.recipes import Recipes, wish
from stacks.own import Own
from stacks.plan import to_json
from stacks.recipe import Recipe
from stacks.told import Told
from stacks.words import stack_lines


async def report(settings: Settings, source: Path, stack: str | None) -> dict[str, Any]:
    """The whole decision, as JSON. Raises UserError for what `new project` would refuse, too."""
    if not await asyncio.to_thread(source.is_dir):
        raise UserError(f"there is no folder {source}")
    state_dir = settings.gateway.state_dir
    recipes = Recipes(
        build_inputs.read(settings.build, host_network.find(os.environ)), instance(state_dir), state_dir / ".stacks"
    )
    recipes.check_stack(stack, images=True)
    plan = await recipes.decide(source, wish(stack))
    try:
        offered = await recipes.offered(source)
    except UserError as error:  # as `new project` has it: a note
        offered = Own(notes=(str(error),))
    image = recipes.image(Recipe(plan))
    return {
        "source": str(source),
        **to_json(plan),
        "layers": [{"name": layer.name, "image": layer.tag} for layer in image.layers],
        "offered": {"files": list(offered.files), "adds": offered.lines(), "notes": list(offered.notes)},
        "summary": stack_lines(plan, {stack: Told() for stack in image.stacks}),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """A report for people."""
    told = list(found["summary"])
    if found["folder"]:
        told.append(f"in the subfolder: {found['folder']}")
    told.append("layers: " + " <- ".join(layer["name"] for layer in found["layers"]))
    told += [f"upstream: {each['stack']} {each['version']} is tried at its own source" for each in _upstream(found)]
    told += [f"note: {warning}" for warning in (*found["warnings"], *found["offered"]["notes"])]
    if found["offered"]["files"]:
        told.append(f"would ask before using: {', '.join(found['offered']['files'])}")
        told += [f"    {line}" for line in found["offered"]["adds"]]
    return told


def _upstream(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in found["toolchains"] if each["version"] and not each["packaged"]]
