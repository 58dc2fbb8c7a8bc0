"""A sled whose runners can host agents that misbehave. Run as a program: with `runner` it is such a runner."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

from sled import agents, runner, snapshots, supervisor
from sled.agents.scripted import Scripted
from sled.channel import Channel
from sled.protocol import Finished, Started, TextDelta, Warm
from sled.turn import Turn

KINDS = ("deaf", "stuck", "garbled", "huge", "raising", "flags", "slow", "late", "ahead")


class Odd(Scripted):
    """One misbehaviour each."""

    kind = ""
    stopped = False
    itself: subprocess.Popen[bytes] | None = None

    async def run(self, turn: Turn) -> Finished:
        run, emit = turn.run, turn.emit
        self.stopped = False
        match self.kind:
            case "deaf":
                await emit(Started(agent_session="deaf"))
                return await super().run(turn)
            case "stuck":
                await emit(Started(agent_session="stuck"))
                time.sleep(300)  # noqa: ASYNC251 - that is what it is for
            case "garbled":
                await emit(Started(agent_session="garbled"))
                for found in gc.get_objects():
                    if isinstance(found, Channel):
                        found._writer.write(run.prompt.encode() + b"\n")
                await asyncio.sleep(300)
            case "huge":
                await emit(TextDelta(delta="\x01" * 2**20))
                return Finished(ending="answered", text="\x01" * (3 * 2**20), error="e" * 5000)
            case "raising":
                raise ValueError("x" * 5000)
            case "flags":
                for _ in range(100):
                    if self.stopped:
                        return Finished(ending="interrupted", reason="stopped", text="heard")
                    await asyncio.sleep(0.05)
                return Finished(ending="answered", text="never heard of a stop")
            case "late":
                await emit(Started(agent_session="late"))
                while not self.stopped:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.95)
                return Finished(ending="interrupted", reason="stopped", text="late")
        return await super().run(turn)

    @property
    def pids(self) -> Collection[int]:
        return (self.itself.pid,) if self.itself is not None else ()

    async def prepare(self, warm: Warm) -> None:
        """Like an agent that comes up: a process of its own, and what a hook of the repository's lets run on."""
        if self.kind == "ahead" and self.itself is None:
            self.itself = come_up(self._workspace)

    async def interrupt(self) -> None:
        self.stopped = True
        if self.kind in ("slow", "ahead"):
            await super().interrupt()


def come_up(workspace: Path) -> subprocess.Popen[bytes]:
    itself = subprocess.Popen(["sleep", "300"])
    subprocess.Popen(["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $! > hook"], cwd=workspace)
    (workspace / "itself").write_text(str(itself.pid))
    return itself


def create(workspace: Path) -> Odd:
    made = Odd(workspace)
    made.kind = KIND
    return made


KIND = ""
if __name__ == "__main__":
    here = str(Path(__file__))
    agents.AGENTS["large"] = ("sled.agents.scripted", "psutil")
    if sys.argv[1:2] == ["runner"]:
        del sys.argv[1]
        real_create = agents.create

        def odd_create(name: str, workspace: Path) -> agents.Agent:
            global KIND  # noqa: PLW0603
            if name not in KINDS:
                return real_create(name, workspace)
            KIND = name
            if name == "slow":
                (workspace / "begun").touch()
                time.sleep(300)  # an import that takes its time
            return create(workspace)

        agents.create = odd_create
        asyncio.run(runner.main())
    else:
        from sled import __main__ as program

        supervisor.RUNNER = ("-I", here, "runner")
        snapshots.LIMIT_S = float(os.environ.get("LOOKS_S", snapshots.LIMIT_S))
        config = program.Config.from_environment()
        lock = program.take_lock(config.home)
        os._exit(asyncio.run(program.main(config)))
