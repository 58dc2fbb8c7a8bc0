"""Which stacks the files of a source ask for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stacks.catalog import FALLBACK, Stack
from stacks.reading import place
from stacks.tree import Tree

#: Subfolders that hold no project, or somebody else's.
_NOT_PROJECTS = {"node_modules", "vendor", "target", "dist", "build", "docs", "examples", "tests"}
#: Subfolders that are looked into, and that a warning names.
_MAX_FOLDERS, _MAX_NAMED = 200, 8
#: Characters of a name that is looked at.
_MAX_NAME = 100

#: A stack and the path of the file that asks for it.
Match = tuple[Stack, str]


@dataclass(frozen=True, slots=True)
class Found:
    """The stacks that match, in the catalog's order, and the folder that their markers are in."""

    folder: str
    matches: tuple[Match, ...]
    warnings: tuple[str, ...] = ()


def matches(tree: Tree, stacks: Sequence[Stack], folder: str = "") -> list[Match]:
    """The stacks that a folder's files ask for, in the catalog's order."""
    names = {name for name in tree.files(folder) if _is_ordinary(name)}
    found = [(stack, stack.marker_among(names)) for stack in stacks if stack.name != FALLBACK]
    return [(stack, place(folder, marker)) for stack, marker in found if marker]


def find(tree: Tree, stacks: Sequence[Stack], asked: str = "") -> Found:
    """The stacks that a source asks for at its top; if there are none, those of the one subfolder that has some.

    With several such subfolders it is the one that asks for the stack `asked`; otherwise none, and a warning says so.
    """
    if top := matches(tree, stacks):
        return Found("", tuple(top))
    below = {folder: tuple(matches(tree, stacks, folder)) for folder in _subfolders(tree)}
    below = {folder: found for folder, found in below.items() if found}
    if len(below) > 1 and asked:
        below = {folder: found for folder, found in below.items() if asked in {stack.name for stack, _ in found}}
    if len(below) == 1:
        ((folder, found),) = below.items()
        sentence = f"Nothing at the top asks for a stack, but {found[0][1]} does: {folder} is taken as the project."
        return Found(folder, found, (sentence,))
    return Found("", (), () if asked or not below else (_several(below),))


def _subfolders(tree: Tree) -> list[str]:
    names = [name for name in tree.folders() if name not in _NOT_PROJECTS and name[0] != "." and _is_ordinary(name)]
    return sorted(names)[:_MAX_FOLDERS]


def _is_ordinary(name: str) -> bool:
    """Whether a name can be shown to people as it is; names may hold line ends and bytes that are not text."""
    return name.isprintable() and len(name) <= _MAX_NAME


def _several(below: dict[str, tuple[Match, ...]]) -> str:
    named = [f"{folder} ({', '.join(stack.name for stack, _ in found)})" for folder, found in below.items()]
    more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    primaries = dict.fromkeys(found[0][0].name for found in below.values())
    return (
        f"Nothing at the top asks for a stack, but several folders do: {', '.join(named[:_MAX_NAMED])}{more}. "
        f"Only the base is used; type {' or '.join(f'`--stack {name}`' for name in primaries)} to choose one."
    )
