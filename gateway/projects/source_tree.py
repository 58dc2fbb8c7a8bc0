"""Reading a project's source, which its agents write: never through a link, regular files only, and little of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TypeVar

from stacks.tree import MAX_KIB

#: Bytes of a file that are looked at.
MAX_BYTES = MAX_KIB * 1024

#: Entries of a folder that are looked at; in a larger one some are not seen.
MAX_ENTRIES = 20_000

T = TypeVar("T")


class SourceTree:
    """A source as `stacks.tree.Tree`: what detection and planning look at."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def files(self, folder: str = "") -> Set[str]:
        return {entry.name for entry in self._entries(folder) if entry.is_file(follow_symlinks=False)}

    def folders(self, folder: str = "") -> Set[str]:
        return {entry.name for entry in self._entries(folder) if entry.is_dir(follow_symlinks=False)}

    def text(self, path: str) -> str | None:
        return read_text(self._source, path)

    def is_too_long(self, path: str) -> bool:
        return _look(self._source, path, _is_long) is True

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        with contextlib.ExitStack() as opened:
            try:
                descriptor = _open_folder(self._source, folder.split("/") if folder else [], opened)
                return list(itertools.islice(opened.enter_context(os.scandir(descriptor)), MAX_ENTRIES))
            except (OSError, ValueError):  # also a name that no file can have
                return []


def read_text(source: Path, relative: str) -> str | None:
    """A file of the source; None unless it is a regular one in UTF-8, not too long, that no link leads to."""
    return _look(source, relative, lambda file: None if _is_long(file) else os.read(file, MAX_BYTES).decode())


def is_file(source: Path, relative: str) -> bool:
    """Whether a regular file is there, that no link leads to."""
    return _is_inside(relative) and _look(source, relative, lambda _: True) is True


def read_bytes(source: Path, relative: str, most: int) -> bytes | None:
    """A file of the source; None unless it is a regular one of at most so many bytes, that no link leads to."""

    def look(file: int) -> bytes | None:
        if os.fstat(file).st_size > most:
            return None
        with os.fdopen(os.dup(file), "rb") as opened:
            data = opened.read(most + 1)  # it may grow meanwhile
        return data if len(data) <= most else None

    return _look(source, relative, look) if _is_inside(relative) else None


def _is_inside(relative: str) -> bool:
    return all(part not in ("", ".", "..") for part in relative.split("/"))


def _is_long(descriptor: int) -> bool:
    return os.fstat(descriptor).st_size > MAX_BYTES


def _look(source: Path, relative: str, look: Callable[[int], T | None]) -> T | None:
    """What is seen of a regular file that no link leads to; None if there is no such file."""
    *folders, name = relative.split("/")
    with contextlib.ExitStack() as opened:
        try:
            # A FIFO in the file's place does not block.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=_open_folder(source, folders, opened))
            opened.callback(os.close, descriptor)
            return look(descriptor) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        except (OSError, ValueError):  # also a name that no file can have, and text in another encoding
            return None


def _open_folder(source: Path, folders: Sequence[str], opened: contextlib.ExitStack) -> int:
    """A folder of the source that no link leads to; closed with `opened`. Raises OSError."""
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    for folder in folders:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder, flags, dir_fd=descriptor)
        opened.callback(os.close, descriptor)
    return descriptor
