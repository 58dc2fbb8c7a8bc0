"""How long one project waits while another does its worst on the wire.

    python -m benchmarks.hostile [--seconds 8] [--rounds 3] [--rate 20]

A person talks in one room; in another, a project's sled floods the gateway for as long as its run is within what a run
may send: tool calls, text, notes, questions and their withdrawals, each frame allowed. Bare is the same beside a
harmless neighbour: a process that makes and writes down the very same events, as many in a second, and sends them to
nobody. So what is compared is what the wire lets through to others, not that the machine is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.dispatch import OtherProcess, p99
from benchmarks.report import Row, main
from gateway.chat import Conversation, Message
from gateway.engine import SledSpec
from gateway.testing import echo_sled
from sled.journal import Journal
from sled.link import Link
from sled.protocol import (
    Ack,
    Answer,
    Body,
    Call,
    Finished,
    FromGateway,
    Note,
    Question,
    Run,
    Started,
    Stop,
    TextDelta,
    Tool,
    ToolDone,
    Withdrawn,
)
from tests.support.house import House, house, make_settings

ROOT = Path(__file__).parents[1]
#: The talker's 99th percentile beside the flood, times that beside the harmless neighbour.
RATIO = 2.0
BRIEF = {"seconds": 1, "rounds": 1}
TALKER, HOSTILE = "talker", "hostile"
#: Events of one run: what a run may send is a little more.
_EVENTS = 15_000


def worst() -> Iterator[Body]:
    """What one run sends."""
    yield Started(agent_session="hostile")
    for number in range(_EVENTS // 4):
        yield Tool(id=f"tool {number}", name="Bash", detail="x" * 200)
        yield TextDelta(delta="x" * 2000)
        yield ToolDone(id=f"tool {number}")
        if number % 20 == 0 and number < 3000:
            lines = "\n".join(f"line {line}" for line in range(100))
            yield Question(id=f"q {number}", kind="permission", tool="Write", arguments=json.dumps({"text": lines}))
            yield Withdrawn(question=f"q {number}")
        elif number % 4 == 0:
            yield Note(text="x" * 200)


class Flood:
    """The sled of the hostile project. It floods while a run is under way and `on` is set."""

    def __init__(self, home: Path) -> None:
        self._journal = Journal(home / ".huskies" / "journal")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.on = asyncio.Event()
        self.sent = 0

    async def serve(self, wire: Path, token: str) -> None:
        self._link = Link(wire, token, self._journal, ["scripted"], self._take)
        await self._link.run()

    async def _take(self, frame: FromGateway) -> None:
        match frame:
            case Run() if frame.run not in self._journal:
                self._journal.begin(frame.run)
                self._tasks[frame.run] = asyncio.create_task(self._play(frame.run))
            case Stop() if (task := self._tasks.get(frame.run)) is not None and task.cancel():
                self._say(frame.run, Finished(ending="interrupted", reason="stopped"))
            case Ack():
                self._journal.forget(frame.run)
            case Call():
                self._link.answer(Answer(call=frame.call, ok=True))

    async def _play(self, run: str) -> None:
        for body in worst():
            await self.on.wait()
            self._say(run, body)
            self.sent += 1
            await asyncio.sleep(0)
        self._say(run, Finished(ending="answered", text="done"))

    def _say(self, run: str, body: Body) -> None:
        self._journal.append(run, body)
        self._link.publish(run)


async def harmless(journal: Journal, rate: float) -> None:
    """The same events, written down and sent to nobody."""
    began, count = time.monotonic(), itertools.count(1)
    for number in itertools.count():
        journal.begin(f"run{number}")
        for body in worst():
            journal.append(f"run{number}", body)
            await asyncio.sleep(max(0.0, began + next(count) / rate - time.monotonic()))
        journal.append(f"run{number}", Finished(ending="answered", text="done"))
        journal.forget(f"run{number}")


async def sleds(kind: str) -> None:
    """One of the other processes: the talker's sled, or the neighbour in both its parts; told what to do by line."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks: list[asyncio.Task[None]] = []
    flood: Flood | None = None
    neighbour: asyncio.Task[None] | None = None

    def report(run: Run) -> None:
        print(json.dumps([run.prompt, time.monotonic_ns()]), flush=True)

    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        aside = Journal(Path(folder))
        while line := await reader.readline():
            match json.loads(line):
                case [wire, token, home] if kind == TALKER:
                    tasks.append(asyncio.create_task(echo_sled(Path(wire), token, Path(home), report)))
                case [wire, token, home]:
                    flood = Flood(Path(home))
                    tasks.append(asyncio.create_task(flood.serve(Path(wire), token)))
                case "flood" if flood is not None:
                    flood.on.set()
                case {"harmless": rate}:
                    neighbour = asyncio.create_task(harmless(aside, rate))
                case "rest" if flood is not None:
                    flood.on.clear()
                    if neighbour is not None:
                        neighbour.cancel()
                    print(json.dumps(["events", flood.sent]), flush=True)
                    flood.sent = 0


class Neighbours(OtherProcess):
    """An engine with two processes: the talker's sled, and its neighbour."""

    def __init__(self, process: asyncio.subprocess.Process, neighbour: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self._neighbour = neighbour

    async def start(self, spec: SledSpec) -> None:
        if spec.project != HOSTILE:
            await super().start(spec)
        elif spec.project not in self._started:
            self._started.add(spec.project)
            self.tell([str(spec.paths.socket), spec.token, str(spec.paths.home)])

    def tell(self, what: object) -> None:
        """Say something to the neighbour."""
        assert self._neighbour.stdin is not None
        self._neighbour.stdin.write(json.dumps(what).encode() + b"\n")

    async def rest(self) -> int:
        """Have the neighbour rest; how many events it sent."""
        self.tell("rest")
        assert self._neighbour.stdout is not None
        _, sent = json.loads(await self._neighbour.stdout.readline())
        return int(sent)


async def talk(here: House, engine: Neighbours, label: str, seconds: float, rate: float) -> list[float]:
    """Messages at their times: the milliseconds until each run frame is at the talker's sled."""
    sent: dict[str, int] = {}
    tasks: list[asyncio.Task[object]] = []
    before, began = len(engine.received), time.monotonic()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        name = f"{label} {number}"
        sent[name] = time.monotonic_ns()
        tasks.append(asyncio.create_task(say(here, TALKER, name)))
        if number % int(rate) == 0:  # whatever ends a run of the neighbour's, somebody begins another
            tasks.append(asyncio.create_task(say(here, HOSTILE, name)))
    await asyncio.gather(*tasks)
    await engine.until(before + len(sent))
    return [(engine.received[name] - at) / 1e6 for name, at in sent.items()]


async def say(here: House, room: str, text: str) -> None:
    """A person writes in a room."""
    message = Message(Conversation("fake", room), f"{room} {text}", "fake:ana", text)
    await here.app.inbox.accept("fake", [message], None)


async def run(given: argparse.Namespace, folder: Path) -> list[Row]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for kind in (TALKER, HOSTILE):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.hostile", "--sleds", kind),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(process.wait)
            stack.callback(process.kill)
            made.append(process)
        engine = Neighbours(*made)
        listening = asyncio.create_task(engine.listen())
        stack.callback(listening.cancel)
        settings = make_settings(folder, dispatcher={"coalesce_window_ms": 0})
        here = await stack.enter_async_context(house(folder, engine=engine, settings=settings))
        for name in (TALKER, HOSTILE):
            await here.ask(f"new project {name}", room=name, contains="is ready")
        await talk(here, engine, "warm-up", min(2.0, given.seconds), given.rate)
        beside: dict[str, list[float]] = {"flood": [], "harmless": [], "nobody": []}
        events = 0
        for number in range(given.rounds):
            beside["nobody"] += await talk(here, engine, f"alone {number}", given.seconds / 2, given.rate)
            engine.tell("flood")
            beside["flood"] += await talk(here, engine, f"flood {number}", given.seconds, given.rate)
            sent = await engine.rest()
            events += sent
            engine.tell({"harmless": max(sent, 1) / given.seconds})
            beside["harmless"] += await talk(here, engine, f"harmless {number}", given.seconds, given.rate)
            await engine.rest()
        return rows(beside, events / (given.rounds * given.seconds))


def rows(beside: dict[str, list[float]], events: float) -> list[Row]:
    """The table's rows."""
    calm = p99(beside["harmless"])
    return [
        Row("hostile", "events of the hostile sled, mean", events, "/s"),
        Row("hostile", "accept to run frame beside nobody, p99", p99(beside["nobody"]), "ms"),
        Row("hostile", "accept to run frame beside a hostile sled, p99", p99(beside["flood"]), "ms", calm, RATIO),
    ]


def measure(given: argparse.Namespace) -> list[Row]:
    """One gateway, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        return asyncio.run(run(given, Path(folder)))


def options(parser: argparse.ArgumentParser) -> None:
    """How long, how often, how fast."""
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sleds"]:
        sys.exit(asyncio.run(sleds(sys.argv[2])))
    sys.exit(main(__doc__, options, measure, BRIEF))
