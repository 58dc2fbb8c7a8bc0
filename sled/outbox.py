"""The folder whose files go to people when the run ends: `.huskies/outbox` in the workspace.

Whatever is there is sent, however it got there. A caption is a hidden file beside its file: `.<name>.caption`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sled.inside import adding, ensure, folder, regular, safe_name
from sled.protocol import MAX_FILE

PARTS = (".huskies", "outbox")
#: Keeps what only passes through out of the repository's own history.
IGNORE = (".gitignore", "*\n")
_CHUNK = 2**20


class NotSent(Exception):
    """The file cannot be sent; the text says why."""


@contextmanager
def outbox(workspace: Path) -> Iterator[int]:
    """A descriptor of the folder, which is created if necessary. Raises OSError."""
    with folder(workspace, *PARTS, create=True) as descriptor:
        ensure(descriptor, *IGNORE)
        yield descriptor


def put(workspace: Path, path: str, caption: str) -> str:
    """Copy a regular file of the workspace into the outbox; returns its name there.

    Raises:
        NotSent: it is outside the workspace, or too large.
        OSError: there is no such file, or it is a link, or reached by one.
    """
    *parents, name = _below(workspace, path)
    with folder(workspace, *parents) as parent, regular(name, parent) as source:
        if os.fstat(source.fileno()).st_size > MAX_FILE:
            raise NotSent(f"{name} has more than {MAX_FILE // 2**20} MB")
        with outbox(workspace) as out, adding(out, safe_name(name)) as (target, sent):
            _copy(source, target)
            if caption:
                with adding(out, caption_of(sent)) as (beside, _):
                    beside.write(caption.encode(errors="replace"))
    return sent


def caption_of(name: str) -> str:
    """The name of a file's caption."""
    return f".{name}.caption"


def _below(workspace: Path, path: str) -> tuple[str, ...]:
    """The parts of a path below the workspace. No link is followed, so `..` may be resolved by its text."""
    for root in (workspace, workspace.resolve()):
        whole = Path(os.path.normpath(root / path))
        if whole.is_relative_to(root) and whole != root:
            return whole.relative_to(root).parts
    raise NotSent("only files in the workspace can be sent; copy it there first")


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    size = 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > MAX_FILE:
            raise NotSent(f"it has more than {MAX_FILE // 2**20} MB")
        target.write(chunk)
