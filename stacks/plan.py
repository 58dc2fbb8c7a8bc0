"""The plan of a project: which stacks, in which versions, and what decided that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.errors import UserError
from stacks.catalog import FALLBACK, Stack
from stacks.choice import choose
from stacks.detect import Found, find
from stacks.project_file import ProjectFile, read_project_file
from stacks.reading import PROJECT_FILE, Said, place, quoted, read_versions
from stacks.tree import Tree

#: What decided a stack that a person typed.
ASKED_FOR = "asked for"
#: How many warnings a plan may have; a source may give cause for thousands.
_MAX_WARNINGS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What one file says about a version: its text as written there, and what that allows.

    `allows` is in one syntax for all ecosystems (see `stacks.versions`).
    """

    file: str
    text: str
    allows: str


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A stack that a project gets. `marker` is the file that asks for it; empty when it was asked for by name.

    `version` is what its overlay installs: a release line ("3.13") or one release ("20.11.1"); empty for a stack
    without versions. `packaged`: Debian, PyPI or npm have it; otherwise the tool's own upstream is tried.
    """

    stack: str
    marker: str
    version: str
    packaged: bool
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that was decided for a source. `stack` is the primary one, and `because` what decided it: a file, "asked
    for", or empty if nothing matched. `folder` is the one subfolder that the markers are in; empty for the top.

    `toolchains`: one for each overlay, in the catalog's order (none for the base alone). `warnings` are sentences for
    people.
    """

    stack: str
    because: str
    folder: str
    toolchains: tuple[Toolchain, ...]
    warnings: tuple[str, ...] = ()


def make_plan(tree: Tree, stacks: Sequence[Stack], *, stack: str | None = None) -> Plan:
    """What a source gets. `stack` is the one that a person asks for.

    It beats `.huskies/project.toml`, which beats the other files. Raises UserError if there is no such stack, or if
    files contradict each other.
    """
    names = {one.name for one in stacks}
    if stack and stack not in names:
        raise UserError(f"There is no stack {quoted(stack)}. There are: {', '.join(sorted(names))}.")
    project = read_project_file(tree, stacks)
    asked = stack or project.stack
    found = find(tree, stacks, asked)
    because = ASKED_FOR if stack else PROJECT_FILE if project.stack else found.matches[0][1] if found.matches else ""
    primary = asked or (found.matches[0][0].name if found.matches else FALLBACK)
    if primary == FALLBACK:
        return Plan(FALLBACK, because, "", (), _limited([*project.warnings, *(() if asked else found.warnings)]))
    markers = {one.name: marker for one, marker in found.matches}
    chosen = [one for one in stacks if one.name == primary or one.name in markers]
    toolchains = []
    warnings = [*project.warnings, *found.warnings, *_several(primary, because, found)]
    for one in chosen:
        said, unreadable = _said(tree, found.folder, one, project)
        toolchain, too_old = _toolchain(one, markers.get(one.name, ""), said)
        toolchains.append(toolchain)
        warnings += [*unreadable, *too_old]
    warnings += [*_unused(project, chosen), *_built_elsewhere(tree, found.folder, chosen)]
    return Plan(primary, because, found.folder, tuple(toolchains), _limited(warnings))


def to_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values, its keys in the order of the fields."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plan))
    return values


def _said(tree: Tree, folder: str, stack: Stack, project: ProjectFile) -> tuple[list[Said], list[str]]:
    """What is said about a stack's version, as far as it counts."""
    if stack.versions is None:
        return [], []
    if stack.name in project.versions:
        return [project.versions[stack.name]], []
    return read_versions(tree, folder, stack.versions)


def _toolchain(stack: Stack, marker: str, said: Sequence[Said]) -> tuple[Toolchain, list[str]]:
    """Raises UserError if no version fits all that was said."""
    if stack.versions is None:
        return Toolchain(stack.name, marker, stack.version, True), []
    version, too_old = choose(stack, stack.versions, said), []
    if not version:
        version = stack.version
        too_old = [f"{said[0]}: no known release of {stack.versions.name} fits, so {version} is used."]
    asked = tuple(Asked(one.file, one.text, one.allows) for one in said)
    return Toolchain(stack.name, marker, version, stack.versions.is_packaged(version), asked), too_old


def _several(primary: str, because: str, found: Found) -> list[str]:
    """One sentence about the stacks beside the primary one."""
    others = [f"{stack.name} ({marker})" for stack, marker in found.matches if stack.name != primary]
    if not others:
        return []
    *most, last = others
    names = f"{', '.join(most)} and {last}" if most else last
    return [f"{primary} is the primary stack ({because}); {names} too: {'all' if most else 'both'} are installed."]


def _unused(project: ProjectFile, stacks: Sequence[Stack]) -> list[str]:
    """A sentence for each stack that has a version but is not part of the plan."""
    unused = [name for name in project.versions if name not in {stack.name for stack in stacks}]
    return [f"There is a version for the stack {name}, but nothing asks for that stack." for name in unused]


def _built_elsewhere(tree: Tree, folder: str, stacks: Sequence[Stack]) -> list[str]:
    """A sentence for each folder that a tool has made, perhaps for another platform."""
    warnings = []
    for stack in stacks:
        for name, command in stack.built.items():
            path = place(folder, name)
            above, _, last = path.rpartition("/")
            if last in tree.folders(above):
                warnings.append(
                    f"{path} already exists: if it was made on another machine or platform, it may not work here. "
                    f"Run `{command}` inside to rebuild it; nothing was deleted."
                )
    return warnings


def _limited(warnings: Sequence[str]) -> tuple[str, ...]:
    left = len(warnings) - _MAX_WARNINGS
    return (*warnings[:_MAX_WARNINGS], f"And {left} more like these.") if left > 0 else tuple(warnings)
