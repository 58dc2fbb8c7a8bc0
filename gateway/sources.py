"""Reading a project's source, which its agents write: never through a link, regular files only, and little of them."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

#: The project's own settings; only stack and versions in it count.
PROJECT_FILE = ".huskies/project.toml"
#: Bytes of a file that are looked at; a longer one is none of ours.
MAX_BYTES = 64 * 1024


def declared_stack(source: Path) -> str:
    """The stack that the source itself asks for; empty where it asks for none that can be read."""
    text = read_text(source, PROJECT_FILE)
    if text is None:
        return ""
    try:
        stack = tomllib.loads(text).get("stack", "")
    except (ValueError, RecursionError):  # also a number that is too long, or tables too deep
        return ""
    return stack if isinstance(stack, str) else ""


def read_text(source: Path, relative: str) -> str | None:
    """A file of the source; None unless it is a regular, short one in UTF-8 that no link leads to."""
    *folders, name = relative.split("/")
    try:
        opened = [os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    except OSError:
        return None
    try:
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            opened.append(os.open(folder, flags, dir_fd=opened[-1]))
        # A FIFO in the file's place does not block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        opened.append(os.open(name, flags, dir_fd=opened[-1]))
        status = os.fstat(opened[-1])
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        return os.read(opened[-1], MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)
