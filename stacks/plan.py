"""The plan of a project: which stacks, in which versions, and what decided that. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stacks.catalog import FALLBACK, Stack
from stacks.choice import choose
from stacks.detect import Found, find
from stacks.project_file import ProjectFile, check_names, read_project_file, split_names
from stacks.reading import PROJECT_FILE, Said, is_elsewhere, place, read_versions
from stacks.tree import Tree
from stacks.versions import intersection

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
    """What a source gets. `stack` is the one that a person asks for, or several, with commas between: the first is the
    primary one, and the others come along whatever the files say.

    It beats `.huskies/project.toml`, which beats the other files. Raises UserError if there is no such stack, or if
    files contradict each other.
    """
    asked_for = split_names(stack or "")
    check_names(asked_for, stacks)
    project = read_project_file(tree, stacks)
    asked = asked_for or project.stacks
    found = find(tree, stacks, asked[0] if asked else "")
    because = ASKED_FOR if asked_for else PROJECT_FILE if asked else found.matches[0][1] if found.matches else ""
    primary = asked[0] if asked else found.matches[0][0].name if found.matches else FALLBACK
    if primary == FALLBACK:
        left = [] if asked else _left_out(found, FALLBACK, [])
        return Plan(FALLBACK, because, "", (), _limited([*project.warnings, *left]))
    markers = {one.name: marker for one, marker in found.matches}
    chosen = [one for one in stacks if one.name in asked or one.name in markers]
    toolchains = []
    warnings = [*project.warnings, *found.warnings, *_several(primary, because, found, chosen)]
    for one in chosen:
        said, ignored = _said(tree, found, one, project)
        toolchain, too_old = _toolchain(one, markers.get(one.name, ""), said)
        toolchains.append(toolchain)
        warnings += [*ignored, *too_old]
    places = list(dict.fromkeys([found.folder, *(at for modules in found.modules.values() for at in modules)]))
    warnings += [*_left_out(found, primary, chosen), *_unused(project, chosen)]
    warnings += _built_elsewhere(tree, places, chosen)
    return Plan(primary, because, found.folder, tuple(toolchains), _limited(warnings))


def to_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values, its keys in the order of the fields."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plan))
    return values


def _said(tree: Tree, found: Found, stack: Stack, project: ProjectFile) -> tuple[list[Said], list[str]]:
    """What is said about a stack's version, as far as it counts, and warnings.

    What the project's own folder says must hold; a module that contradicts it, or a module before it, is named.
    """
    if stack.versions is None:
        return [], []
    if stack.name in project.versions:
        return [project.versions[stack.name]], []
    said, warnings = read_versions(tree, found.folder, stack.versions)
    modules = [at for at in found.modules.get(stack.name, ()) if not is_elsewhere(tree, at, stack.versions)]
    for number, module in enumerate(modules):
        more, unreadable = read_versions(tree, module, stack.versions)
        warnings += [one for one in unreadable if one not in warnings]
        if not said and number == 0:
            said = more
            continue
        for one in more:
            if one in said or (one.allows, one.exact) in {(other.allows, other.exact) for other in said}:
                continue
            if intersection(other.allows for other in (*said, one)).is_empty():
                warnings.append(f"{one}, which does not fit {_against(one, said)}: it was ignored.")
            else:
                said.append(one)
    return said, warnings


def _against(one: Said, said: Sequence[Said]) -> str:
    """What a statement does not fit. Only one at a time is compared: of hundreds, all pairs would take minutes."""
    for other in said:
        if intersection([other.allows, one.allows]).is_empty():
            return f"{other.file} ({other.text})"
    return "what the others say together"


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


def _several(primary: str, because: str, found: Found, chosen: Sequence[Stack]) -> list[str]:
    """One sentence about the stacks beside the primary one."""
    markers = {stack.name: marker for stack, marker in found.matches}
    others = [f"{one.name} ({markers.get(one.name) or because})" for one in chosen if one.name != primary]
    if not others:
        return []
    *most, last = others
    names = f"{', '.join(most)} and {last}" if most else last
    return [f"{primary} is the primary stack ({because}); {names} too: {'all' if most else 'both'} are installed."]


def _left_out(found: Found, primary: str, chosen: Sequence[Stack]) -> list[str]:
    """One sentence about what only documentation, examples or tests ask for."""
    names = {stack.name for stack in chosen}
    left = [(stack.name, marker) for stack, marker in found.left_out if stack.name not in names]
    if not left:
        return []
    told = ", ".join(f"{name} ({marker})" for name, marker in left)
    line = ",".join([*([] if primary == FALLBACK else [primary]), *(name for name, _ in left)])
    return [f"Not installed: {told}. `--stack {line}` adds {'it' if len(left) == 1 else 'them'}."]


def _unused(project: ProjectFile, stacks: Sequence[Stack]) -> list[str]:
    """A sentence for each stack that has a version but is not part of the plan."""
    unused = [name for name in project.versions if name not in {stack.name for stack in stacks}]
    return [f"There is a version for the stack {name}, but nothing asks for that stack." for name in unused]


def _built_elsewhere(tree: Tree, places: Sequence[str], stacks: Sequence[Stack]) -> list[str]:
    """A sentence for each kind of folder that a tool has made, perhaps for another platform, and what rebuilds it."""
    found: dict[tuple[str, str], list[str]] = {}
    for at, stack in itertools.product(places, stacks):
        for name in stack.built:
            path = place(at, name)
            above, _, last = path.rpartition("/")
            if last in tree.folders(above):
                found.setdefault((name, _rebuilt_by(tree, at, stack, name)), []).append(path)
    warnings = []
    for (_, command), (path, *more) in found.items():
        them = f"{path} and {len(more)} more of that name already exist: if they were" if more else ""
        one = f"{path} already exists: if it was"
        warnings.append(
            f"{them or one} made on another machine or platform, {'they' if more else 'it'} may not work here. "
            f"Run `{command}` inside to rebuild {'them (for a workspace once, at its top)' if more else 'it'}; "
            "nothing was deleted."
        )
    return warnings


def _rebuilt_by(tree: Tree, folder: str, stack: Stack, name: str) -> str:
    """The command that rebuilds a folder: what the project's own tool has for it, by a file here or at the top."""
    for at in dict.fromkeys((folder, "")):
        for other in stack.rebuild:
            above, _, last = place(at, other.file).rpartition("/")
            if other.folder != name or last not in tree.files(above):
                continue
            if other.pattern is None or other.pattern.search(tree.text(place(at, other.file)) or ""):
                return other.command
    return stack.built[name]


def _limited(warnings: Sequence[str]) -> tuple[str, ...]:
    left = len(warnings) - _MAX_WARNINGS
    return (*warnings[:_MAX_WARNINGS], f"And {left} more like these.") if left > 0 else tuple(warnings)
