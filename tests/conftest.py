"""What every test may use. Each test starts clean, in folders of its own."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_asyncio

from gateway import clock
from gateway.asking import Answers, Posting, Questions
from gateway.chat import Fate
from gateway.config import Access
from gateway.delivery import Fates, Files, Outbox
from gateway.events import Event, Events, MayBegin
from gateway.intake import Inbox
from gateway.store import Store, conversations, messages, projects, schema
from gateway.store.messages import StoredMessage
from gateway.store.turns import SessionKey
from gateway.testing import FakeTransport, ScriptedSled, patience
from gateway.turns import Admission, Around, Dispatcher, Limits, RunSettings
from sled.protocol import File, Run
from tests.support import containers, databases
from tests.support.databases import place, use
from tests.support.peers import MISSING, peers
from tests.support.ports import take_port
from tests.support.postgres import Server, programs, running_server
from tests.support.synapse import Synapse, python_of_synapse
from tests.support.wall_clock import WallClock


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", metavar="SEED", help="of each file's slow tests run a quarter, chosen by this word")
    parser.addoption("--tenth", metavar="SEED", help="run a tenth of the tests, chosen by this word")
    kinds = ("sqlite", "postgres")
    parser.addoption("--database", choices=kinds, default="sqlite", help="what stores are on; postgres: a server here")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    sample: str | None = config.getoption("--sample")
    tenth: str | None = config.getoption("--tenth")
    if config.getoption("--database") == "postgres":
        for item in items:
            if item.get_closest_marker("sqlite"):
                item.add_marker(pytest.mark.skip(reason="it looks into SQLite's file"))

    left_out: set[pytest.Item] = set()
    if tenth is not None:
        left_out |= {item for item in items if _lot(item, tenth) % 10}
    if sample is not None:
        slow = [item for item in items if item.get_closest_marker("slow")]
        for file in {item.path for item in slow}:
            of_file = sorted((item for item in slow if item.path == file), key=lambda item: _lot(item, sample))
            left_out |= set(of_file[math.ceil(len(of_file) / 4) :])
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _lot(item: pytest.Item, seed: str) -> int:
    return zlib.crc32(f"{seed} {item.nodeid}".encode())


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """How long a test may take depends on how busy the machine is, too."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args[0] if marker else float(item.config.getini("timeout"))
    item.add_marker(pytest.mark.timeout(seconds * patience()), append=False)
    yield


@dataclass
class World:
    """The heart of a gateway: real store, inbox, outbox and dispatcher; a fake platform, and sleds the test plays."""

    store: Store
    transport: FakeTransport
    outbox: Outbox
    fates: Fates
    sleds: ScriptedSled
    dispatcher: Dispatcher
    inbox: Inbox
    accepted: list[StoredMessage]
    projects: dict[str, int]
    questions: Questions
    answers: Answers
    admission: Admission
    files: list[File]
    #: What the next run of any project is like.
    settings: RunSettings = field(
        default_factory=lambda: RunSettings("demo", "scripted", "auto", isolated=False, model="")
    )

    async def project(self, name: str = "demo") -> int:
        """A project that is ready, its sled connected."""
        made = await self.store.write(
            lambda c: projects.reserve(
                c,
                name=name,
                path=Path("/nowhere") / name,
                adopted=False,
                made_source=True,
                wanted="",
                token="t",
                permissions="auto",
                created_by="fake:ana",
            )
        )
        self.projects[name] = made.id
        self.sleds.connect(made.id)
        return made.id

    async def activate(self, project_id: int, room: str = "room") -> None:
        """Make a project active in a room."""
        conversation = self.transport.message("", "", room=room).conversation
        await self.store.write(
            lambda c: conversations.switch(c, conversations.ensure(c, conversation, direct=True).id, project_id)
        )

    async def say(
        self, text: str, external_id: str, *, room: str = "room", sender: str = "fake:ana", direct: bool = True
    ) -> None:
        """A message arrives and is submitted to the active project."""
        message = self.transport.message(text, external_id, room=room, sender=sender)
        message = replace(message, direct=direct, addressed=not direct)
        before = len(self.accepted)
        await self.inbox.accept("fake", [message], None)
        for stored in self.accepted[before:]:
            assert stored.project_id is not None
            self.dispatcher.submit(stored, stored.project_id)

    async def next_run(self, within_s: float = 5.0) -> tuple[int, Run]:
        """The next run that a sled was given."""
        return await asyncio.wait_for(self.sleds.runs.get(), within_s * patience())

    async def fate(self, external_id: str) -> Fate:
        """Where a message stands, in the database."""
        stored = next(m for m in self.accepted if m.external_id == external_id)
        return (await self.store.read(lambda c: messages.by_id(c, stored.id))).fate

    async def settled(self, external_id: str, within_s: float = 5.0) -> Fate:
        """Wait for a message's final fate."""
        stored = next(m for m in self.accepted if m.external_id == external_id)
        settled = self.fates.settled(stored.id)  # first: it may be settled while the database is asked
        current = await self.fate(external_id)
        if current.final:
            return current
        return await asyncio.wait_for(settled, within_s * patience())

    def key(self, project_id: int) -> SessionKey:
        """The session of the first message's conversation."""
        return SessionKey(project_id, self.accepted[0].conversation_id)


#: `make fuzz`: as many examples as an afternoon has.
hypothesis.settings.register_profile("fuzz", max_examples=20_000, deadline=None)

FAST = Limits(window_s=0.05, window_max_s=0.2, silence_s=60, turn_s=60)


async def make_world(
    path: Path,
    limits: Limits = FAST,
    transport: FakeTransport | None = None,
    *,
    question_s: float = 60.0,
    budget_usd: float = 0.0,
) -> World:
    """Build one; `close_world` ends it."""
    if databases.on_a_server() and limits.window_s == FAST.window_s:  # two messages are to share one there, too
        limits = replace(limits, window_s=limits.window_s * 4, window_max_s=limits.window_max_s * 4)
    store = await Store.open(place(path))
    transport = transport or FakeTransport(serving=True)
    outbox = Outbox(store, {"fake": transport})
    fates = Fates(outbox)
    sleds = ScriptedSled()
    names: dict[str, int] = {}
    files = Files(path / "files", store, outbox)

    def heard(event: Event) -> None:
        if isinstance(event, MayBegin):
            dispatcher.fill()

    questions = Questions(store, outbox, sleds.send, {}, question_s, Posting(outbox, files.keep))
    answers = Answers(questions, outbox, {})
    admission = Admission(store, questions, budget_usd, Events(heard))
    sent: list[File] = []

    async def take_file(_: object, file: File) -> None:
        sent.append(file)

    around = Around(
        store=store,
        outbox=outbox,
        fates=fates,
        wire=sleds,
        limits=limits,
        run_settings=lambda _: world.settings,
        people={},
        questions=questions,
        admission=admission,
        take_file=take_file,
        abridge=files.abridge,
    )
    dispatcher = Dispatcher(around)
    await admission.recover(dispatcher.refuse)
    sleds.dispatcher = dispatcher
    accepted: list[StoredMessage] = []
    inbox = Inbox(
        store,
        Access(["fake:ana", "fake:ben"], []),
        on_accepted=accepted.append,
        on_withdrawn=dispatcher.withdrawn,
        on_moved=outbox.moved,
    )
    world = World(
        store, transport, outbox, fates, sleds, dispatcher, inbox, accepted, names, questions, answers, admission, sent
    )
    return world


async def close_world(world: World) -> None:
    """End it as a gateway ends: what is in memory is forgotten."""
    await world.dispatcher.close()
    await world.questions.shut()
    await world.admission.close()
    await world.outbox.close()
    await world.store.close()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without rows; migrating anew for each test would take longer than the tests."""
    path = tmp_path_factory.mktemp("database") / "huskies.db"
    schema.prepare(path)
    return path


@pytest_asyncio.fixture
async def world(tmp_path: Path, empty_database: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world; `@pytest.mark.parametrize("world", [dict(...)], indirect=True)` changes its limits."""
    shutil.copy(empty_database, tmp_path / "huskies.db")
    limits = replace(FAST, **getattr(request, "param", {}))
    made = await make_world(tmp_path, limits)
    yield made
    await close_world(made)


@pytest.fixture
def wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """The wall's clock of this process, which looks for a step soon."""
    made = WallClock(tmp_path)
    monkeypatch.setenv(clock.VARIABLE, str(made.file))
    monkeypatch.setattr(clock, "LOOK_S", 0.05)
    return made


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; without one on this machine the test is skipped, on CI it fails."""
    if programs() is None:
        missing = "install PostgreSQL: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with running_server() as made:
        yield made


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Stores are where `--database` says; what a test made goes with it."""
    if request.config.getoption("--database") != "postgres":
        yield
        return
    made: Server = request.getfixturevalue("postgres")
    use(made)
    try:
        yield
    finally:
        use(None)
        made.drop_all()


@pytest.fixture
def unused_port() -> int:
    """A port of the loopback that nobody listens on, and nobody else will."""
    return take_port()


@pytest.fixture(scope="session")
def synapse_python() -> str:
    """The interpreter that has Synapse; without one the test is skipped, on CI it fails."""
    python = python_of_synapse()
    if not python:
        missing = "set HUSKIES_SYNAPSE_PYTHON to a Python that has matrix-synapse (make test does)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return python


@pytest.fixture(scope="session")
def synapse(synapse_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    """The homeserver of this test run, without rate limits. Tests make their own users."""
    server = Synapse(synapse_python, tmp_path_factory.mktemp("synapse")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """The npm packages that stand for Slack and Twilio; without them the test is skipped, on CI it fails."""
    folder = peers()
    if folder is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return folder


@pytest.fixture(scope="session")
def warm_engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A real Docker engine that has built before what tests build; without one the test is skipped, on CI it fails."""
    if missing := containers.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    asyncio.run(containers.warm_up(tmp_path_factory.mktemp("warm")))


@pytest.fixture
def engine(warm_engine: None) -> Iterator[None]:
    """A real Docker engine, in which the test leaves nothing."""
    with containers.nothing_left():
        yield


@pytest.fixture
def own_synapse(synapse_python: str, tmp_path: Path) -> Iterator[Callable[..., Synapse]]:
    """Make a homeserver for one test, not started yet, that the test may kill."""
    servers: list[Synapse] = []

    def make(**options: Any) -> Synapse:
        servers.append(Synapse(synapse_python, tmp_path / f"synapse{len(servers)}", **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()
