"""What a clone leaves out: submodules and the files of Git LFS. Told with the line that fetches them, or fetched.

A submodule's address comes from the repository, so each is looked at before git sees it: https or nothing, level by
level. Nobody's hooks or commands run.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from sled.clone import is_clonable

#: Runs git in a folder: its exit code and what it said.
Git = Callable[..., Awaitable[tuple[int, str]]]

#: Levels of submodules within submodules, and how many in all.
_DEEPEST, _MOST = 4, 100
#: Files of attributes that are looked at, and bytes of each.
_ATTRIBUTES, _BYTES = 20, 64 * 1024


class NotFetched(Exception):
    """A submodule could not be fetched; the text says why."""


async def left_out(workspace: Path, git: Git, *, submodules: bool) -> list[str]:
    """Sentences about what a fresh clone does not have. `submodules`: these were fetched."""
    told = []
    count = 0 if submodules else len(await _paths(workspace, git))
    if count:
        what, them = ("a submodule", "it") if count == 1 else (f"{count} submodules", "them")
        told.append(
            f"the repository has {what}, not fetched: `git submodule update --init --recursive` fetches {them}, "
            f"and `--submodules` on `new project` does it at once"
        )
    if await _has_lfs(workspace, git):
        told.append("some files are kept in Git LFS and are only pointers here: `git lfs pull` fetches them")
    return told


async def fetch_submodules(folder: Path, git: Git, level: int = 0) -> None:
    """Fetch the submodules of a clone, and theirs. Raises NotFetched; what was fetched before stays."""
    paths = await _paths(folder, git)
    if not paths or level == _DEEPEST:
        return
    if len(paths) > _MOST:
        raise NotFetched(f"there are {len(paths)} of them")
    code, said = await git("submodule", "init", cwd=folder)
    if code != 0:
        raise NotFetched(said)
    _, listed = await git("config", "--get-regexp", r"^submodule\..*\.url$", cwd=folder)
    for line in listed.splitlines():
        name, _, url = line.partition(" ")
        if not is_clonable(url):
            raise NotFetched(f"{name.removeprefix('submodule.').removesuffix('.url')} has no https URL")
    code, said = await git("submodule", "update", "--progress", cwd=folder)
    if code != 0:
        raise NotFetched(said)
    top = await asyncio.to_thread(os.path.realpath, folder)
    for path in paths:
        inside = await asyncio.to_thread(os.path.realpath, folder / path)
        if inside.startswith(f"{top}/"):
            await fetch_submodules(Path(inside), git, level + 1)


async def _paths(folder: Path, git: Git) -> list[str]:
    """Where a repository has submodules."""
    file = folder / ".gitmodules"
    if file.is_symlink() or not file.is_file():
        return []
    code, said = await git("config", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$", cwd=folder)
    return [line.partition(" ")[2] for line in said.splitlines()] if code == 0 else []


async def _has_lfs(workspace: Path, git: Git) -> bool:
    _, said = await git("ls-files", "-z", "--", ".gitattributes", "**/.gitattributes", cwd=workspace)
    files = [workspace / name for name in said.split("\0") if name][:_ATTRIBUTES]
    return await asyncio.to_thread(lambda: any(map(_names_lfs, files)))


def _names_lfs(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as opened:
        return re.search(rb"(?m)^[^#\n]*\sfilter=lfs\b", opened.read(_BYTES)) is not None
