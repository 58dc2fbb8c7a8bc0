"""Files below the workspace, reached by descriptors that follow no link, as agents write there at the same time."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

#: Bytes of a file name that every file system takes, with room for what is added to it.
MAX_NAME = 200
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A FIFO does not block, and a link is an error.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ATTEMPTS = 1000


@contextlib.contextmanager
def folder(root: Path, *parts: str, create: bool = False) -> Iterator[int]:
    """A descriptor of the folder `parts` below `root`. Raises OSError, also where one of them is a link."""
    descriptor = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=descriptor)
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def regular(name: str, parent: int) -> IO[bytes]:
    """Open a regular file of the folder `parent`. Raises OSError, also where it is anything else."""
    descriptor = os.open(name, _READ, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{name} is not a regular file")
    return os.fdopen(descriptor, "rb")


def safe_name(name: str) -> str:
    """A name of one file that people and shells can handle: no path, no control characters, not hidden."""
    name = _UNFIT.sub("_", name).strip().lstrip(".-") or "file"
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    stem = stem if suffix else name
    room = MAX_NAME - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore") + suffix


@contextlib.contextmanager
def adding(parent: int, name: str) -> Iterator[tuple[IO[bytes], str]]:
    """Add a file under the first free name like `name`; gives the file to write, and that name.

    It appears complete once the block ends, and not at all if the block raises. Raises OSError.
    """
    partial = f".{secrets.token_hex(8)}.partial"
    descriptor = os.open(partial, _WRITE, 0o644, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            taken = _take(parent, name)
            try:
                yield file, taken
            except BaseException:
                os.unlink(taken, dir_fd=parent)
                raise
        os.rename(partial, taken, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=parent)
        raise


def _take(parent: int, name: str) -> str:
    """Make an empty file under a free name, so that nobody else takes it."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    for number in range(1, _ATTEMPTS):
        wanted = name if number == 1 else f"{stem}-{number}{suffix}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(wanted, _WRITE, 0o644, dir_fd=parent))
            return wanted
    raise FileExistsError(f"there are {_ATTEMPTS} files like {name}")


def ensure(parent: int, name: str, text: str) -> None:
    """Make a file with this text in the folder, unless something of that name exists. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(name, _WRITE, 0o644, dir_fd=parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
