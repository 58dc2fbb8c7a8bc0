"""The available stacks: folders of data, those of this package and those that an operator adds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from gateway.errors import UserError
from stacks.schema import Rebuild, Versions, read_settings

#: What a tree without any marker gets: the base alone.
FALLBACK = "minimal"
#: The part of a stack that becomes an image layer.
FRAGMENT = "Dockerfile.fragment"
#: The stacks that come with the package.
BUILT_IN = Path(__file__).parent
#: Where a stack is asked for, this means "let the files decide"; so no stack may have this name.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Stack:
    """A toolchain. `markers` are the file names (or patterns of them) at the top of a source that ask for it.

    `version` is the release line that it brings if nothing asks for another; empty for a stack without versions.
    `built`: folders that tools make for one platform only, and the command that rebuilds each; `rebuild`: another one.
    """

    name: str
    summary: str
    order: int
    markers: tuple[str, ...]
    version: str
    folder: Path
    versions: Versions | None = None
    built: Mapping[str, str] = field(default_factory=dict)
    rebuild: tuple[Rebuild, ...] = ()

    @property
    def has_image(self) -> bool:
        """Whether there is an overlay that installs it."""
        return (self.folder / FRAGMENT).is_file()

    def marker_among(self, names: Collection[str]) -> str:
        """The file among these that asks for this stack, by the first marker that matches; empty for none."""
        for marker in self.markers:
            if marker in names:
                return marker
            if any(sign in marker for sign in "*?["):
                met = [name for name in names if fnmatchcase(name, marker)]
                if met:
                    return min(met)
        return ""


def catalog(*folders: Path) -> tuple[Stack, ...]:
    """Every stack of the package and of `folders`, by order: where several match, the first one is primary.

    A later stack replaces an earlier one of the same name completely. Raises UserError.
    """
    stacks = dict(_built_in())
    for folder in folders:
        stacks |= _read_folder(folder)
    taken: dict[int, Stack] = {}
    for stack in stacks.values():
        other = taken.setdefault(stack.order, stack)
        if other is not stack:
            raise UserError(_same_order(stack, other, {stack.order for stack in stacks.values()}))
    return tuple(taken[order] for order in sorted(taken))


def _same_order(stack: Stack, other: Stack, orders: Collection[int]) -> str:
    free = next(order for order in itertools.count(stack.order) if order not in orders)
    return (
        f"{stack.folder / 'stack.toml'}: the stack {other.name} ({other.folder}) has order {stack.order} too, so it is "
        f"not clear which one is primary. Write another, for example `order = {free}`."
    )


@cache
def _built_in() -> Mapping[str, Stack]:
    return _read_folder(BUILT_IN)


def _read_folder(folder: Path) -> dict[str, Stack]:
    # A name with an underscore is a folder of ours that is not a stack: __pycache__, and in a wheel the assets.
    places = [place for place in folder.glob("*") if place.is_dir() and place.name[0] not in "._"]
    return {place.name: _read_stack(place) for place in sorted(places)}


def _read_stack(folder: Path) -> Stack:
    name = folder.name
    if re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) is None or name == AUTO:
        raise UserError(
            f"{folder}: {name} is not a valid name for a stack. Rename the folder: lower-case letters, digits and "
            f"hyphens, a letter first, no hyphen last, and not {AUTO}."
        )
    settings = read_settings(folder / "stack.toml")
    if (folder / FRAGMENT).is_file() and not (folder / "verify").is_file():
        raise UserError(
            f"{folder} has a {FRAGMENT}, but no verify. Write one: a shell script that fails unless the image has "
            "what the stack promises, for example `zig version`."
        )
    return Stack(
        name=name,
        summary=settings.summary,
        order=settings.order,
        markers=_read_markers(folder / "markers"),
        version=settings.version,
        folder=folder,
        versions=settings.versions,
        built=settings.built,
        rebuild=settings.rebuild,
    )


def _read_markers(file: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{file} cannot be read. List in it the names of the files that ask for the stack, one a line, "
            "for example `build.zig`; it may be empty."
        ) from None
    return tuple(line for line in lines if line and not line.startswith("#"))
