"""Fakes that ship, behind the real interfaces: for tests of ours and of whoever adds a transport or an engine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from gateway.chat import (
    Attachment,
    Capabilities,
    Conversation,
    Fate,
    Message,
    MessageRef,
    OutgoingFile,
    Receiver,
    Reply,
)
from gateway.engine import LogOf, Prepared, SledSpec
from gateway.errors import DeliveryRefused, TransportError
from gateway.turns import Dispatcher
from sled.journal import Journal
from sled.link import Link
from sled.protocol import (
    Ack,
    Answer,
    Body,
    Call,
    Decision,
    Event,
    Finished,
    Frame,
    FromGateway,
    Hello,
    Run,
    RunState,
    Started,
    Steer,
    Stop,
)
from stacks.images import ImagePlan
from stacks.told import Told

_EVERYTHING = Capabilities(max_text=2000, edits=True, edit_interval_s=0.0, idempotent=True, marks=True, files=True)
#: A machine on which everything takes longer than this is not busy but broken.
_MOST = 20.0
#: Names the number of test runs that are at work at once: a machine that was idle a moment ago does not show it yet.
LANES_VARIABLE = "HUSKIES_TEST_LANES"


def patience() -> float:
    """How many times longer than on a quiet machine a test waits now: 1 to 20, by how many others want each core.

    Every deadline of a test is multiplied with it, so that it fails for what it tests, whatever else runs beside it.
    """
    wanting, running = os.getloadavg()[0], float(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    beside = float(os.environ.get(LANES_VARIABLE, "0"))
    others = max(wanting - 1, running - 1, beside)  # without the test itself
    return min(_MOST, 1.0 + max(0.0, others) / (os.cpu_count() or 1))


@dataclass
class FakeTransport:
    """A platform in memory. `sent` is what people see, in order; edits change it, a repeated key does not add to it.

    `faults` are raised by the next calls of `send`, one each. `edits` are live ones: room and text. `files` are what
    people can attach, by `Attachment.ref`; a file that was sent reads `[name] caption`, and what was in it is here too.
    `offered`: the buttons of each text that was sent. `rang`: what was to ring, and whom it called by name.
    """

    name: str = "fake"
    capabilities: Capabilities = _EVERYTHING
    sent: list[tuple[str, str]] = field(default_factory=list)
    marks: list[tuple[str, Fate]] = field(default_factory=list)
    faults: list[TransportError] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    edits: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    offered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rang: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    serving: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _keys: dict[str, str] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def run(self, receiver: Receiver) -> None:
        self.serving = True
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False

    def message(self, text: str, external_id: str, *, sender: str = "fake:ana", room: str = "room") -> Message:
        """What a person wrote."""
        name = sender.partition(":")[2].capitalize()
        return Message(Conversation(self.name, room), external_id, sender, text, sender_name=name)

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        self.calls.append(key)
        if self.faults:
            raise self.faults.pop(0)
        if key not in self._keys:
            self._keys[key] = f"out{next(self._ids)}"
            self.sent.append((self._keys[key], reply.text))
            self.offered[reply.text] = reply.choices
            if reply.notifies:
                self.rang.append((reply.text, reply.mentions))
        await self._tell()
        return MessageRef(conversation, self._keys[key])

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        if reply.live:
            self.edits.append((ref.conversation.room, reply.text))
        self.sent = [(i, reply.text if i == ref.external_id else text) for i, text in self.sent]
        await self._tell()

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        self.files[file.name] = file.path.read_bytes()
        return await self.send(conversation, Reply(f"[{file.name}] {reply.text}".rstrip()), key)

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        if len(self.files[file.ref]) > most:
            raise DeliveryRefused(f"it has more than {most} bytes")
        into.write_bytes(self.files[file.ref])

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        self.marks.append((ref.external_id, fate))

    @property
    def texts(self) -> list[str]:
        """What people read now."""
        return [text for _, text in self.sent]

    async def until(self, condition: Callable[[list[str]], bool], within_s: float = 10.0) -> list[str]:
        """Wait until what people read satisfies `condition`. Raises TimeoutError, with what they read instead."""
        try:
            async with asyncio.timeout(within_s * patience()), self.changed:
                await self.changed.wait_for(lambda: condition(self.texts))
        except TimeoutError:
            raise TimeoutError("people read instead: " + "\n---\n".join(self.texts[-5:])) from None
        return self.texts

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class ScriptedSled:
    """The sleds of all projects, as the dispatcher sees them; the test plays the agents."""

    def __init__(self) -> None:
        self.journals: dict[int, str] = {}
        #: Why a sled is away.
        self.troubles: dict[int, str] = {}
        self.frames: list[tuple[int, Frame]] = []
        self.runs: asyncio.Queue[tuple[int, Run]] = asyncio.Queue()
        self.stops: asyncio.Queue[Stop] = asyncio.Queue()
        self.steers: asyncio.Queue[Steer] = asyncio.Queue()
        self.decisions: asyncio.Queue[Decision] = asyncio.Queue()
        self.dispatcher: Dispatcher | None = None
        self._numbers: dict[str, int] = {}

    def journal(self, project_id: int) -> str | None:
        return self.journals.get(project_id)

    def trouble(self, project_id: int) -> str:
        return "" if project_id in self.journals else self.troubles.get(project_id, "")

    async def send(self, project_id: int, frame: Frame) -> bool:
        if project_id not in self.journals:
            return False
        self.frames.append((project_id, frame))
        match frame:
            case Run():
                self.runs.put_nowait((project_id, frame))
            case Stop():
                self.stops.put_nowait(frame)
            case Steer():
                self.steers.put_nowait(frame)
            case Decision():
                self.decisions.put_nowait(frame)
        return True

    def connect(self, project_id: int, *, journal: str = "j1", runs: list[RunState] | None = None) -> None:
        """The project's sled says hello; what the dispatcher answers is sent like any frame."""
        assert self.dispatcher is not None
        _, then = self.dispatcher.on_hello(project_id, Hello(version=1, journal=journal, runs=runs or []))
        self.journals[project_id] = journal
        for frame in then:
            self.frames.append((project_id, frame))
            if isinstance(frame, Run):
                self.runs.put_nowait((project_id, frame))
            elif isinstance(frame, Stop):
                self.stops.put_nowait(frame)
            elif isinstance(frame, Decision):
                self.decisions.put_nowait(frame)
        self.dispatcher.on_connected(project_id)

    def disconnect(self, project_id: int) -> None:
        """The project's sled goes away."""
        self.journals.pop(project_id, None)

    async def say(self, project_id: int, run: str, body: Body) -> None:
        """The next event of a run."""
        assert self.dispatcher is not None
        number = self._numbers[run] = self._numbers.get(run, 0) + 1
        await self.dispatcher.on_event(project_id, Event(run=run, seq=number, body=body))

    async def finish(self, project_id: int, run: Run, text: str = "done") -> None:
        """The run is answered."""
        await self.say(project_id, run.run, Finished(ending="answered", text=text, agent_session="a1"))


class InMemoryEngine:
    """An engine whose sleds are tasks of this process, on the real wire: they echo each prompt at once."""

    kind = "memory"
    isolated = False

    def __init__(self) -> None:
        self._sleds: dict[str, asyncio.Task[None]] = {}
        #: The runs that reached a sled, in order.
        self.runs: list[Run] = []
        self.fail_start: Exception | None = None
        #: What its images have.
        self.told: dict[str, Told] = {}

    async def check(self) -> str:
        return "memory: sleds are tasks of this process"

    async def has_base(self, plan: ImagePlan) -> bool:
        return True

    async def has_image(self, tag: str) -> bool:
        return True

    async def prepare(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        return Prepared([], self.told)

    async def reap(self, projects: Callable[[], Collection[str]], tags: Callable[[], Collection[str]]) -> list[str]:
        return []

    async def close(self) -> None:
        """There is nothing to release."""

    async def start(self, spec: SledSpec) -> None:
        if self.fail_start is not None:
            raise self.fail_start
        if spec.project not in self._sleds:
            self._sleds[spec.project] = asyncio.create_task(self._sled(spec))

    async def stop(self, spec: SledSpec) -> None:
        if (task := self._sleds.pop(spec.project, None)) is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def is_running(self, spec: SledSpec) -> bool:
        return spec.project in self._sleds

    async def people_inside(self, spec: SledSpec) -> int:
        return 0

    async def reaches(self, spec: SledSpec, address: str, port: int) -> bool:
        return False

    async def logs(self, spec: SledSpec, of: LogOf, lines: int) -> str:
        return ""

    async def _sled(self, spec: SledSpec) -> None:
        await echo_sled(spec.paths.socket, spec.token, spec.paths.home, self.runs.append)


async def echo_sled(wire: Path, token: str, home: Path, on_run: Callable[[Run], None]) -> None:
    """A sled without processes, on the real wire and with the real journal, that answers each prompt with itself."""
    journal = Journal(home / ".huskies" / "journal")

    async def take(frame: FromGateway) -> None:
        match frame:
            case Run() if frame.run not in journal:
                on_run(frame)
                journal.begin(frame.run)
                journal.append(frame.run, Started(agent_session="echo"))
                journal.append(frame.run, Finished(ending="answered", text=frame.prompt, agent_session="echo"))
                link.publish(frame.run)
            case Ack():
                journal.forget(frame.run)
            case Call():
                link.answer(Answer(call=frame.call, ok=True))

    link = Link(wire, token, journal, ["scripted"], take)
    await link.run()
