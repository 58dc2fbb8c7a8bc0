"""Which stacks the files of a source ask for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stacks.catalog import FALLBACK, Stack
from stacks.reading import place
from stacks.tree import Tree

#: Folders that hold what others made, or tools: nothing in them is the project's.
_FOREIGN = frozenset(
    (
        *("node_modules", "vendor", "third_party", "external", "bower_components", "target", "dist", "build"),
        *("out", "bin", "obj", "venv", "env"),
    )
)
#: Folders that are about the project rather than part of it: a stack that only they ask for is named, not installed.
_ABOUT = frozenset(
    (
        *("docs", "doc", "website", "examples", "example", "samples", "demo", "tests", "test", "e2e"),
        *("fixtures", "templates"),
    )
)
#: Levels of folders that are looked into, and how many folders in all.
_LEVELS, _MAX_FOLDERS = 2, 400
#: Characters of a name that is looked at.
_MAX_NAME = 100

#: A stack and the path of the file that asks for it.
Match = tuple[Stack, str]


@dataclass(frozen=True, slots=True)
class Found:
    """The stacks that match, in the catalog's order, each with its first marker.

    `folder`: the one subfolder that is taken as the project; empty for the top. `modules`: where else each stack's
    files are, by its name. `left_out`: what only documentation, examples or tests ask for.
    """

    folder: str
    matches: tuple[Match, ...]
    warnings: tuple[str, ...] = ()
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: tuple[Match, ...] = ()


def matches(tree: Tree, stacks: Sequence[Stack], folder: str = "") -> list[Match]:
    """The stacks that a folder's files ask for, in the catalog's order."""
    names = {name for name in tree.files(folder) if _is_ordinary(name)}
    found = [(stack, stack.marker_among(names)) for stack in stacks if stack.name != FALLBACK]
    return [(stack, place(folder, marker)) for stack, marker in found if marker]


def find(tree: Tree, stacks: Sequence[Stack], asked: str = "") -> Found:
    """The stacks that a source asks for at its top, and in its folders one and two levels down.

    If nothing at the top does, the one folder that has some is taken as the project; of several, the one that asks for
    the stack `asked`; otherwise all count, and a warning says so.
    """
    top = matches(tree, stacks)
    below = {folder: found for folder in _folders(tree) if (found := matches(tree, stacks, folder))}
    about = {folder: below.pop(folder) for folder in list(below) if not _ABOUT.isdisjoint(folder.split("/"))}
    folder, warnings = "", []
    if not top and below:
        folder = _main(below, asked)
        if folder:
            marker = below[folder][0][1]
            warnings = [f"Nothing at the top asks for a stack, but {marker} does: {folder} is taken as the project."]
    places = {folder: below.pop(folder) if folder else top, **below}
    first: dict[str, Match] = {}
    modules: dict[str, list[str]] = {}
    for at, found in places.items():
        for stack, marker in found:
            first.setdefault(stack.name, (stack, marker))
            if at != folder:
                modules.setdefault(stack.name, []).append(at)
    chosen = tuple(first[stack.name] for stack in stacks if stack.name in first)
    left = {stack.name: (stack, marker) for found in about.values() for stack, marker in found}
    left_out = tuple(match for name, match in left.items() if name not in first)
    return Found(folder, chosen, tuple(warnings), {name: tuple(at) for name, at in modules.items()}, left_out)


def _main(below: Mapping[str, list[Match]], asked: str) -> str:
    """The folder that is the project; empty if there is no such one."""
    tops = dict.fromkeys(folder.partition("/")[0] for folder in below)
    if len(tops) > 1:
        of = {folder for folder, found in below.items() if asked in {stack.name for stack, _ in found}}
        tops = dict.fromkeys(folder.partition("/")[0] for folder in sorted(of))
    if len(tops) != 1:
        return ""
    within = [folder for folder in below if folder.partition("/")[0] in tops]
    highest = min(folder.count("/") for folder in within)
    here = [folder for folder in within if folder.count("/") == highest]
    return here[0] if len(here) == 1 else ""


def _folders(tree: Tree) -> list[str]:
    """The folders that are looked into, a level at a time."""
    found: list[str] = []
    level = [""]
    for _ in range(_LEVELS):
        level = [place(above, name) for above in level for name in sorted(tree.folders(above)) if _may_hold(name)]
        found += level
        if len(found) >= _MAX_FOLDERS:
            break
    return found[:_MAX_FOLDERS]


def _may_hold(name: str) -> bool:
    return name not in _FOREIGN and name[0] != "." and _is_ordinary(name)


def _is_ordinary(name: str) -> bool:
    """Whether a name can be shown to people as it is; names may hold line ends and bytes that are not text."""
    return name.isprintable() and len(name) <= _MAX_NAME
