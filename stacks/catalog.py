"""Which stacks there are, and which one a tree of files asks for. Pure but for reading the catalog's own folder."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: What a tree without any marker gets: the base alone.
FALLBACK = "minimal"
#: The part of a stack that becomes an image layer.
FRAGMENT = "Dockerfile.fragment"


@dataclass(frozen=True, slots=True)
class Stack:
    """A toolchain. `markers` are the file names at the top of a source that ask for it.

    `version` is the one that its image brings; empty for a stack that has no image of its own (yet).
    """

    name: str
    summary: str
    order: int
    markers: tuple[str, ...]
    version: str
    folder: Path

    @property
    def has_image(self) -> bool:
        """Whether there is an overlay that installs it."""
        return (self.folder / FRAGMENT).is_file()


@cache
def catalog(folder: Path = Path(__file__).parent) -> tuple[Stack, ...]:
    """Every stack, the one that is primary where several match first."""
    stacks = []
    for file in folder.glob("*/stack.toml"):
        values = tomllib.loads(file.read_text())
        markers = tuple((file.parent / "markers").read_text().split())
        version = values.get("version", "")
        stacks.append(Stack(file.parent.name, values["summary"], values["order"], markers, version, file.parent))
    return tuple(sorted(stacks, key=lambda stack: stack.order))


def detect(names: Collection[str], stacks: Sequence[Stack]) -> tuple[str, str]:
    """The primary stack of a tree with these file names at its top, and the file that decided it ("" for none)."""
    for stack in stacks:
        for marker in stack.markers:
            if marker in names:
                return stack.name, marker
    return FALLBACK, ""
