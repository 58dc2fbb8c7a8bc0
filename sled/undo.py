"""Putting back the files that a turn changed, where nobody has changed them since."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import Iterable

import msgspec

from sled.inside import folder
from sled.protocol import MAX_TEXT
from sled.shadow import Change, Shadow, shown
from sled.snapshots import NoSnapshot, Record, Snapshots

#: How many paths of each kind are named if not all can be, and if even those are too many.
_MAX_NAMED = (1000, 40)
_LINK = stat.S_IFLNK
_GITIGNORE = b".gitignore"
_CHANGED = "it has changed since"
_THERE = "something else is there now"
_MAY_BE_OLDER = "git ignored it before this turn, so it may be older"


class Left(msgspec.Struct):
    """A path that was left as it is."""

    path: str
    why: str


class Undone(msgspec.Struct):
    """The answer to `undo`. `cannot`: what else the turn may have done that this does not undo."""

    run: str
    restored: list[str] = []
    removed: list[str] = []
    left: list[Left] = []
    cannot: str = ""


async def undo(snapshots: Snapshots, run: str) -> str:
    """Undo turn `run`, or the last one that changed files and is not undone, as the JSON of an `Undone`.

    Raises NoSnapshot, NoTree, OSError.
    """
    record = _choose(snapshots, run)
    async with snapshots.lock:
        made = await _Undo(snapshots.shadow, record).do()
    record.undone = True
    await snapshots.save()
    return msgspec.json.encode(_bounded(made)).decode()


def _choose(snapshots: Snapshots, run: str) -> Record:
    if run:
        if (record := snapshots.find(run)).undone:
            raise NoSnapshot(f"turn {run} is already undone")
        return record
    snapshots.find("")
    # A turn that only talked leaves nothing to undo.
    for record in reversed(snapshots.records):
        if record.why:
            raise NoSnapshot(f"there is no snapshot of the turn that would be undone: {record.why}")
        if record.after and record.before != record.after and not record.undone:
            return record
    raise NoSnapshot("no remembered turn has file changes that are not undone yet")


class _Undo:
    """One turn's changes, on their way back."""

    def __init__(self, shadow: Shadow, record: Record) -> None:
        self._shadow = shadow
        self._record = record
        self._made = Undone(record.run)
        self._left_rules = False

    async def do(self) -> Undone:
        changes = await self._shadow.changes(self._record.before, self._record.after)
        now = await self._shadow.take()
        since = {change.path for change in await self._shadow.changes(self._record.after, now.id)}
        free = []
        for change in changes:
            if change.path in since or (not change.new_mode and self._exists(change.path)):
                self._leave(change, _CHANGED)
            else:
                free.append(change)
        # The ignore files from before decide what is ignored, so these come first.
        await self._put_back([change for change in free if _is_rule(change)])
        rest = await self._spare_older([change for change in free if not _is_rule(change)])
        await self._put_back(rest)
        self._made.cannot = self._cannot()
        return self._made

    async def _spare_older(self, changes: list[Change]) -> list[Change]:
        """Leave alone what seems to be new only because a turn changed what is ignored."""
        added = [change.path for change in changes if not change.old_mode]
        ignored = set(added) if self._left_rules else await self._shadow.ignored(added)
        for change in changes:
            if change.path in ignored:
                self._leave(change, _MAY_BE_OLDER)
        return [change for change in changes if change.path not in ignored]

    async def _put_back(self, changes: Iterable[Change]) -> None:
        ordered = sorted(changes, key=lambda change: change.path)
        for change in reversed(ordered):  # a folder's content goes before the file that takes its place
            if not change.old_mode:
                await self._try(change, b"")
        for change in ordered:
            if change.old_mode:
                await self._try(change, await self._shadow.blob(change.old_blob))

    async def _try(self, change: Change, content: bytes) -> None:
        try:
            await asyncio.to_thread(self._remove if not change.old_mode else self._restore, change, content)
        except OSError as error:
            self._leave(change, _THERE if isinstance(error, (FileExistsError, IsADirectoryError)) else _why(error))
        else:
            (self._made.restored if change.old_mode else self._made.removed).append(shown(change.path))

    def _remove(self, change: Change, _: bytes) -> None:
        *parents, name = _parts(change.path)
        with folder(self._shadow.workspace, *parents) as parent:
            os.unlink(name, dir_fd=parent)
        while parents:
            name = parents.pop()
            with folder(self._shadow.workspace, *parents) as parent:
                try:
                    os.rmdir(name, dir_fd=parent)
                except OSError:
                    return  # something else is in it

    def _restore(self, change: Change, content: bytes) -> None:
        *parents, name = _parts(change.path)
        with folder(self._shadow.workspace, *parents, create=True) as parent:
            partial = f".{secrets.token_hex(8)}.partial"
            try:
                if stat.S_IFMT(change.old_mode) == _LINK:
                    os.symlink(os.fsdecode(content), partial, dir_fd=parent)
                else:
                    _write(parent, partial, content, _mode(parent, name, change.old_mode))
                os.rename(partial, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial, dir_fd=parent)
                raise

    def _exists(self, path: bytes) -> bool:
        """Whether there is a file now that git does not see; a folder does not count, as the turn may have made it."""
        *parents, name = _parts(path)
        try:
            with folder(self._shadow.workspace, *parents) as parent:
                return not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def _leave(self, change: Change, why: str) -> None:
        self._left_rules = self._left_rules or _is_rule(change)
        self._made.left.append(Left(shown(change.path), why))

    def _cannot(self) -> str:
        parts = ["files that git ignores", "what commands did elsewhere"]
        before, after = self._record.heads
        if before != after:
            parts.append(
                f"commits that were made (HEAD went from {before[:10] or 'nothing'} to {after[:10] or 'nothing'})"
            )
        if self._record.left_out:
            named = ", ".join(self._record.left_out)
            parts.append(f"large or unreadable files and repositories of their own ({named})")
        return "Not undone: " + "; ".join(parts) + "."


def _is_rule(change: Change) -> bool:
    return change.path.rpartition(b"/")[2] == _GITIGNORE


def _parts(path: bytes) -> list[str]:
    return os.fsdecode(path).split("/")


def _mode(parent: int, name: str, wanted: int) -> int:
    """The mode of what is there now, except for whether it may be executed."""
    try:
        now = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return wanted & 0o777
    if not stat.S_ISREG(now.st_mode):
        return wanted & 0o777
    bits = stat.S_IMODE(now.st_mode)
    return bits | ((bits & 0o444) >> 2) if wanted & 0o100 else bits & ~0o111


def _write(parent: int, name: str, content: bytes, mode: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _bounded(made: Undone) -> Undone:
    """Name only as many paths as fit into a frame."""
    for most in _MAX_NAMED:
        if len(msgspec.json.encode(made)) <= MAX_TEXT // 2:
            break
        for paths in (made.restored, made.removed):
            if len(paths) > most:
                paths[most:] = [f"... and {len(paths) - most} more"]
        if len(made.left) > most:
            made.left[most:] = [Left(f"... and {len(made.left) - most} more", "as these")]
    return made
