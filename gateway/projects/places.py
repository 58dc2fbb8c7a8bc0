"""Where a project may live: names, host paths and their owners, checked before anything is touched."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import UserError
from gateway.projects.users import FIRST_PERSON

NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")
#: Whom new sources belong to when the gateway is root, which no container may be, and they share a user.
NEW_OWNER = (FIRST_PERSON, FIRST_PERSON)
NAME_RULE = "2 to 40 lower-case letters a-z, digits and hyphens; a letter first, no hyphen last"


def check_name(name: str) -> None:
    """Raises UserError if `name` is not a valid name for a project."""
    if not NAME.fullmatch(name):
        shown = name.encode("ascii", "backslashreplace").decode()[:60]
        raise UserError(f"“{shown}” cannot be a project's name: {NAME_RULE}. For example: `new project my-app`")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a new project's files are to be."""

    path: Path
    adopted: bool
    exists: bool


@dataclass(frozen=True, slots=True)
class Places:
    """The roots that sources may be in, and the places that they may not touch."""

    root: Path
    allowed_roots: Collection[Path]
    forbidden: Collection[Path]

    def choose(self, name: str, given: str | None, *, adopt: bool, taken: Collection[Path]) -> Source:
        """The source of a new project.

        `given` is a path that a person typed; `taken` are other projects' sources. Links are resolved first, so that
        what is checked is what will be used. Raises UserError.
        """
        roots = [root.resolve() for root in (self.root, *self.allowed_roots)]
        path = _resolve(given if given is not None else str(roots[0] / name))
        # Outside of the roots nothing is looked up: no answer reveals what the host has there.
        if not any(root in path.parents for root in roots):
            allowed = ", ".join(map(str, roots))
            raise UserError(f"{given or name} is not inside an allowed folder ({allowed}); see projects.allowed_roots")
        for place in (place.resolve() for place in self.forbidden):
            if path == place or place in path.parents or path in place.parents:
                raise UserError(f"{path} is part of the gateway's own state; choose another folder")
        for other in taken:
            if path == other or other in path.parents or path in other.parents:
                raise UserError(f"{path} overlaps {other}, another project's source; choose another folder")
        return _inspect(path, name, adopt=adopt)


def _resolve(given: str) -> Path:
    if "\0" in given or any(ord(letter) < 32 for letter in given):
        raise UserError("A path cannot contain control characters.")
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(f"{given} cannot be resolved: {error}") from error
    if not path.is_absolute():
        raise UserError(f"--path needs a full path from /, not {given}")
    try:
        return path.resolve()
    except OSError as error:
        raise UserError(f"{given} cannot be resolved: {error.strerror}") from error


def _inspect(path: Path, name: str, *, adopt: bool) -> Source:
    try:
        if not path.exists():
            if adopt:
                raise UserError(f"There is no folder {path} to adopt.")
            return Source(path, adopted=False, exists=False)
        if not path.is_dir():
            raise UserError(f"{path} is not a folder")
        if adopt:
            return Source(path, adopted=True, exists=True)
        if any(path.iterdir()):
            line = f"new project {name} --path {shlex.quote(str(path))} --adopt"
            raise UserError(f"{path} is not empty. To use it as it is, type `{line}`")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return Source(path, adopted=False, exists=True)


def choose_owner(source: Source) -> tuple[int, int]:
    """Whom a project's container runs as: uid and gid, never 0.

    The gateway's own user; where that is root, the folder's owner. Raises UserError, with the line to type, for a
    folder that the container could not write, or only as root.
    """
    uid = os.geteuid()
    if not source.exists:
        return (uid, os.getegid() or uid) if uid else NEW_OWNER
    status = source.path.stat()
    owner = f"{uid or NEW_OWNER[0]}:{os.getegid() or uid or NEW_OWNER[1]}"
    give = f"`chown -R {owner} {shlex.quote(str(source.path))}`"
    if uid not in (0, status.st_uid):
        raise UserError(
            f"{source.path} belongs to user {status.st_uid}, and its container would run as {uid}. "
            f"Give it to that user: {give}; then type the command again."
        )
    if status.st_uid == 0:
        raise UserError(
            f"{source.path} belongs to root, and no container runs as root. "
            f"Give it to somebody: {give}; then type the command again."
        )
    return status.st_uid, status.st_gid or status.st_uid
