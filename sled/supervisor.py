"""Runs and their runners: start, steer, stop, and what happens when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

from sled.channel import FD_VARIABLE, Baseline, Channel
from sled.journal import Journal
from sled.processes import Process, descendants, end_descendants, end_tree, is_alive, marked
from sled.protocol import Body, Finished, Forget, Run, Steer, Stop

log = logging.getLogger(__name__)

#: Environment variable that runners and all they start inherit, so that a new sled finds what a killed one left.
MARK = "HUSKIES_SLED"
#: Idle runners that stay warm; the one idle for longest goes first.
MAX_WARM = 8


class _Runner:
    """The process of one session, and the run it is at."""

    def __init__(self, session: str, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.session = session
        self.process = process
        self.root = psutil.Process(process.pid)
        self.channel = channel
        self.baseline: list[Process] = []
        self.run: Run | None = None
        self.stopping = False
        self.ended = asyncio.Event()
        self.idle_since = 0.0
        self.expiry: asyncio.TimerHandle | None = None


class Supervisor:
    """Holds the runners of one sled.

    `publish` is told the id of a run that has a new event in the journal.
    """

    def __init__(
        self, journal: Journal, workspace: Path, environment: Mapping[str, str], publish: Callable[[str], None]
    ) -> None:
        self._journal = journal
        self._workspace = workspace
        self._environment = {**environment, MARK: journal.id}
        self._publish = publish
        self._runners: dict[str, _Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: set[Process] = set()
        self._spawning = asyncio.Lock()

    async def recover(self) -> None:
        """Bury what an earlier sled left: its processes first, then its runs."""
        for process in marked(MARK, self._journal.id):
            log.warning("killing %s, left by an earlier sled", process.pid)
            await end_tree(process)
        for run in self._journal.unfinished():
            self._record(run, Finished(ending="interrupted", reason="crashed"))

    async def start(self, run: Run) -> None:
        """Journal the run, then hand it to its session's runner. A run that is known already is left alone."""
        if run.run in self._journal:
            return
        self._journal.begin(run.run)
        runner = self._runners.get(run.session)
        if runner is not None and not is_alive(runner.root):
            await self._end(runner, None)
            runner = None
        if runner is not None and runner.run is not None:
            self._record(run.run, Finished(ending="failed", error="its session has a run already"))
            return
        try:
            runner = runner or await self._open(run.session)
        except OSError as error:
            self._record(run.run, Finished(ending="failed", error=f"the runner did not start: {error}"))
            return
        runner.run, runner.stopping = run, False
        runner.ended.clear()
        if runner.expiry is not None:
            runner.expiry.cancel()
        with contextlib.suppress(ConnectionError):  # a dead runner is noticed by its reader
            await runner.channel.send(run)

    async def spawn(self, *command: str, **options: Any) -> asyncio.subprocess.Process:
        """Start a child that is the sled's own, so that it is never taken for an orphan of a dead runner."""
        async with self._spawning:
            process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, **options)
            with contextlib.suppress(psutil.NoSuchProcess):
                self._own.add(psutil.Process(process.pid))
        return process

    async def steer(self, steer: Steer) -> None:
        """Hand a message into a run that is under way."""
        if runner := self._at(steer.run):
            with contextlib.suppress(ConnectionError):
                await runner.channel.send(steer)

    async def stop(self, stop: Stop) -> None:
        """End a run: ask, wait, kill what it started, verify. Returns when `Finished` is journaled."""
        runner = self._at(stop.run)
        if runner is None or runner.stopping:
            return
        runner.stopping = True
        with contextlib.suppress(ConnectionError):
            await runner.channel.send(stop)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runner.ended.wait(), stop.grace_s)
            return
        log.warning("run %s ignores its interrupt: killing its runner", stop.run)
        await self._end(runner, Finished(ending="interrupted", reason="stopped"))

    async def forget(self, forget: Forget) -> None:
        """End the warm runner of a session."""
        runner = self._runners.get(forget.session)
        if runner is not None and runner.run is None:
            await self._end(runner, None)

    async def close(self) -> None:
        """End everything; runs under way are interrupted."""
        end = Finished(ending="interrupted", reason="stopped")
        await asyncio.gather(*(self._end(runner, end) for runner in list(self._runners.values())))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _at(self, run: str) -> _Runner | None:
        return next((r for r in self._runners.values() if r.run is not None and r.run.run == run), None)

    async def _open(self, session: str) -> _Runner:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await self.spawn(
                *(sys.executable, "-I", "-m", "sled.runner", str(os.getpid())),
                cwd=self._workspace,
                env={**self._environment, FD_VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        runner = _Runner(session, process, await Channel.open(ours))
        self._runners[session] = runner
        self._in_background(self._listen(runner))
        return runner

    async def _listen(self, runner: _Runner) -> None:
        while frame := await runner.channel.from_runner():
            if isinstance(frame, Baseline):
                runner.baseline = _processes(frame.pids)
            elif runner.run is None:
                log.warning("an event of session %s outside of a run: %s", runner.session, frame)
            elif isinstance(frame, Finished):
                await self._finish(runner, frame)
            else:
                self._record(runner.run.run, frame)
        await self._end(runner, Finished(ending="interrupted", reason="crashed"))

    async def _finish(self, runner: _Runner, end: Finished) -> None:
        """The agent says that its run is over; after a stop, see to it that what it started is too."""
        if runner.stopping:
            survivors = await end_descendants(runner.root, spare=runner.baseline)
            end = msgspec.structs.replace(end, survivors=survivors)
        run, runner.run = runner.run, None
        if run is None:
            return
        self._record(run.run, end)
        runner.ended.set()
        self._keep_warm(runner, run.warm_s)

    def _keep_warm(self, runner: _Runner, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        runner.idle_since = loop.time()
        runner.expiry = loop.call_later(seconds, self._expire, runner)
        idle = sorted((r for r in self._runners.values() if r.run is None), key=lambda r: r.idle_since)
        for surplus in idle[: max(0, len(idle) - MAX_WARM)]:
            self._expire(surplus)

    def _expire(self, runner: _Runner) -> None:
        if runner.run is None:
            self._in_background(self._end(runner, None))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, runner: _Runner, end: Finished | None) -> None:
        """The one kill routine: the runner's whole tree, verified; then, and only then, its run is over."""
        run, runner.run = runner.run, None
        if self._runners.get(runner.session) is runner:
            del self._runners[runner.session]
        if runner.expiry is not None:
            runner.expiry.cancel()
        survivors = await end_tree(runner.root)
        await runner.process.wait()
        # The runner may have died first; what it left was adopted by the sled, its subreaper.
        survivors += await self._end_orphans()
        self._own.discard(runner.root)
        runner.channel.close()
        if run is not None and end is not None:
            self._record(run.run, msgspec.structs.replace(end, survivors=survivors))
        runner.ended.set()

    async def _end_orphans(self) -> list[int]:
        async with self._spawning:
            spare = set(self._own)
            for process in self._own:
                spare |= descendants(process)
            return await end_descendants(psutil.Process(), spare=spare)

    def _record(self, run: str, body: Body) -> None:
        self._journal.append(run, body)
        self._publish(run)


def _processes(pids: list[int]) -> list[Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(Process(pid))
    return found
