"""A folder on this machine, seen as the planner sees a source."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path


class FolderTree:
    """Links are neither files nor folders, as in a real source."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def files(self, folder: str = "") -> Set[str]:
        return {entry.name for entry in self._entries(folder) if entry.is_file() and not entry.is_symlink()}

    def folders(self, folder: str = "") -> Set[str]:
        return {entry.name for entry in self._entries(folder) if entry.is_dir() and not entry.is_symlink()}

    def text(self, path: str) -> str | None:
        file = self._top / path
        try:
            return file.read_bytes().decode() if file.is_file() and not file.is_symlink() else None
        except UnicodeDecodeError:
            return None

    def is_too_long(self, path: str) -> bool:
        return False

    def _entries(self, folder: str) -> list[Path]:
        place = self._top / folder
        return list(place.iterdir()) if place.is_dir() else []
