"""A runner: the process that hosts the agent of one warm session.

It is a subreaper, so everything its agent starts stays below it; it dies with the sled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from pathlib import Path

import psutil

from sled import agents
from sled.channel import FD_VARIABLE, Baseline, Channel, Ready, ToRunner, fit
from sled.processes import Reaper, become_subreaper, descendants, die_with
from sled.protocol import Body, Decision, Finished, Run, Started, Steer, Steered, Stop, Warm
from sled.turn import Turn

log = logging.getLogger(__name__)


class Runner:
    """Takes one run after another from the sled and plays each to the agent."""

    def __init__(self, channel: Channel, workspace: Path) -> None:
        self._channel = channel
        self._workspace = workspace
        self._agent: agents.Agent | None = None
        self._turn: Turn | None = None
        #: The processes that were there before the turn, or before its agent was started ahead of it.
        self._before: set[psutil.Process] = set()
        self._ahead = False

    async def serve(self) -> None:
        """Serve until the sled closes the channel."""
        play: asyncio.Task[None] | None = None
        while frame := await self._channel.from_sled():
            if isinstance(frame, Run):
                if play is not None:
                    await play
                if not self._ahead:
                    await self._begin()
                self._ahead = False
                self._turn = Turn(frame, self._emit)
                play = asyncio.create_task(self._play(self._turn))
                # The agent's run begins before the next frame is looked at, which may be its Stop.
                await asyncio.sleep(0)
            elif isinstance(frame, Warm):
                if play is None or play.done():
                    await self._get_ready(frame)
            else:
                await self._take(frame)

    async def _get_ready(self, warm: Warm) -> None:
        """Start the agent ahead of its run. What goes wrong with that, the run meets again and tells."""
        if not self._ahead:
            await self._begin()
        self._ahead = True
        try:
            if self._agent is None:
                self._agent = agents.create(warm.agent, self._workspace)
            await self._agent.prepare(warm)
        except Exception:
            log.exception("session %s: its agent did not start ahead", warm.session)

    async def _take(self, frame: ToRunner) -> None:
        """Handle a frame for the run under way."""
        match frame:
            case Steer():
                await self._steer(frame)
            case Stop() if self._agent is not None:
                await self._agent.interrupt()
            case Decision() if self._turn is not None:
                self._turn.decide(frame)
            case Ready() if self._turn is not None and self._turn.run.run == frame.run:
                self._turn.let_change()
            case _:
                log.warning("nothing to do with a frame %s", type(frame).__name__)

    async def _play(self, turn: Turn) -> None:
        """Play one run; nothing is awaited before the agent's own `run` is under way."""
        run = turn.run
        try:
            if self._agent is None:
                self._agent = agents.create(run.agent, self._workspace)
            end = await self._agent.run(turn)
        except (KeyError, ImportError) as error:
            end = Finished(ending="failed", reason="no_agent", error=f"agent {run.agent}: {error}")
        except Exception as error:
            # The last line of defence around code that drives a foreign program: the run ends, the reason is kept.
            log.exception("run %s", run.run)
            end = Finished(ending="failed", error=f"{type(error).__name__}: {error}")
        finally:
            turn.close()
        await self._emit(end)

    async def _steer(self, steer: Steer) -> None:
        if self._agent is not None and await self._agent.steer(steer.text):
            await self._emit(Steered(message=steer.message))

    async def _emit(self, body: Body) -> None:
        if isinstance(body, Started):
            await self._spare(self._before | self._of_agent())
        await self._channel.send(fit(body))

    async def _begin(self) -> None:
        """What earlier turns left, a server say, is not the turn's that begins now."""
        self._before = descendants(psutil.Process())
        await self._spare(self._before)

    def _of_agent(self) -> set[psutil.Process]:
        """The agent's own processes. What it let go of, a hook's server say, is none of them, and is the turn's."""
        found: set[psutil.Process] = set()
        for pid in self._agent.pids if self._agent is not None else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                found |= {process, *descendants(process)}
        return found

    async def _spare(self, processes: set[psutil.Process]) -> None:
        await self._channel.send(Baseline(pids=[process.pid for process in processes]))


async def main() -> None:
    """Serve the sled that started this process."""
    die_with(int(sys.argv[1]))
    become_subreaper()
    _go_first_when_memory_ends()
    with contextlib.suppress(KeyError, ImportError):  # the run meets it again, and tells
        agents.load(sys.argv[2])
    sock = socket.socket(fileno=int(os.environ.pop(FD_VARIABLE)))
    sock.set_inheritable(False)
    reaper = asyncio.create_task(Reaper().run())
    try:
        await Runner(await Channel.open(sock), Path.cwd()).serve()
    finally:
        reaper.cancel()


def _go_first_when_memory_ends() -> None:
    """Make the kernel choose what an agent started, rather than the sled or an editor's shell."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s runner %(levelname)s %(message)s")
    asyncio.run(main())
