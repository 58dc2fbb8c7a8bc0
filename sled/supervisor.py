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

from sled import agents
from sled.around import Around
from sled.channel import FD_VARIABLE, Baseline, Channel, FromRunner, Ready, fit
from sled.children import Children
from sled.journal import Journal
from sled.processes import MARK, Process, ancestry, descendants, end_descendants, end_marked, end_tree, is_alive
from sled.protocol import Body, Cool, Decision, Finished, Forget, Note, Run, Steer, Stop, Warm

log = logging.getLogger(__name__)

#: Idle runners that stay warm; the one idle for longest goes first.
MAX_WARM = 8
#: Seconds that a runner stands by for a session that is cold: a working day, so that a morning's first turn is quick
#: too where somebody worked the evening before, and a project that nobody uses holds no memory for it.
STAND_BY_S = 16 * 3600.0
#: Seconds after a run until another one is started to stand by: what follows from the run's end goes first.
REST_S = 3.0
#: Notes that may go with the end of a run.
MAX_NOTES = 20
#: What Python is told to run as a runner.
RUNNER = ("-I", "-m", "sled.runner")


_CRASHED = Finished(ending="interrupted", reason="crashed")
_STOPPED = Finished(ending="interrupted", reason="stopped")
#: Seconds to end a runner's tree, and again to end its orphans; together with the grace period, less than 2.
_KILL_S = 0.4


class _Turn:
    """A run under way. `given`: the runner has it; `obeyed`: the agent ended it after a stop; `over`: its end is
    journaled. `end`: what the agent says about its end, while files are sent; `hurry`: do not wait for them. `ahead`:
    its agent was started before it."""

    def __init__(self, run: Run, *, ahead: bool) -> None:
        self.run = run
        self.ahead = ahead
        self.preparing: asyncio.Task[None] | None = None
        self.given = False
        self.stopping = False
        self.end: Finished | None = None
        self.notes: list[str] = []
        self.hurry = asyncio.Event()
        self.obeyed = asyncio.Event()
        self.over = asyncio.Event()


class _Runner:
    """The process of one session, and its current run."""

    def __init__(
        self, session: str, agent: str, process: asyncio.subprocess.Process, root: Process, channel: Channel
    ) -> None:
        self.session = session
        self.agent = agent
        self.process = process
        self.root = root
        self.channel = channel
        self.baseline: list[Process] = []
        self.turn: _Turn | None = None
        self.idle_since = 0.0
        #: Its agent was told to start ahead of a run that has not come yet.
        self.ahead = False
        self.expiry: asyncio.TimerHandle | None = None
        self.ending: asyncio.Task[None] | None = None


class Supervisor:
    """Holds the runners of one sled.

    `publish` is told the id of a run that has a new event in the journal; `around` does the work before and after runs.
    """

    def __init__(
        self,
        journal: Journal,
        workspace: Path,
        environment: Mapping[str, str],
        *,
        publish: Callable[[str], None],
        children: Children,
        around: Around,
    ) -> None:
        self._journal = journal
        self._workspace = workspace
        self._environment = {**environment, MARK: journal.id}
        self._publish = publish
        self._children = children
        self._around = around
        self._runners: dict[str, _Runner] = {}
        #: A runner that has loaded its agent and waits for a session that is cold.
        self._standby: _Runner | None = None
        self._one_standby = asyncio.Lock()
        #: The agent that it is to have, and when it is started.
        self._wanted = ""
        self._soon: asyncio.TimerHandle | None = None
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return any(runner.turn is not None for runner in self._runners.values())

    def run_of(self, pid: int) -> str:
        """The run that a process belongs to: it is, or descends from, the runner of one; else empty."""
        at_work = {runner.root.pid: runner for runner in self._runners.values() if runner.turn is not None}
        for one in ancestry(pid):
            if (runner := at_work.get(one)) is not None and runner.turn is not None:
                return runner.turn.run.run
        return ""

    async def recover(self) -> None:
        """End what an earlier sled left behind: its processes first, then its runs."""
        if survivors := await end_marked(MARK, self._journal.id):
            log.error("left by an earlier sled, and could not be killed: %s", survivors)
        for run in self._journal.unfinished():
            self._record(run, msgspec.structs.replace(_CRASHED, survivors=survivors))

    def stand_by(self, agent: str, after_s: float = 0.0) -> None:
        """Have a runner load an agent, if that takes long, so that the next cold session need not wait for it."""
        if agents.takes_long_to_load(agent) and not self._closing:
            self._wanted = agent
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_later(after_s, self._now_stand_by)

    async def start(self, run: Run) -> None:
        """Journal the run, then hand it to its session's runner. A run that is already known is left alone."""
        if run.run in self._journal:
            return
        try:
            self._journal.begin(run.run)
            runner = await self._runner_of(run.session, run.agent)
        except OSError as error:
            self._record(run.run, Finished(ending="failed", error=f"the runner did not start: {_told(error)}"))
            return
        if runner.turn is not None:
            self._record(run.run, Finished(ending="failed", error="its session already has a run"))
            return
        if runner.expiry is not None:
            runner.expiry.cancel()
        runner.turn = _Turn(run, ahead=runner.ahead)
        runner.ahead = False
        runner.turn.preparing = self._in_background(self._prepare(runner, runner.turn))

    async def warm(self, warm: Warm) -> None:
        """Start a session's runner and agent ahead of its run, unless they are warm. A run under way is left alone."""
        try:
            runner = await self._runner_of(warm.session, warm.agent)
        except OSError as error:
            log.warning("the runner of session %s did not start ahead: %s", warm.session, error)
            return
        if runner.turn is not None:
            return
        left = runner.expiry.when() - asyncio.get_running_loop().time() if runner.expiry is not None else 0.0
        runner.ahead = True
        runner.channel.post(warm)
        self._keep_warm(runner, max(left, warm.for_s))

    async def cool(self, cool: Cool) -> None:
        """End what was started ahead of a run that does not come."""
        runner = self._runners.get(cool.session)
        if runner is not None and runner.turn is None and runner.ahead:
            await self._end(runner, _STOPPED)

    async def spawn(self, *command: str, **options: Any) -> asyncio.subprocess.Process:
        """Start a child that is the sled's own, so that it is never taken for an orphan of a dead runner."""
        return await self._children.spawn(*command, **options)

    async def steer(self, steer: Steer) -> None:
        """Hand a message into a run that is under way."""
        if runner := self._at(steer.run):
            runner.channel.post(steer)

    async def decide(self, decision: Decision) -> None:
        """Hand the answer to a question into the run that asks."""
        if runner := self._at(decision.run):
            runner.channel.post(decision)

    async def stop(self, stop: Stop) -> None:
        """End a run: ask, wait, kill what it started, verify. Returns when `Finished` is journaled."""
        runner = self._at(stop.run)
        if runner is None or runner.turn is None:
            return
        turn = runner.turn
        if turn.end is not None:
            turn.hurry.set()
        elif not turn.given:
            self._conclude(runner, turn, msgspec.structs.replace(_STOPPED, agent_session=turn.run.resume))
            if turn.ahead:  # what its agent has started by now is the turn's
                await self._end(runner, _STOPPED)
            else:
                self._keep_warm(runner, turn.run.warm_s)
        elif not turn.stopping:
            turn.stopping = True
            runner.channel.post(stop)
            try:
                await asyncio.wait_for(turn.obeyed.wait(), stop.grace_s)
            except TimeoutError:
                log.warning("run %s ignores its interrupt: killing its runner", stop.run)
                self._end(runner, _STOPPED)
        await turn.over.wait()

    async def forget(self, forget: Forget) -> None:
        """End the warm runner of a session."""
        runner = self._runners.get(forget.session)
        if runner is not None and runner.turn is None:
            await self._end(runner, _STOPPED)

    async def close(self) -> None:
        """End everything; runs under way are interrupted."""
        self._closing = True
        if self._soon is not None:
            self._soon.cancel()
        for runner in [*self._runners.values(), *([self._standby] if self._standby is not None else [])]:
            self._end(runner, _STOPPED)
        # A runner's end closes its channel, and that ends its listener.
        await self._around.close()
        while self._tasks:  # the end of one may begin another
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _prepare(self, runner: _Runner, turn: _Turn) -> None:
        """Give the run, with all that belongs to it, to its runner; say when the agent may change files."""
        before = self._around.begin(turn.run)
        try:
            run = await self._around.complete(turn.run, before)
        except Exception:
            # Files and news are a help, and no reason to keep a person waiting for ever.
            log.exception("run %s: it starts without its files and news", turn.run.run)
            run = turn.run
        turn.given = True
        runner.channel.post(run)
        await asyncio.wait({before})
        runner.channel.post(Ready(run=run.run))

    def _at(self, run: str) -> _Runner | None:
        return next((r for r in self._runners.values() if r.turn is not None and r.turn.run.run == run), None)

    async def _runner_of(self, session: str, agent: str) -> _Runner:
        """The session's warm runner, or a new one. Raises OSError."""
        runner = self._runners.get(session)
        if runner is not None and is_alive(runner.root) and (runner.turn is not None or runner.agent == agent):
            return runner
        if runner is not None:
            await self._end(runner, _CRASHED)
        return await self._open(session, agent)

    def _now_stand_by(self) -> None:
        self._soon = None
        self._in_background(self._stand_by(self._wanted))

    async def _stand_by(self, agent: str) -> None:
        async with self._one_standby:
            if self._standby is None or self._standby.agent != agent or not is_alive(self._standby.root):
                if self._standby is not None:
                    self._end(self._standby, _STOPPED)
                try:
                    self._standby = await self._spawn(agent)
                except OSError as error:
                    log.warning("no runner stands by: %s", error)
                    return
            if self._closing:
                self._end(self._standby, _STOPPED)
                return
            if self._standby.expiry is not None:
                self._standby.expiry.cancel()
            self._standby.expiry = asyncio.get_running_loop().call_later(STAND_BY_S, self._end, self._standby, _STOPPED)

    async def _open(self, session: str, agent: str) -> _Runner:
        """A runner for a session that is cold: the one that stands by, if it has this agent. Raises OSError."""
        async with self._one_standby:  # one that is just being started is worth waiting for
            runner, self._standby = self._standby, None
        if runner is not None and (runner.agent != agent or not is_alive(runner.root)):
            self._end(runner, _STOPPED)
            runner = None
        if runner is None:
            runner = await self._spawn(agent)
        elif runner.expiry is not None:
            runner.expiry.cancel()
        runner.session = session
        self._runners[session] = runner
        return runner

    async def _spawn(self, agent: str) -> _Runner:
        """A new runner, of no session yet. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await self.spawn(
                *(sys.executable, *RUNNER, str(os.getpid()), agent.partition(":")[0]),
                cwd=self._workspace,
                env={**self._environment, FD_VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                # What agents print goes to the sled's standard output; its standard error is for its own words.
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            root = Process(process.pid)
        except psutil.NoSuchProcess as error:
            ours.close()
            raise OSError("it ended at once") from error
        runner = _Runner("", agent, process, root, await Channel.open(ours))
        self._in_background(self._listen(runner))
        return runner

    async def _listen(self, runner: _Runner) -> None:
        try:
            while frame := await runner.channel.from_runner():
                await self._hear(runner, frame)
        finally:
            self._end(runner, _CRASHED)

    async def _hear(self, runner: _Runner, frame: FromRunner) -> None:
        if isinstance(frame, Baseline):
            runner.baseline = [process for process in descendants(runner.root) if process.pid in frame.pids]
        elif runner.turn is None:
            log.warning("an event of session %s outside of a run: %s", runner.session, type(frame).__name__)
        elif not isinstance(frame, Finished):
            self._record(runner.turn.run.run, frame)
        elif runner.ending is None:  # else its processes are being killed, and whoever does that tells the end
            await self._finish(runner, runner.turn, frame)

    async def _finish(self, runner: _Runner, turn: _Turn, end: Finished) -> None:
        """The agent says that its run is over; after a stop, make sure that what it started is over, too."""
        turn.end = end
        if turn.stopping:
            turn.obeyed.set()
            survivors = await end_descendants(runner.root, spare=runner.baseline)
            end = msgspec.structs.replace(end, survivors=survivors)
        else:
            if end.reason == "crashed":  # what it had started is nobody's now
                survivors = await end_descendants(runner.root, spare=runner.baseline)
                end = msgspec.structs.replace(end, survivors=survivors)
            try:
                await self._around.finish(turn.run, lambda body: self._record_for(turn, body), turn.hurry)
            except Exception:
                # The run has to end, whatever goes wrong with what it left.
                log.exception("run %s: what it left could not be processed", turn.run.run)
        self._conclude(runner, turn, msgspec.structs.replace(end, notes=[*end.notes, *turn.notes][:MAX_NOTES]))
        if runner.ending is None:
            self._keep_warm(runner, turn.run.warm_s)

    def _conclude(self, runner: _Runner, turn: _Turn, end: Finished) -> None:
        """Journal the one end of a run."""
        if runner.turn is turn:
            runner.turn = None
            turn.hurry.set()
            if turn.preparing is not None:
                turn.preparing.cancel()
            self._record(turn.run.run, end)
            turn.over.set()
            self._in_background(self._around.left(turn.run))
            self.stand_by(turn.run.agent, REST_S)

    def _keep_warm(self, runner: _Runner, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        runner.idle_since = loop.time()
        if runner.expiry is not None:
            runner.expiry.cancel()
        runner.expiry = loop.call_later(seconds, self._end, runner, _STOPPED)
        idle = sorted((r for r in self._runners.values() if r.turn is None), key=lambda r: r.idle_since)
        for surplus in idle[: max(0, len(idle) - MAX_WARM)]:
            self._end(surplus, _STOPPED)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _end(self, runner: _Runner, end: Finished) -> asyncio.Future[None]:
        """Begin to end a runner, once; the result may be awaited. From now on the runner takes no more runs."""
        if runner.ending is None:
            if self._runners.get(runner.session) is runner:
                del self._runners[runner.session]
            if self._standby is runner:
                self._standby = None
            if runner.expiry is not None:
                runner.expiry.cancel()
            runner.ending = self._in_background(self._kill(runner, end))
        return asyncio.shield(runner.ending)

    async def _kill(self, runner: _Runner, end: Finished) -> None:
        """The one kill routine: the runner's whole tree, verified; then, and only then, its run is over."""
        survivors = await end_tree(runner.root, within_s=_KILL_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runner.process.wait(), _KILL_S)
        # The runner may have died first; what it left was adopted by the sled, its subreaper.
        survivors += await self._children.end_orphans(_KILL_S)
        self._children.disown(runner.root)
        runner.channel.close()
        if (turn := runner.turn) is not None:
            end = turn.end or (_STOPPED if turn.stopping else end)
            self._conclude(runner, turn, msgspec.structs.replace(end, survivors=survivors))

    def _record_for(self, turn: _Turn, body: Body) -> None:
        """Record something after the agent's own end; a note goes with the answer, which replaces live messages."""
        if turn.over.is_set():
            return
        if isinstance(body, Note):
            turn.notes.append(body.text)
        self._record(turn.run.run, body)

    def _record(self, run: str, body: Body) -> None:
        self._journal.append(run, fit(body))
        self._publish(run)


def _told(error: OSError) -> str:
    """What went wrong, for people."""
    about = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{about}"
