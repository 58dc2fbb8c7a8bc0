"""From before `Inbox.accept` to the run frame's receipt in a sled that is another process; and what idle sessions cost.

    python -m benchmarks.dispatch [--seconds 20] [--rate 50] [--bursts 20] [--sessions 10000]

Durable (SQLite, WAL, synchronous FULL), window 0, open loop: messages are sent at their time whether or not earlier
ones are done. The sleds are one other process with 50 real links and journals on 50 real wires.

Bare is what nothing durable can do without: one commit and one frame. Both are measured in the same loop, between two
messages each time. The commit is one INSERT into a database of its own beside the gateway's, on a thread of its own,
whose clock knows nothing of how the thread was reached; the frame is the same Run, to the same sleds.

Then all 50 rooms write at once, several times: what waits together must share commits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from benchmarks.report import Row, main
from gateway.app.app import App
from gateway.chat import Conversation, Message
from gateway.engine import SledSpec
from gateway.store import Connection, conversations
from gateway.testing import InMemoryEngine, echo_sled
from sled.protocol import Frame, Run
from tests.support.house import House, house, make_settings

ROOT = Path(__file__).parents[1]
PROJECTS = 50
#: Times a bare commit and a bare frame: the median, and the 99th percentile.
P50_RATIO, P99_RATIO = 3.0, 10.0
#: Commits until a message's run frame, and in all, when each message is alone.
COMMITS_BEFORE, COMMITS = 2.0, 4.0
#: What a commit holds when all rooms write at once, times what it holds at the steady rate.
GROUP_RATIO = 2.0
IDLE_MB = 50.0
BRIEF = {"seconds": 1, "bursts": 2, "sessions": 50}


class OtherProcess(InMemoryEngine):
    """An engine whose sleds all live in one other process, which reports when each run frame arrived."""

    kind = "benchmark"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process
        self._started: set[str] = set()
        #: Message -> CLOCK_MONOTONIC in ns, which all processes of a machine share.
        self.received: dict[str, int] = {}
        self.twice: list[str] = []
        self.news = asyncio.Condition()

    async def check(self) -> str:
        return "benchmark"

    async def start(self, spec: SledSpec) -> None:
        if spec.project not in self._started:
            self._started.add(spec.project)
            line = [str(spec.paths.socket), spec.token, str(spec.paths.home)]
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def stop(self, spec: SledSpec) -> None:
        """The process ends with the benchmark."""

    async def is_running(self, spec: SledSpec) -> bool:
        return spec.project in self._started

    async def listen(self) -> None:
        """Take the reports."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            prompt, at = json.loads(line)
            async with self.news:
                for said in messages(prompt):
                    self.twice += [said] if said in self.received else []
                    self.received[said] = at
                self.news.notify_all()

    async def until(self, count: int) -> None:
        """Wait for that many reports."""
        async with asyncio.timeout(300), self.news:
            await self.news.wait_for(lambda: len(self.received) >= count)
        assert not self.twice, self.twice


def messages(prompt: str) -> list[str]:
    """What a prompt is made of: messages that had to wait in one room go together."""
    return prompt.split("\n\n")


async def sleds() -> None:
    """The other process: a sled per line of input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = []

    def report(run: Run) -> None:
        at = time.monotonic_ns()
        sys.stdout.write(json.dumps([run.prompt, at]) + "\n")
        sys.stdout.flush()

    while line := await reader.readline():
        wire, token, home = json.loads(line)
        tasks.append(asyncio.create_task(echo_sled(Path(wire), token, Path(home), report)))


class BareCommits:
    """A database of its own, on the gateway's disk: one INSERT is one durable commit."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE said (text TEXT)"):
            self._database.execute(statement)

    async def one(self) -> float:
        """The milliseconds of one commit."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._insert)

    def _insert(self) -> float:
        began = time.monotonic_ns()
        self._database.execute("INSERT INTO said VALUES (?)", ("a message of the usual length",))
        return (time.monotonic_ns() - began) / 1e6

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
        self._database.close()


class ServerCommits(BareCommits):
    """The same on a PostgreSQL server: one INSERT in a transaction of its own, and what a question alone takes."""

    def __init__(self, address: str) -> None:
        import psycopg  # for those who have a server

        self._thread = ThreadPoolExecutor(1)
        self._there = psycopg.connect(address, autocommit=True)
        self._there.execute("CREATE TABLE said (text TEXT)")
        self.round_trips: list[float] = []

    def _insert(self) -> float:
        began = time.monotonic_ns()
        self._there.execute("SELECT 1").fetchone()
        self.round_trips.append((time.monotonic_ns() - began) / 1e6)
        began = time.monotonic_ns()
        self._there.execute("INSERT INTO said VALUES (%s)", ["a message of the usual length"])
        return (time.monotonic_ns() - began) / 1e6

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
        self._there.close()


@dataclass
class Commits:
    """The store's own count over a stretch of the run."""

    messages: int
    commits: int
    units: int

    @property
    def each(self) -> float:
        """Commits for one message."""
        return self.commits / self.messages

    @property
    def held(self) -> float:
        """Units in one commit."""
        return self.units / self.commits


@dataclass
class Bench:
    """The gateway, its sleds, and who writes to it."""

    here: House
    engine: OtherProcess
    bare: BareCommits
    _ids: Iterator[int] = field(default_factory=itertools.count)

    @property
    def app(self) -> App:
        """The gateway."""
        return self.here.app

    def message(self, room: str, text: str) -> Message:
        """What a person writes in a room."""
        return Message(Conversation("fake", room), f"said{next(self._ids)}", "fake:ana", text)

    @contextlib.asynccontextmanager
    async def counting(self, messages: int) -> AsyncIterator[Commits]:
        """Count until all that the messages cause is done, replies and marks included."""
        found = Commits(messages, self.app.store.commits, self.app.store.units)
        yield found
        await self.app.fates.all_settled()
        assert await self.app.outbox.drain(60)
        found.commits, found.units = self.app.store.commits - found.commits, self.app.store.units - found.units

    @contextlib.contextmanager
    def frames(self) -> Iterator[dict[str, int]]:
        """The store's count of commits at the moment when a run frame is handed to the wire, by message."""
        found: dict[str, int] = {}
        send = self.app.sleds.send

        async def counted(project_id: int, frame: Frame) -> bool:
            if isinstance(frame, Run):
                found.update(dict.fromkeys(messages(frame.prompt), self.app.store.commits))
            return await send(project_id, frame)

        with patch.object(self.app.sleds, "send", counted):
            yield found


@contextlib.asynccontextmanager
async def gateway(folder: Path, address: str = "") -> AsyncIterator[Bench]:
    """A gateway with its 50 projects, connected; on PostgreSQL if that has an address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.dispatch", "--sleds"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    engine = OtherProcess(process)
    listening = asyncio.create_task(engine.listen())
    settings = make_settings(
        folder, dispatcher={"coalesce_window_ms": 0, "max_runs": PROJECTS}, gateway={"database": address}
    )
    bare = ServerCommits(address) if address else BareCommits(folder / "bare.db")
    try:
        async with house(folder, engine=engine, settings=settings) as here:
            for number in range(PROJECTS):
                await here.ask(f"new project p{number:02}", room=f"room{number}", contains="is ready")
            yield Bench(here, engine, bare)
    finally:
        listening.cancel()
        process.kill()
        await process.wait()
        bare.close()


@dataclass
class Paced:
    """What the open loop found: milliseconds, and commits."""

    messages: list[float]
    commits: list[float]
    frames: list[float]
    #: Commits between a message's acceptance and its run frame.
    before: list[int]
    all: Commits

    @property
    def floor(self) -> float:
        """One bare commit and one bare frame."""
        return statistics.median(self.commits) + statistics.median(self.frames)


async def open_loop(bench: Bench, label: str, seconds: float, rate: float) -> Paced:
    """A message, a bare commit and a bare frame in turn, each at its time."""
    app, engine = bench.app, bench.engine
    ids = [project.id for project in app.projects.all()]
    sent: dict[str, int] = {}
    counted: dict[str, int] = {}
    commits: list[float] = []
    tasks: list[asyncio.Task[object]] = []
    before, count, began = len(engine.received), int(seconds * rate), time.monotonic()

    def go(work: Coroutine[Any, Any, object]) -> None:
        tasks.append(asyncio.create_task(work))

    async def commit() -> None:
        commits.append(await bench.bare.one())

    async with bench.counting(count) as in_all:
        with bench.frames() as at_frame:
            for number in range(count):
                # The bare ones come when the message before is mostly done with; the frame goes to an idle project.
                for kind, share in (("message", 0.0), ("commit", 0.5), ("frame", 0.75)):
                    await asyncio.sleep(max(0.0, began + (number + share) / rate - time.monotonic()))
                    name = f"{kind} {label} {number}"
                    if kind == "commit":
                        go(commit())
                        continue
                    sent[name] = time.monotonic_ns()
                    if kind == "message":
                        counted[name] = app.store.commits
                        go(app.inbox.accept("fake", [bench.message(f"room{number % PROJECTS}", name)], None))
                    else:
                        frame = Run(run=f"bare-{label}-{number}", session="bare", prompt=name, agent="scripted")
                        go(app.sleds.send(ids[(number + PROJECTS // 2) % PROJECTS], frame))
            await asyncio.gather(*tasks)
            await engine.until(before + 2 * count)
    took = {name: (engine.received[name] - at) / 1e6 for name, at in sent.items()}
    return Paced(
        [took[name] for name in counted],
        commits,
        [ms for name, ms in took.items() if name not in counted],
        [at_frame[name] - then for name, then in counted.items()],
        in_all,
    )


async def burst(bench: Bench, bursts: int) -> tuple[list[float], Commits]:
    """Every room writes at the same time, again and again: milliseconds until the frames, and commits."""
    sent: dict[str, int] = {}
    async with bench.counting(bursts * PROJECTS) as in_all:
        for number in range(bursts):
            before = len(bench.engine.received)
            said = [bench.message(f"room{room}", f"burst {number} {room}") for room in range(PROJECTS)]
            sent |= {message.text: time.monotonic_ns() for message in said}
            await asyncio.gather(*(bench.app.inbox.accept("fake", [message], None) for message in said))
            await bench.engine.until(before + PROJECTS)
            await bench.app.fates.all_settled()
            assert await bench.app.outbox.drain(60)
    return [(bench.engine.received[name] - at) / 1e6 for name, at in sent.items()], in_all


async def idle_sessions(bench: Bench, count: int) -> float:
    """MB of RSS that `count` sessions cost once each has completed a turn and is idle."""
    me, app = psutil.Process(), bench.app
    projects = app.projects.all()
    forget(bench)
    before, base = len(bench.engine.received), me.memory_info().rss
    settled = []

    def prepare(room: Conversation, project_id: int, connection: Connection) -> None:
        conversations.switch(connection, conversations.ensure(connection, room, direct=True).id, project_id)

    for number in range(count):
        message = bench.message(f"idle{number}", f"idle {number}")
        await app.store.write(partial(prepare, message.conversation, projects[number % PROJECTS].id))
        (message_id,) = await app.inbox.accept("fake", [message], None)
        settled.append(app.fates.settled(message_id))
        if len(settled) == 200:
            await asyncio.gather(*settled)
            settled.clear()
    await asyncio.gather(*settled)
    await bench.engine.until(before + count)
    assert await app.outbox.drain(60)
    forget(bench)
    return (me.memory_info().rss - base) / 2**20


def forget(bench: Bench) -> None:
    """Let go of what the measuring itself keeps: it is no session's cost."""
    bench.engine.received.clear()
    transport = bench.here.transport
    kept: tuple[Any, ...] = (transport.sent, transport.marks, transport.calls, transport.edits, transport.offered)
    for each in (*kept, transport._keys):
        each.clear()
    gc.collect()


def p99(ms: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(ms, n=100)[98]


def rows(given: argparse.Namespace, paced: Paced, bursts: tuple[list[float], Commits], idle_mb: float) -> list[Row]:
    """The table's rows."""
    at_once, of_burst = bursts
    row = partial(Row, "dispatch")
    rate, at, floor = f"at {given.rate:g}/s", f"{PROJECTS} at once", paced.floor
    return [
        row(f"bare commit {rate}", statistics.median(paced.commits), "ms"),
        row(f"bare frame {rate}", statistics.median(paced.frames), "ms"),
        row(f"accept to run frame {rate}, p50", statistics.median(paced.messages), "ms", floor, P50_RATIO),
        row(f"accept to run frame {rate}, p99", p99(paced.messages), "ms", floor, P99_RATIO),
        row(f"commits until the frame {rate}", statistics.median(paced.before), bound=COMMITS_BEFORE),
        row(f"commits for a message {rate}, mean", paced.all.each, bound=COMMITS),
        row(f"accept to run frame, {at}", statistics.median(at_once), "ms", floor),
        row(f"commits for a message, {at}, mean", of_burst.each, "", paced.all.each, 1 / GROUP_RATIO),
        row(f"units in a commit, {at}, mean", of_burst.held, "", paced.all.held, GROUP_RATIO, at_least=True),
        row(f"RSS of {given.sessions} idle sessions, all of them", idle_mb, "MB", bound=IDLE_MB),
    ]


async def run(given: argparse.Namespace, folder: Path) -> list[Row]:
    async with gateway(folder) as bench:
        await open_loop(bench, "warm-up", min(2.0, given.seconds), given.rate)  # caches, compiled statements
        paced = await open_loop(bench, "measured", given.seconds, given.rate)
        bursts = await burst(bench, given.bursts)
        return rows(given, paced, bursts, await idle_sessions(bench, given.sessions))


def measure(given: argparse.Namespace) -> list[Row]:
    """One gateway, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        return asyncio.run(run(given, Path(folder)))


def options(parser: argparse.ArgumentParser) -> None:
    """How long, how fast, how many."""
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=10_000)


if __name__ == "__main__":
    if sys.argv[1:] == ["--sleds"]:
        sys.exit(asyncio.run(sleds()))
    sys.exit(main(__doc__, options, measure, BRIEF))
