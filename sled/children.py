"""The sled's own children: what it starts for itself, apart from what agents start."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from sled.processes import Process, end_descendants, is_alive


class Children:
    """Starts processes, and tells them from the orphans of a dead runner."""

    def __init__(self) -> None:
        self._own: set[Process] = set()
        self._spawning = asyncio.Lock()
        self._starting: set[asyncio.Task[asyncio.subprocess.Process]] = set()

    async def spawn(self, *command: str, **options: Any) -> asyncio.subprocess.Process:
        """Start a child that is never taken for an orphan. Raises OSError."""
        async with self._spawning:
            options.setdefault("stdin", asyncio.subprocess.DEVNULL)
            # asyncio may never come back from a start that is cancelled half-way, so none is.
            starting = asyncio.create_task(_start(command, options))
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                starting.add_done_callback(_abandon)
                raise
            self._own = {own for own in self._own if is_alive(own)}
            with contextlib.suppress(psutil.NoSuchProcess):
                self._own.add(Process(process.pid))
        return process

    async def close(self) -> None:
        """Wait for processes whose caller is gone while they were starting; they are killed."""
        await asyncio.gather(*self._starting, return_exceptions=True)

    def disown(self, process: Process) -> None:
        """Forget a child that is gone."""
        self._own.discard(process)

    async def end_orphans(self, within_s: float) -> list[int]:
        """Kill the sled's descendants, except its own children and theirs; returns the pids that survived."""
        async with self._spawning:
            return await end_descendants(Process(), apart=self._own, within_s=within_s)


async def _start(command: Sequence[str], options: Mapping[str, Any]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*command, **options)


def _abandon(started: asyncio.Task[asyncio.subprocess.Process]) -> None:
    """Whoever wanted this process is gone."""
    if not started.cancelled() and started.exception() is None:
        with contextlib.suppress(ProcessLookupError):
            started.result().kill()
