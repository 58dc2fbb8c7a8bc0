"""A read-only view of a source: all that detection and planning may look at."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import PurePosixPath
from typing import Protocol

#: The largest file that is looked at; a longer one is not one of those that say what a project needs.
MAX_KIB = 256


class Tree(Protocol):
    """Paths are relative to the source's top and separated by slashes; "" is the top."""

    def files(self, folder: str = "") -> Set[str]:
        """The names of the regular files in a folder; none if there is no such folder."""

    def folders(self, folder: str = "") -> Set[str]:
        """The names of the real folders (no links) in a folder."""

    def text(self, path: str) -> str | None:
        """The text of a file; None unless it is a regular file in UTF-8 that is not too long."""

    def is_too_long(self, path: str) -> bool:
        """Whether a file has no text because it is longer than MAX_KIB."""


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
        text = self._texts.get(PurePosixPath(path))
        return None if self.is_too_long(path) else text

    def is_too_long(self, path: str) -> bool:
        return len(self._texts.get(PurePosixPath(path), "").encode(errors="replace")) > MAX_KIB * 1024
