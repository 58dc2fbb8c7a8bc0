"""A project's folders on this host: made, found empty, removed. Only what is named is touched."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import UserError
from gateway.projects import access_list
from gateway.store.projects import Project

log = logging.getLogger(__name__)

#: Bytes of a path, its end included: Linux's PATH_MAX.
_MAX_PATH = 4096


def make_source(path: Path, owner: tuple[int, int] | None, person: int | None = None) -> str:
    """Make a source that does not exist, and give it to `owner` if this process may. Raises OSError.

    `person` is an account of this host that gets in as well. What people have to know of it, if anything.

    No other user can enter it: what an agent sets the set-id bit of would give them the agent's user, which for a
    gateway of a plain user is the gateway's own. The folders above are passed through by owners of several projects
    where the gateway is root's.
    """
    if path.is_dir():
        return ""
    root = os.geteuid() == 0
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), path.parents))
    for folder in reversed(missing):
        folder.mkdir()
        folder.chmod(0o711 if root else 0o700)
    path.mkdir(mode=0o700)
    if owner is None or not root:
        return ""
    os.chown(path, *owner)
    if person in (None, owner[0]):
        return ""
    try:
        access_list.let_in(path, owner[0], person)
    except OSError as error:
        log.warning("%s: %s", path, error)
        return (
            f"Only root gets into {path} on this host: its file system has no access control lists ({error.strerror})."
        )
    return ""


def is_open_to_others(path: Path) -> bool:
    """Whether users of this host that are neither its owner nor in its group can enter a folder. Raises OSError."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def check_empty(path: Path) -> None:
    """Raises UserError when a folder that a clone wants has files."""
    if any(path.iterdir()):
        raise UserError(
            f"{path} has files, but --git needs an empty folder. Leave out --git to use it as it is, "
            "or choose another folder with --path."
        )


def unmake_source(project: Project) -> None:
    """Remove what a bootstrap put into a source, and nothing that was there before or that a person put there since."""
    ours: list[Path] = []
    if project.git_url:
        ours = list(project.path.iterdir()) if project.path.is_dir() else []
    elif not project.adopted and not project.revived:
        ours = [project.path / made for made in (".git", ".huskies")]  # what `init` makes
    for entry in ours:
        remove(entry)
    if project.made_source:
        with contextlib.suppress(OSError):  # not empty: a person's
            project.path.rmdir()


def all_below(folder: Path) -> Iterator[Path]:
    """Everything in a folder, as deep as a path can lead; no link is followed. Raises OSError."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if len(os.fsencode(entry.path)) < _MAX_PATH:
                    yield Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))


def remove(path: Path) -> bool:
    """Remove what is there, a folder's closed parts included (package caches are read-only); False if any of it stays.

    An agent may have nested folders deeper than paths can be long, or a stack of calls be high: so each folder's own
    folders are lifted to the top, until there are none. No link is followed.
    """
    try:
        try:
            top = _open(path)
        except NotADirectoryError:
            path.unlink()
        else:
            try:
                _empty(top)
            finally:
                os.close(top)
            path.rmdir()
    except OSError:
        pass  # what stays is seen below
    except Exception:  # a defect of ours: whoever waits for the receipt gets one
        log.exception("%s was not removed", path)
    return not os.path.lexists(path)


def _empty(top: int) -> None:
    """Remove all that can be removed from an open folder."""
    series = secrets.token_hex(8)  # nothing in there is called like that
    lifted = (f".{series}-{number}" for number in itertools.count())
    stuck: set[str] = set()
    while names := [name for name in _entries(top) if name not in stuck]:
        for name in names:
            try:
                _take_apart(top, name, lifted)
            except OSError:
                stuck.add(name)


def _take_apart(top: int, name: str, lifted: Iterator[str]) -> None:
    """Remove an entry of an open folder, but for the folders that are in it: these are entries now. Raises OSError."""
    try:
        folder = _open(name, top)
    except NotADirectoryError:
        os.unlink(name, dir_fd=top)
        return
    try:
        for entry in _entries(folder):
            with contextlib.suppress(OSError):  # the others go, and what stays keeps its folder
                if not stat.S_ISDIR(os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode):
                    os.unlink(entry, dir_fd=folder)
                    continue
                os.close(_open(entry, folder))  # one that is closed to us cannot be moved
                os.rename(entry, next(lifted), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _entries(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _open(path: Path | str, at: int | None = None) -> int:
    """Open a folder, and open it up if it is closed to its owner. Raises OSError; NotADirectoryError for a link."""
    place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
    try:
        # By its number: a name could be another's by now.
        same = Path(f"/proc/self/fd/{place}")
        if same.stat().st_mode & stat.S_IRWXU != stat.S_IRWXU:
            same.chmod(stat.S_IRWXU)
        return os.open(same, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(place)
