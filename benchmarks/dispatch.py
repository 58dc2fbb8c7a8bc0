"""From before `Inbox.accept` to the run frame's receipt in a sled that is another process; and what idle sessions cost.

    python benchmarks/dispatch.py [--seconds 20] [--rate 50] [--sessions 10000]

Durable (SQLite, WAL, synchronous FULL), window 0, open loop: messages are sent at their time whether or not earlier
ones are done. The sleds are one other process with 50 real links and journals on 50 real wires. It alternates,
in the same run, with the bare wire: the same frame to the same sled with nothing before it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from gateway.app.app import App, build
from gateway.chat import Conversation, Message
from gateway.config import Settings
from gateway.engine import SledSpec
from gateway.projects import Request
from gateway.store import conversations
from gateway.testing import FakeTransport, InMemoryEngine, echo_sled
from sled.protocol import Run

PROJECTS = 50


class OtherProcess(InMemoryEngine):
    """An engine whose sleds all live in one other process, which reports when each run frame arrived."""

    kind = "benchmark"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process
        self._started: set[str] = set()
        #: prompt -> CLOCK_MONOTONIC in ns, which all processes of a machine share.
        self.received: dict[str, int] = {}
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
                assert prompt not in self.received, f"{prompt} ran twice"
                self.received[prompt] = at
                self.news.notify_all()

    async def until(self, count: int) -> None:
        """Wait for that many reports."""
        async with asyncio.timeout(300), self.news:
            await self.news.wait_for(lambda: len(self.received) >= count)


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


@contextlib.asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[tuple[App, OtherProcess]]:
    """A gateway with its 50 projects, connected."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--sleds"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    engine = OtherProcess(process)
    settings = Settings(
        gateway={"state_dir": folder / "state", "listen": "127.0.0.1:0"},
        projects={"root": folder / "projects"},
        dispatcher={"coalesce_window_ms": 0, "max_runs": 50},
        access={"operators": ["fake:ana"]},
        agent={"kind": "scripted"},
        git={"user_name": "b", "user_email": "b@example.org"},
    )
    (folder / "state" / ".gateway").mkdir(parents=True)
    app = await build(settings, None, engine=engine, more_transports={"fake": FakeTransport()})
    end = asyncio.Event()
    running = asyncio.create_task(app.run(end))
    listening = asyncio.create_task(engine.listen())
    await app.started.wait()
    for number in range(PROJECTS):
        here = await app.store.write(
            lambda c, n=number: conversations.ensure(c, Conversation("fake", f"room{n}"), direct=True)
        )
        request = Request(name=f"p{number:02}", by="fake:ana", conversation_id=here.id, asked_at=time.time())
        app.projects.begin((await app.projects.create(request, lambda: None, _silent)).project)
    try:
        yield app, engine
    finally:
        listening.cancel()
        process.kill()
        await process.wait()
        end.set()
        await running


async def _silent(_: str) -> None:
    return


async def open_loop(
    app: App, engine: OtherProcess, label: str, seconds: float, rate: float
) -> tuple[list[float], list[float]]:
    """Alternate a real message and a bare frame, each at its time; latencies in ms."""
    sent: dict[str, int] = {}
    tasks = []
    before = len(engine.received)
    count = int(seconds * rate)
    began = time.monotonic()
    ids = [project.id for project in app.projects.all()]
    for number in range(count):
        # The bare frame goes half way between two messages, to a project that is idle at that moment.
        for kind, share in (("message", 0.0), ("bare", 0.5)):
            delay = began + (number + share) / rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            name = f"{kind} {label} {number}"
            sent[name] = time.monotonic_ns()
            if kind == "message":
                room = Conversation("fake", f"room{number % PROJECTS}")
                message = Message(room, name, "fake:ana", name)
                tasks.append(asyncio.create_task(app.inbox.accept("fake", [message], None)))
            else:
                frame = Run(run=f"bare-{label}-{number}", session="bare", prompt=name, agent="scripted")
                tasks.append(asyncio.create_task(app.sleds.send(ids[(number + 25) % PROJECTS], frame)))
    await asyncio.gather(*tasks)
    await engine.until(before + 2 * count)
    took = {name: (engine.received[name] - at) / 1e6 for name, at in sent.items()}
    return (
        [ms for name, ms in took.items() if name.startswith("message")],
        [ms for name, ms in took.items() if name.startswith("bare")],
    )


async def idle_sessions(app: App, engine: OtherProcess, count: int) -> float:
    """MB of RSS that `count` sessions cost once each has completed a turn and is idle."""
    me = psutil.Process()
    projects = app.projects.all()
    before, base = len(engine.received), me.memory_info().rss
    settled = []
    for number in range(count):
        room = Conversation("fake", f"idle{number}")
        project = projects[number % PROJECTS]

        def prepare(connection, room=room, project=project):
            conversations.switch(connection, conversations.ensure(connection, room, direct=True).id, project.id)

        await app.store.write(prepare)
        message = Message(room, f"i{number}", "fake:ana", f"idle {number}")
        (message_id,) = await app.inbox.accept("fake", [message], None)
        settled.append(app.fates.settled(message_id))
        if len(settled) == 200:
            await asyncio.gather(*settled)
            settled.clear()
    await asyncio.gather(*settled)
    await engine.until(before + count)
    await app.outbox.drain(60)
    # What the measuring itself keeps is not a session's cost.
    engine.received.clear()
    transport = app.transports["fake"]
    assert isinstance(transport, FakeTransport)
    transport.sent.clear()
    transport.marks.clear()
    transport.calls.clear()
    transport._keys.clear()
    return (me.memory_info().rss - base) / 2**20


def show(name: str, ms: list[float]) -> None:
    """One row."""
    p99 = statistics.quantiles(ms, n=100)[98]
    print(f"{name:<28} {len(ms):>6} {statistics.median(ms):>8.2f} {p99:>8.2f} {max(ms):>8.2f}")


async def main(arguments: argparse.Namespace) -> int:
    """Measure, print, and say whether the bounds hold."""
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        async with gateway(Path(folder)) as (app, engine):
            await open_loop(app, engine, "warm-up", 2, arguments.rate)  # caches, compiled statements
            app.store.commits = app.store.units = 0
            durable, bare = await open_loop(app, engine, "measured", arguments.seconds, arguments.rate)
            print(f"{'':<28} {'count':>6} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
            show("accept -> run frame received", durable)
            show("bare wire", bare)
            ratio = statistics.median(durable) / statistics.median(bare)
            print(f"ratio of medians {ratio:.1f}; {app.store.units} writes in {app.store.commits} commits")
            cost = await idle_sessions(app, engine, arguments.sessions)
            print(f"{arguments.sessions} idle sessions: {cost:.1f} MB of RSS")
    p50, p99 = statistics.median(durable), statistics.quantiles(durable, n=100)[98]
    holds = p50 <= 5 and p99 <= 25 and cost < 50
    print("bounds (p50 <= 5 ms, p99 <= 25 ms, < 50 MB):", "hold" if holds else "DO NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sleds", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--sessions", type=int, default=10_000)
    given = parser.parse_args()
    sys.exit(asyncio.run(sleds()) if given.sleds else asyncio.run(main(given)))
