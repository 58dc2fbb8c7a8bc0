"""What is this user's own: nothing is read, run or asked that another user of this host could have put there.

Agents have the user's own id where the gateway is no root, so an owner says nothing about them: what keeps their files
out is that nothing is taken from a folder that they write in.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from gateway.errors import ConfigError, StateError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_file(file: Path) -> None:
    """A configuration: ours or root's, and written by nobody else. Raises ConfigError."""
    try:
        link, status = file.lstat(), file.stat()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    for owner in (link.st_uid, status.st_uid):  # whoever owns a link chooses the file
        if owner not in (os.geteuid(), 0):
            raise ConfigError(
                f"{file} belongs to another user (uid {owner}), who would decide what this does; "
                f"if it says what you want, type: chown -h {os.geteuid()} {file}"
            )
    if status.st_mode & _OTHERS_WRITE:
        raise ConfigError(f"{file} can be changed by other users; look at what it says, then type: chmod go-w {file}")
    if folder := _open_to_all(file):
        raise ConfigError(
            f"{file} is in a folder in which every user may replace it; type: chmod o-w {folder}, or move it"
        )


def check_state(state_dir: Path) -> None:
    """A state directory that is there: ours, and no door for anybody else. Raises StateError."""
    try:
        link, folders = state_dir.lstat(), [state_dir.stat()]
        inner = state_dir / ".gateway"
        folders += [inner.lstat()] if os.path.lexists(inner) else []
    except OSError as error:
        raise StateError(f"the state directory {state_dir} cannot be used: {error.strerror}") from error
    others = {status.st_uid for status in folders} | ({link.st_uid} - {0})  # root may have linked it
    for owner in others - {os.geteuid()}:
        raise StateError(
            f"the state directory {state_dir} belongs to another user (uid {owner}); "
            "run huskies as that user, or set another gateway.state_dir"
        )
    for status in folders:
        if not stat.S_ISDIR(status.st_mode) or status.st_mode & _OTHERS_WRITE:
            raise StateError(
                f"other users could write to the state directory {state_dir}; look at what is in it, then type: "
                f"chmod -R go-w {state_dir}"
            )
    if folder := _open_to_all(state_dir):
        raise StateError(
            f"the state directory {state_dir} is in a folder in which every user may replace it; type: "
            f"chmod o-w {folder}, or set another gateway.state_dir"
        )


def check_socket(state_dir: Path, socket: Path) -> None:
    """The socket of the gateway that runs on a state directory.

    Raises StateError; FileNotFoundError or NotADirectoryError where there is none.
    """
    status: os.stat_result | None = None
    with contextlib.suppress(PermissionError):  # of a folder that is not ours, which is told next
        status = socket.lstat()
    check_state(state_dir)
    if status is None or not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        raise StateError(f"{socket} is not the socket of a gateway of yours; remove it, and type: huskies run")


def _open_to_all(path: Path) -> Path | None:
    """A folder above in which any user could put another file in the place of this one."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return folder
    return None
