"""A read-only view of a source: all that detection and planning may look at."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import PurePosixPath
from typing import Protocol


class Tree(Protocol):
    """Paths are relative to the source's top and separated by slashes; "" is the top."""

    def files(self, folder: str = "") -> Set[str]:
        """The names of the regular files in a folder; none if there is no such folder."""

    def folders(self, folder: str = "") -> Set[str]:
        """The names of the real folders (no links) in a folder."""

    def text(self, path: str) -> str | None:
        """The text of a file; None unless it is a regular, short file in UTF-8."""


class MemoryTree:
    """A tree that is a mapping of paths to texts."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {PurePosixPath(path): text for path, text in texts.items()}

    def files(self, folder: str = "") -> Set[str]:
        return {path.name for path in self._texts if path.parent == PurePosixPath(folder)}

    def folders(self, folder: str = "") -> Set[str]:
        parents = {parent for path in self._texts for parent in path.parents if parent.name}
        return {parent.name for parent in parents if parent.parent == PurePosixPath(folder)}

    def text(self, path: str) -> str | None:
        return self._texts.get(PurePosixPath(path))
