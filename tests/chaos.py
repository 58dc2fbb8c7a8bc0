"""A bad day, played from a seed: people in several rooms, and a gateway and sleds that are killed at random moments.

    python -m tests.chaos [--seeds 1 2 3] [--steps 40]

Each seed is one whole gateway. People write, stop, restart, take projects down and up, rebuild them, answer questions,
make a project and delete it again; meanwhile the gateway is killed, also while it starts and at named points, its sleds
are killed, and its clock is set. In the end everything is let run to its end, and what every person saw is compared
with what was sent: each message has one final fate, told once; each run happened at most once, and exactly once where
it was answered; the messages of a room to a project ran in the order in which they were accepted. A finding names the
seed, which plays the same again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gateway import clock, kill_points
from gateway.testing import patience
from tests.support import databases
from tests.support.gateway_process import GatewayProcess
from tests.support.postgres import running_server
from tests.support.wall_clock import WallClock

ROOMS = ("one", "two", "three")
PROJECTS = ("alpha", "beta")
#: The one that comes and goes.
GUEST = "gamma"
#: Points at which the gateway kills itself while people talk, and those of a bootstrap, by which `new project` comes.
BOOTSTRAP = [point for point in kill_points.POINTS if point.startswith("project.")]
POINTS = [point for point in kill_points.POINTS if point not in BOOTSTRAP]
FINAL = {"answered", "failed", "interrupted", "discarded", "refused"}
#: What people do, and how often of a hundred.
DEEDS = {
    "write": 50,
    "ask": 6,
    "stop": 8,
    "restart": 4,
    "rebuild": 3,
    "down": 3,
    "reset": 3,
    "new": 10,
    "delete": 6,
    "kill": 12,
    "sled": 6,
    "clock": 5,
}


@dataclass
class Day:
    """One seed's day."""

    seed: int
    gateway: GatewayProcess
    clock: WallClock
    random: random.Random
    sends: dict[str, asyncio.Task[dict[str, Any]]] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)
    kills: int = 0

    async def play(self, steps: int) -> list[str]:
        """What was found wrong."""
        await self.gateway.start()
        for room, project in zip(ROOMS, (*PROJECTS, PROJECTS[0]), strict=True):
            command = f"new project {project}" if room != ROOMS[-1] else f"switch {project}"
            await self.gateway.send_surely(command, f"begin-{room}", room)
        for number in range(steps):
            (deed,) = self.random.choices(list(DEEDS), list(DEEDS.values()))
            await getattr(self, f"_{deed}")(f"s{self.seed}n{number}", self.random.choice(ROOMS))
            await asyncio.sleep(self.random.choice((0.0, 0.02, 0.1, 0.4)))
        await self._let_it_end()
        return [*self._compare(), *self._say_twice()]

    def _send(self, text: str, name: str, room: str) -> None:
        self.sends[name] = asyncio.create_task(self.gateway.send_surely(text, name, room))

    def _send_and_confirm(self, text: str, name: str, room: str) -> None:
        """Send what is asked back about, and the code as soon as it is there; a restart may have forgotten it."""

        async def talk() -> dict[str, Any]:
            told = await self.gateway.send_surely(text, name, room)
            if (code := re.search(r"`(confirm \w{4}( \w+)?)`", "\n".join(told["replies"]))) is not None:
                self._send(code[1], f"{name}-code", room)
            return told

        self.sends[name] = asyncio.create_task(talk())

    def _book(self, room: str) -> Path:
        """Where the runs of a room are counted: outside of all projects, since those are deleted."""
        return self.gateway.state.parent / f"ran-{room}"

    async def _write(self, name: str, room: str) -> None:
        self.prompts.add(name)
        slow = self.random.choice(("", "sleep 0.2; ", "sleep 1; "))
        self._send(f"@@run {slow}echo {name} >> {self._book(room)}\n@@say did {name}", name, room)

    async def _ask(self, name: str, room: str) -> None:
        self.prompts.add(name)
        self._send(f"@@permission Bash {name}\n@@run echo {name} >> {self._book(room)}\n@@say did {name}", name, room)
        self._send(self.random.choice(("allow", "deny")), f"{name}-answer", room)

    async def _stop(self, name: str, room: str) -> None:
        self._send("stop", name, room)

    async def _reset(self, name: str, room: str) -> None:
        self._send("reset", name, room)

    async def _restart(self, name: str, room: str) -> None:
        self._send(f"restart {self.random.choice((*PROJECTS, GUEST))}", name, room)

    async def _rebuild(self, name: str, room: str) -> None:
        self._send_and_confirm(f"rebuild {self.random.choice((*PROJECTS, GUEST))}", name, room)

    async def _new(self, name: str, room: str) -> None:
        if self.random.random() < 0.3:
            await self._start_again(self.random.choice(BOOTSTRAP))
        self._send(f"new project {GUEST}", name, room)

    async def _delete(self, name: str, room: str) -> None:
        self._send_and_confirm(f"delete {GUEST}{self.random.choice(('', ' --purge'))}", name, room)

    async def _down(self, name: str, room: str) -> None:
        project = self.random.choice((*PROJECTS, GUEST))
        self._send(f"down {project}", name, room)
        self._send(f"up {project}", f"{name}-up", room)

    async def _kill(self, name: str, room: str) -> None:
        """At once, at a point that it comes by, or while it starts; and once more, perhaps."""
        await self._start_again(self.random.choice(["", *POINTS]))

    async def _start_again(self, point: str) -> None:
        self.kills += 1
        self.gateway.kill()
        if self.random.random() < 0.3:
            self.gateway.spawn()
            await asyncio.sleep(self.random.random() * 1.5)
            self.gateway.kill()
            self.kills += 1
        with contextlib.suppress(AssertionError):  # it may come by the point while it starts
            await self.gateway.start(kill_at=point)
        if self.gateway.process is not None and self.gateway.process.poll() is not None:
            self.kills += 1
            await self.gateway.start()

    async def _sled(self, name: str, room: str) -> None:
        for sled in self.gateway.sleds()[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                sled.kill()

    async def _clock(self, name: str, room: str) -> None:
        self.clock.step(self.random.choice((0, -1, -90, 5, 7200)))

    async def _let_it_end(self) -> None:
        """No more faults: whoever waits is answered, or was told."""
        if self.gateway.process is None or self.gateway.process.poll() is not None:
            await self.gateway.start()
        else:
            self.gateway.kill()
            await self.gateway.start()
        for project in (*PROJECTS, GUEST):
            await self.gateway.send_surely(f"up {project}", f"end-{project}", ROOMS[0])
        watching = asyncio.create_task(self._keep_it_up())
        try:
            async with asyncio.timeout(180 * patience()):
                while not all(send.done() for send in self.sends.values()):  # an answer may bring a code
                    await asyncio.gather(*self.sends.values())
        except TimeoutError:
            pass  # what has no end is found below
        finally:
            watching.cancel()

    async def _keep_it_up(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            if self.gateway.process is not None and self.gateway.process.poll() is not None:
                await self.gateway.start()

    # --- what came of it ---------------------------------------------------------------------------------------------

    def _compare(self) -> list[str]:
        rows = self._rows()
        ran = {room: self._ran(room) for room in ROOMS}
        times = Counter(name for names in ran.values() for name in names)
        wrong = [f"{name} was never answered" for name, send in self.sends.items() if not send.done()]
        for name in self.sends:
            if name not in rows:
                wrong.append(f"{name} was lost")
            elif rows[name]["fate"] not in FINAL:
                wrong.append(f"{name} is {rows[name]['fate']} for ever")
        for name in self.prompts & rows.keys():
            fate, count = rows[name]["fate"], times[name]
            if count > 1:
                wrong.append(f"{name} ran {count} times")
            if fate in ("discarded", "refused") and count:
                wrong.append(f"{name} is {fate}, and ran")
        for room, names in ran.items():
            for project in {rows[name]["project_id"] for name in names if name in rows}:  # each has a line of its own
                known = [name for name in names if name in rows and rows[name]["project_id"] == project]
                if known != sorted(known, key=lambda name: int(rows[name]["id"])):
                    wrong.append(f"the messages of {room} to one project ran in another order: {known}")
        return wrong

    def _say_twice(self) -> list[str]:
        """What people were told of one message: its words in one reply, and never in two."""
        wrong = []
        everything = self._told()
        said = defaultdict(list)
        for name, send in self.sends.items():
            if send.done() and not send.cancelled():
                for reply in send.result().get("replies", []):
                    said[name].append(reply)
        for name in self.prompts:
            replies = said[name]
            if len(replies) != len(set(replies)):
                wrong.append(f"{name} was told the same twice: {replies}")
            told = sum(f"did {name}" in reply.splitlines() for reply in replies)
            if told > 1:
                wrong.append(f"{name} was answered {told} times")
            named = any(name in reply for reply in everything)  # in what discarded it
            # Who stopped a run tells of that, and so nobody else does.
            stopped = any("Stopped" in reply or "restarted during" in reply for reply in everything)
            ended_here = self.sends[name].done() and self.sends[name].result()["fate"] == "interrupted" and stopped
            if self.sends[name].done() and not replies and not named and not ended_here:
                wrong.append(f"{name} ({self.sends[name].result()['fate']}) was told nothing")
        return wrong

    def _rows(self) -> dict[str, dict[str, Any]]:
        columns = ("external_id", "id", "fate", "project_id")
        found = databases.rows(self.gateway.state, f"SELECT {', '.join(columns)} FROM messages")
        return {row[0]: dict(zip(columns, row, strict=True)) for row in found}

    def _told(self) -> list[str]:
        """All that people were told: what is sent to a command line is in the database, and nowhere else."""
        found = databases.rows(self.gateway.state, "SELECT text FROM outbox WHERE kind != 'progress'")
        return [text for (text,) in found]

    def _ran(self, room: str) -> list[str]:
        book = self._book(room)
        return re.findall(r"\S+", book.read_text()) if book.exists() else []


async def one(seed: int, steps: int) -> tuple[list[str], int]:
    """Play one seed; what was found, and how often something was killed."""
    with tempfile.TemporaryDirectory(prefix="huskies-chaos-") as name:
        folder = Path(name)
        wall_clock = WallClock(folder)
        config: dict[str, dict[str, Any]] = {
            "dispatcher": {"coalesce_window_ms": 50},
            "agent": {"kind": "scripted", "permissions": "ask", "permission_timeout_s": 5.0},
        }
        with GatewayProcess(folder, config) as gateway:
            gateway.environment[clock.VARIABLE] = str(wall_clock.file)
            day = Day(seed, gateway, wall_clock, random.Random(seed))
            try:
                found = await day.play(steps)
                if found:
                    sys.stdout.write(gateway.log.read_text()[-4000:])
                return found, day.kills
            finally:
                for send in day.sends.values():
                    send.cancel()
                await asyncio.gather(*day.sends.values(), return_exceptions=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="*", default=[random.randrange(10**6)])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if arguments.database == "postgres":
            databases.use(stack.enter_context(running_server()))
        bad, kills = play(arguments.seeds, arguments.steps)
    print(f"{len(arguments.seeds)} seeds, {kills} kills, {bad} with findings")
    return 1 if bad else 0


def play(seeds: list[int], steps: int) -> tuple[int, int]:
    """Play all seeds; how many had findings, and how often something was killed."""
    bad = kills = 0
    for seed in seeds:
        found, killed = asyncio.run(one(seed, steps))
        kills += killed
        bad += bool(found)
        print(f"seed {seed}: {killed} kills, {'nothing found' if not found else ''}", *found, sep="\n  ", flush=True)
    return bad, kills


if __name__ == "__main__":
    sys.exit(main())
