"""What each turn changed: the workspace's tree before and after it, and what others changed in between.

The trees live in our own repository (`sled.shadow`); `turns.json` says which turn they belong to. A snapshot is made
if it is cheap; a turn without one says why.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sled.protocol import Run
from sled.shadow import GitFailed, NoTree, Shadow, Spawn, Tree, shown

log = logging.getLogger(__name__)

#: Seconds that a snapshot may take; a turn whose snapshot takes longer gets none.
LIMIT_S = 2.0
#: Turns that are remembered.
MAX_TURNS = 50
#: Changed paths that an agent is told by name.
_MAX_TOLD = 20
#: Turns between two rounds of tidying up.
_TIDY_EVERY = 25
#: Looks that may fail in a row before the repository is rebuilt.
_MAX_FAILURES = 3
NO_GIT = "git is not installed in this project, so no snapshots are made"
_TOO_LONG = f"looking at the workspace took longer than {LIMIT_S:.0f} s"
_CUT_OFF = "the turn was cut off before a snapshot was made"
_NEWS = "Since your last turn these files were changed by others: "


class NoSnapshot(Exception):
    """There is no such snapshot; the text says why."""


class Record(msgspec.Struct):
    """A turn. `why`: why it has no snapshot; `heads`: the repository's own commit before and after it."""

    run: str
    session: str
    before: str = ""
    after: str = ""
    heads: tuple[str, str] = ("", "")
    left_out: list[str] = []
    why: str = ""
    undone: bool = False


_decoder: msgspec.json.Decoder[list[Record]] = msgspec.json.Decoder(list[Record])


class Snapshots:
    """The snapshots of one workspace, in the folder `state`."""

    def __init__(self, state: Path, workspace: Path, environment: Mapping[str, str], spawn: Spawn) -> None:
        self.shadow = Shadow(state / "snapshots.git", workspace, environment, spawn)
        #: One look at the workspace at a time, and none while files are put back.
        self.lock = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._file = state / "turns.json"
        self._records: list[Record] | None = None
        self._begun: dict[str, asyncio.Task[str]] = {}
        self._afters: set[asyncio.Future[None]] = set()
        self._works: set[asyncio.Task[Tree]] = set()
        self._tidying: asyncio.Task[None] | None = None
        self._since_tidy = 0
        self._closed = False
        #: Looks that failed in a row.
        self._failures = 0

    @property
    def records(self) -> list[Record]:
        """The turns that are remembered, oldest first."""
        if self._records is None:
            self._records = self._read()
        return self._records

    def begin(self, run: Run) -> asyncio.Task[str]:
        """Begin to take the tree that a turn starts from.

        The task's result: what others changed since its session's last turn, in a line for the agent; or nothing.
        """
        self._begun[run.run] = asyncio.create_task(self._before(run))
        return self._begun[run.run]

    async def _before(self, run: Run) -> str:
        base = next((r.after for r in reversed(self.records) if r.session == run.session and r.after), "")
        record = Record(run.run, run.session)
        self.records.append(record)
        try:
            tree, head = await self._take()
            record.before, record.heads, record.left_out = tree.id, (head, head), list(tree.left_out)
            await self.save()
            return await self._news(base, tree.id) if base else ""
        except (NoTree, OSError) as error:
            self._gave_up(record, error)
            return ""

    async def after(self, run: str) -> None:
        """Take the tree that a turn left, once, if there is a tree that it started from."""
        if self._closed or not (before := self._begun.pop(run, None)):
            return
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._afters.add(taken)
        try:
            await asyncio.wait({before})
            await self._after(run)
        finally:
            self._afters.discard(taken)
            taken.set_result(None)

    async def settled(self) -> None:
        """Wait for the trees that ended turns left."""
        while self._afters:
            await asyncio.wait(set(self._afters))

    async def _after(self, run: str) -> None:
        record = next((r for r in self.records if r.run == run), None)
        if record is None:
            return
        try:
            if record.before:
                tree, head = await self._take()
                record.after, record.heads = tree.id, (record.heads[0], head)
                record.left_out = sorted({*record.left_out, *tree.left_out})
            else:
                record.why = record.why or _CUT_OFF
            await self._keep(record)
        except (NoTree, OSError) as error:
            self._gave_up(record, error)

    def find(self, run: str) -> Record:
        """That turn or, if `run` is empty, the last one that is over. Raises NoSnapshot."""
        if not shutil.which("git"):
            raise NoSnapshot(NO_GIT)
        over = [r for r in self.records if r.after or r.why]
        found = next((r for r in reversed(over) if run in ("", r.run)), None)
        if found is None:
            raise NoSnapshot(f"there is no snapshot of turn {run}" if run else "there has been no turn yet")
        if not found.after:
            raise NoSnapshot(f"there is no snapshot of that turn: {found.why}")
        return found

    async def close(self) -> None:
        """End what runs in the background, and begin nothing more."""
        self._closed = True
        tasks: list[asyncio.Task[Any]] = [
            *self._begun.values(),
            *self._works,
            *([self._tidying] if self._tidying else []),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def save(self) -> None:
        """Write down what is known about the turns. Raises OSError."""
        async with self._saving:
            await asyncio.to_thread(self._write, msgspec.json.encode(self.records))

    async def _take(self) -> tuple[Tree, str]:
        """The workspace's tree and head. What takes too long continues in the background, so that the next is quick."""
        if not shutil.which("git"):
            raise NoTree(NO_GIT)
        if len(self._works) > 1:  # one is taking too long, and another is waiting for it
            raise NoTree(_TOO_LONG)
        work = asyncio.create_task(self._look())
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        head = asyncio.create_task(self.shadow.head())
        try:
            await asyncio.wait({work, head}, timeout=LIMIT_S)
            if not work.done():
                work.add_done_callback(_say_what_became)
                raise NoTree(_TOO_LONG)
            return work.result(), head.result() if head.done() else ""
        finally:
            head.cancel()

    async def _look(self) -> Tree:
        async with self.lock:
            try:
                tree = await self.shadow.take()
            except GitFailed:
                self._failures += 1
                await self._mend()
                raise
            self._failures = 0
            return tree

    async def _mend(self) -> None:
        """Repair what is broken, perhaps only by a file being written; after repeated failures, start over."""
        if self._failures >= _MAX_FAILURES:
            await asyncio.to_thread(self.shadow.forget)
            for record in self.records:
                record.before = record.after = ""
                record.why = record.why or "its snapshot was lost"
        elif not await self.shadow.is_readable():
            self.shadow.forget_index()

    async def _news(self, base: str, tree: str) -> str:
        try:
            async with asyncio.timeout(LIMIT_S):
                changed = [shown(change.path) for change in await self.shadow.changes(base, tree)]
        except (NoTree, TimeoutError) as error:
            log.warning("what others changed is not known: %s", error)
            return ""
        if not changed:
            return ""
        more = f", and {len(changed) - _MAX_TOLD} more" if len(changed) > _MAX_TOLD else ""
        return _NEWS + ", ".join(changed[:_MAX_TOLD]) + more

    def _gave_up(self, record: Record, error: Exception) -> None:
        log.warning("run %s has no snapshot: %s", record.run, error)
        record.why = str(error)

    async def _keep(self, record: Record) -> None:
        """Remember what is known about a turn, and forget the oldest ones."""
        forgotten = self.records[:-MAX_TURNS]
        del self.records[:-MAX_TURNS]
        await self.save()
        name = _ref(record.run)
        wanted = {f"{name}/before": record.before, f"{name}/after": record.after} if record.after else {}
        dropped = [f"{_ref(r.run)}/{end}" for r in forgotten for end in ("before", "after") if r.before and r.after]
        if wanted or dropped:
            await self.shadow.keep(wanted, dropped)
        self._since_tidy += 1
        if self._since_tidy >= _TIDY_EVERY and (self._tidying is None or self._tidying.done()):
            self._since_tidy = 0
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        try:
            await self.shadow.tidy()
        except (NoTree, OSError) as error:
            log.warning("the snapshots could not be tidied up: %s", error)

    def _write(self, data: bytes) -> None:
        partial = self._file.with_suffix(".new")
        partial.write_bytes(data)
        partial.replace(self._file)

    def _read(self) -> list[Record]:
        try:
            records = _decoder.decode(self._file.read_bytes())
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, OSError) as error:
            log.error("the record of earlier turns cannot be read: %s", error)
            return []
        for record in records:
            if not record.after:
                record.why = record.why or _CUT_OFF
        return records


def _ref(run: str) -> str:
    return re.sub(r"[^0-9A-Za-z_-]", "_", run)


def _say_what_became(work: asyncio.Task[Tree]) -> None:
    if not work.cancelled() and (error := work.exception()):
        log.warning("the look at the workspace that took too long failed: %s", error)
