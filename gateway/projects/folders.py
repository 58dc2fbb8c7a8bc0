"""A project's folders on this host: made, found empty, removed. Only what is named is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from gateway.errors import UserError
from gateway.store.projects import Project

#: How often a folder is walked to remove it: each walk opens closed folders one level deeper.
_PASSES = 10


def make_source(path: Path, owner: tuple[int, int] | None) -> None:
    """Make a source that does not exist, and give it to `owner` if this process may. Raises OSError."""
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(0o755)
        if owner is not None and os.geteuid() == 0:
            os.chown(path, *owner)


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
        with contextlib.suppress(OSError):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
    if project.made_source:
        with contextlib.suppress(OSError):  # not empty: a person's
            project.path.rmdir()


def remove(folder: Path) -> bool:
    """Remove a folder, closed parts included (package caches are read-only); False if any of it stays."""

    def open_up(_: object, path: str, __: object) -> None:
        for place in (Path(path), Path(path).parent):
            with contextlib.suppress(OSError):
                # Nothing above or beside the folder is touched, wherever a link in it leads.
                if (place == folder or folder in place.parents) and not place.is_symlink() and place.is_dir():
                    place.chmod(0o700)

    for _ in range(_PASSES):
        if not folder.is_symlink() and not folder.exists():
            return True
        shutil.rmtree(folder, onerror=open_up)
    return not folder.exists()
