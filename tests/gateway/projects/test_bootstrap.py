"""`new project`: what decides, what is refused, and what an attempt that fails leaves. On an engine in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.delivery import Notice
from gateway.engine import Prepared, SledSpec
from gateway.errors import EngineError
from gateway.projects import Request, containers
from gateway.store import Store
from gateway.store import projects as rows
from gateway.store.conversations import Destination
from gateway.testing import InMemoryEngine, patience
from stacks.images import ImagePlan
from tests.support.house import House, house, make_settings
from tests.support.ports import take_ports
from tests.support.processes import until
from tests.support.ssh_engine import SshEngine


def a_few_ports() -> str:
    """As `projects.ssh_ports` has them."""
    ports = take_ports(4)
    return f"{ports[0]}-{ports[-1]}"


def in_memory(home: House) -> InMemoryEngine:
    """The engine of a house that has no other."""
    assert isinstance(home.engine, InMemoryEngine)
    return home.engine


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """On an engine without isolation."""
    async with house(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def isolated(tmp_path: Path, unused_port: int) -> AsyncIterator[House]:
    """On one that isolates, with one SSH port."""
    projects = {"root": tmp_path / "projects", "ssh_ports": f"{unused_port}-{unused_port}"}
    async with house(tmp_path, engine=SshEngine(), settings=make_settings(tmp_path, projects=projects)) as made:
        yield made


def nothing_left(home: House, name: str = "demo") -> bool:
    """Whether an attempt left nothing, and its name is free."""
    state = home.app.settings.gateway.state_dir
    assert home.app.projects.all() == []
    assert not (home.tmp_path / "projects" / name).exists()
    assert not (state / name).exists()
    return True


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_an_unknown_stack_lists_those_there_are(home: House) -> None:
    told = await home.ask("new project demo --stack pythn")
    assert "There is no stack pythn. There are: go, jvm, minimal, node, python, ruby, rust." in told
    assert nothing_left(home)


async def test_a_stack_without_an_image_is_no_container(isolated: House) -> None:
    folder = isolated.app.settings.gateway.state_dir / ".stacks" / "zig"
    folder.mkdir(parents=True)
    (folder / "stack.toml").write_text('summary = "Zig"\norder = 15\n')
    (folder / "markers").write_text("build.zig\n")
    told = await isolated.ask("new project demo --stack zig")
    assert f"The stack zig has no image: {folder}/Dockerfile.fragment is missing." in told
    assert "`--stack minimal`" in told
    assert nothing_left(isolated)


async def test_git_needs_a_container(home: House) -> None:
    told = await home.ask("new project demo --git https://git.example.org/a.git")
    assert "--git needs a container" in told
    assert "--adopt" in told
    assert nothing_left(home)


async def test_git_and_adopt_exclude_each_other(isolated: House) -> None:
    told = await isolated.ask("new project demo --git https://git.example.org/a.git --adopt")
    assert "leave one out" in told
    assert nothing_left(isolated)


async def test_git_wants_an_empty_folder(isolated: House) -> None:
    folder = isolated.tmp_path / "projects" / "mine"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    told = await isolated.ask(f"new project demo --git https://git.example.org/a.git --path {folder}")
    assert "is not empty" in told
    assert (folder / "file").exists()
    assert nothing_left(isolated)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///etc", "A folder of the host cannot be cloned"),
        ("/etc", "A folder of the host cannot be cloned"),
        ("ext::sh", "URLs with :: start programs"),
        ("--upload-pack=x", "--git needs a value"),
        ("git@github.com:you/repo.git", "https://github.com/you/repo.git"),
        ("http://git.example.org/a.git", "is not encrypted"),
        ("https://ana:canary@git.example.org/a.git", "contains a user name or a token"),
        ("https://git.example.org/../../etc", "cannot contain . or .."),
        ("https://git.example.org/a.git?x=$(id)", "no ? or #"),
        ("https://git.example.org/a b", "no spaces"),
        ("https://gıthub.com/a.git", "plain letters"),
        ("https://", "A host must follow https:"),
    ],
)
async def test_a_url_that_is_none_leaves_nothing(isolated: House, url: str, told: str) -> None:
    reply = await isolated.ask(f"new project demo --git '{url}'")
    assert told in reply
    assert "canary" not in reply
    assert nothing_left(isolated)


async def test_behind_all_that_was_refused_the_name_and_the_port_are_free(isolated: House) -> None:
    for url in ("file:///etc", "ext::sh", "https://x"):
        await isolated.ask(f"new project demo --git {url}")
    port = isolated.app.settings.projects.port_range[0]
    assert f"-p {port} " in await isolated.ask("new project demo", contains="is ready")
    assert "are used up" in await isolated.ask("new project other")
    assert nothing_left_but_demo(isolated)


def nothing_left_but_demo(home: House) -> bool:
    assert [project.name for project in home.app.projects.all()] == ["demo"]
    assert not (home.app.settings.gateway.state_dir / "other").exists()
    return True


# --- what decides ----------------------------------------------------------------------------------------------------


def make_source(tmp_path: Path, **files: str) -> Path:
    """A folder with a Rust and a Python project, and what the test adds."""
    source = tmp_path / "projects" / "mine"
    (source / ".huskies").mkdir(parents=True)
    for name in ("Cargo.toml", "pyproject.toml"):
        (source / name).touch()
    for name, text in files.items():
        (source / ".huskies" / f"{name}.toml").write_text(text)
    return source


@pytest.mark.parametrize(
    ("declared", "asked", "told"),
    [
        ("", "", "rust (read from Cargo.toml)"),
        ('stack = "node"', "", "node (read from .huskies/project.toml)"),
        ('stack = "node"', "--stack go", "go (asked for)"),
        ('stack = "cobol"', "", "rust (read from Cargo.toml)"),
        ("stack = [", "", "rust (read from Cargo.toml)"),
        (f"stack = {'[' * 30_000}", "", "rust (read from Cargo.toml)"),
    ],
    ids=["markers", "its own file", "the person", "unknown", "broken", "hostile"],
)
async def test_the_person_beats_the_file_and_the_file_beats_the_markers(
    home: House, tmp_path: Path, declared: str, asked: str, told: str
) -> None:
    source = make_source(tmp_path, project=declared)
    ready = await home.ask(f"new project demo --path {source} --adopt {asked}", contains="is ready")
    assert f"stack: {told}" in ready
    assert home.app.projects.get("demo").stack == told.split(maxsplit=1)[0]


# --- what an attempt leaves ------------------------------------------------------------------------------------------


async def test_ssh_that_does_not_answer_undoes_everything(isolated: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(isolated.engine, SshEngine)
    monkeypatch.setattr(containers, "SSH_WITHIN_S", 0.3)
    isolated.engine.exit_status = 1
    told = await isolated.ask("new project demo", contains="failed at")
    assert "log in over SSH" in told
    assert "`true` ended with 1: so it is" in told
    assert isolated.engine.servers == {}
    assert nothing_left(isolated)
    isolated.engine.exit_status = 0
    await isolated.ask("new project demo", contains="is ready")
    assert isolated.engine.servers["demo"].commands == ["true"]


async def test_an_error_that_nobody_foresaw_undoes_everything_too(
    home: House, caplog: pytest.LogCaptureFixture
) -> None:
    in_memory(home).fail_start = ZeroDivisionError("secret detail")
    told = await home.ask("new project demo", contains="failed at")
    assert "start the sled" in told
    assert "secret detail" not in told
    assert any(record.exc_info and "secret detail" in str(record.exc_info[1]) for record in caplog.records)
    assert nothing_left(home)
    in_memory(home).fail_start = None
    assert "is ready" in await home.ask("new project demo", contains="is ready")


async def test_what_a_person_put_into_an_empty_folder_stays(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "projects" / "mine"
    mine.mkdir(parents=True)

    async def interrupted(_: SledSpec) -> None:
        """Comes behind the folder and before the sled."""
        (mine / "notes").write_text("mine")
        raise EngineError("no")

    monkeypatch.setattr(home.engine, "start", interrupted)
    await home.ask(f"new project demo --path {mine}", contains="failed at")
    assert (mine / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("how", "git_url", "left"),
    [
        ({"made_source": False}, "", {"notes"}),
        ({"made_source": False}, "https://git.example.org/a.git", set()),
        ({"made_source": False, "adopted": True}, "", {"notes", ".git", ".huskies"}),
        ({"made_source": True}, "", {"notes"}),
    ],
    ids=["an empty folder", "an empty folder and a clone", "an adopted folder", "a folder of ours"],
)
async def test_what_a_killed_gateway_left_is_undone_at_the_next_start(
    tmp_path: Path, how: dict[str, bool], git_url: str, left: set[str]
) -> None:
    """As it is on disk behind `init`: what is there is told apart by how the bootstrap began."""
    settings = make_settings(tmp_path)
    source = tmp_path / "projects" / "mine"
    (source / ".git").mkdir(parents=True)
    (source / ".huskies").mkdir()
    (source / ".huskies" / "project.toml").touch()
    (source / "notes").write_text("mine")
    state = settings.gateway.state_dir
    (state / ".gateway").mkdir(parents=True)
    (state / "demo" / "home").mkdir(parents=True)
    store = await Store.open(state / ".gateway" / "huskies.db")
    made = await store.write(
        lambda c: rows.reserve(
            c,
            name="demo",
            path=source,
            adopted=how.get("adopted", False),
            made_source=how["made_source"],
            wanted="",
            token="t",
            permissions="ask",
            created_by="fake:ana",
        )
    )
    await store.write(lambda c: rows.change(c, made.id, git_url=git_url))
    await store.close()

    async with house(tmp_path, settings=settings) as home:
        await until(lambda: home.app.projects.all() == [] and not (state / "demo").exists())
        assert {entry.name for entry in source.iterdir()} == left
        assert await home.app.store.read(lambda c: rows.by_name(c, "demo")) is None
        assert "is ready" in await home.ask("new project demo", contains="is ready")


async def test_a_link_that_was_planted_is_removed_and_not_followed(
    tmp_path: Path, home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, elsewhere = tmp_path / "projects" / "mine", tmp_path / "elsewhere"
    mine.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "precious").touch()

    async def planted(_: SledSpec) -> None:
        (mine / ".git").symlink_to(elsewhere)
        (mine / ".huskies").symlink_to(elsewhere / "precious")
        raise EngineError("no")

    monkeypatch.setattr(home.engine, "start", planted)
    await home.ask(f"new project demo --path {mine}", contains="failed at")
    assert list(mine.iterdir()) == []
    assert (elsewhere / "precious").exists()


async def test_a_project_taken_up_again_is_a_tombstone_again_when_that_fails(isolated: House) -> None:
    await isolated.ask("new project demo", contains="is ready")
    asked = await isolated.ask("delete demo")
    await isolated.ask(asked.split("`")[1], contains="is deleted")
    state = isolated.app.settings.gateway.state_dir / "demo"
    host_key = (state / "ssh_host_ed25519_key").read_bytes()
    assert isinstance(isolated.engine, SshEngine)
    isolated.engine.fail_start = EngineError("no room for it")
    await isolated.ask("new project demo", contains="failed at")
    assert isolated.app.projects.all() == []
    assert (isolated.tmp_path / "projects" / "demo").is_dir()
    assert not (state / "id_ed25519").exists(), "a key that opened it opens nothing"
    isolated.engine.fail_start = None
    assert "picked up again" in await isolated.ask("new project demo", contains="is ready")
    assert (state / "ssh_host_ed25519_key").read_bytes() == host_key


async def test_ten_at_once_get_ten_ports_or_a_reason(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, projects={"ssh_ports": a_few_ports()})
    async with house(tmp_path, engine=SshEngine(), settings=settings) as home:
        ports = len(settings.projects.port_range)
        await asyncio.gather(*(home.say(f"new project p{n}", room=f"room{n}") for n in range(6)))
        done = await home.transport.until(
            lambda texts: sum("is ready" in text or "are used up" in text for text in texts) == 6, 30
        )
        made = home.app.projects.all()
        assert len({project.ssh_port for project in made}) == len(made) == sum("is ready" in text for text in done)
        assert len(made) <= ports


# --- sequences -------------------------------------------------------------------------------------------------------


class Admission(SshEngine):
    """Images are there once the test says so; `broken` engines refuse to end anything."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.open = asyncio.Event(), asyncio.Event()
        self.fails = False
        self.broken = ""

    async def prepare(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        self.asked.set()
        await self.open.wait()
        if self.fails:
            raise EngineError("no")
        return await super().prepare(spec, plan, said)

    async def stop(self, spec: SledSpec) -> None:
        if self.broken:
            raise EngineError(self.broken)
        await super().stop(spec)


def gate(home: House) -> Admission:
    """The engine of such a house."""
    assert isinstance(home.engine, Admission)
    return home.engine


@pytest_asyncio.fixture
async def gated(tmp_path: Path) -> AsyncIterator[House]:
    """On an isolated engine whose images come when the test says so."""
    projects = {"root": tmp_path / "projects", "ssh_ports": a_few_ports()}
    settings = make_settings(tmp_path, projects=projects, engine={"reconcile_s": 0.05})
    async with house(tmp_path, engine=Admission(), settings=settings) as made:
        yield made
        gate(made).broken = ""


async def active(home: House) -> str:
    """The name of the project that the room talks to."""
    told = await home.ask("status")
    return told.split("**")[1] if "**" in told else ""


async def test_who_went_elsewhere_meanwhile_stays_there(gated: House) -> None:
    gate(gated).open.set()
    for name in ("alpha", "gamma"):
        await gated.ask(f"new project {name}", contains="is ready")
    await gated.ask("switch alpha")
    gate(gated).open.clear()
    gate(gated).asked.clear()
    gate(gated).fails = True
    await gated.say("new project beta")
    await asyncio.wait_for(gate(gated).asked.wait(), 10 * patience())
    await gated.ask("switch gamma", contains="gamma is active")
    gate(gated).open.set()
    await gated.transport.until(lambda texts: any("Creating beta failed at" in text for text in texts))
    assert await active(gated) == "gamma"


async def test_the_project_that_one_came_from_is_gone_meanwhile(gated: House) -> None:
    gate(gated).open.set()
    await gated.ask("new project alpha", contains="is ready")
    gate(gated).open.clear()
    gate(gated).asked.clear()
    gate(gated).fails = True
    await gated.say("new project beta")
    await asyncio.wait_for(gate(gated).asked.wait(), 10 * patience())
    asked = await gated.ask("delete alpha --purge", room="other")
    await gated.ask(asked.split("`")[1], contains="is deleted", room="other")
    gate(gated).open.set()
    await gated.transport.until(lambda texts: any("Creating beta failed at" in text for text in texts))
    assert gated.app.projects.all() == []
    assert "No project is active" in await gated.ask("status") or "No projects yet" in gated.transport.texts[-1]
    gate(gated).fails = False
    await gated.ask("new project beta", contains="is ready")


async def test_taken_up_in_vain_elsewhere_the_tombstone_still_knows_its_source(gated: House, tmp_path: Path) -> None:
    gate(gated).open.set()
    await gated.ask("new project demo", contains="is ready")
    (tmp_path / "projects" / "demo" / "mine").write_text("mine")
    asked = await gated.ask("delete demo")
    await gated.ask(asked.split("`")[1], contains="is deleted")
    other = tmp_path / "projects" / "other"
    other.mkdir()
    if os.geteuid() == 0:
        os.chown(other, 1234, 1234)
    gate(gated).fails = True
    await gated.ask(f"new project demo --path {other} --adopt", contains="failed at")
    gate(gated).fails = False
    again = await gated.ask("new project demo", contains="is ready")
    assert "picked up again" in again
    project = gated.app.projects.get("demo")
    assert project.path == tmp_path / "projects" / "demo"
    assert not project.adopted
    assert (project.path / "mine").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_a_home_follows_its_projects_owner(gated: House, tmp_path: Path) -> None:
    gate(gated).open.set()
    await gated.ask("new project demo", contains="is ready")
    home = gated.app.projects.paths(gated.app.projects.get("demo")).home
    (home / "deep").mkdir()
    (home / "deep" / "file").write_text("kept")
    (home / "link").symlink_to("/etc/hosts")
    owner_of_hosts = Path("/etc/hosts").stat().st_uid
    asked = await gated.ask("delete demo")
    await gated.ask(asked.split("`")[1], contains="is deleted")
    source = tmp_path / "projects" / "demo"
    os.chown(source, 1234, 1235)
    await gated.ask("new project demo", contains="is ready")
    assert {
        (p.lstat().st_uid, p.lstat().st_gid) for p in (home, home / "deep", home / "deep" / "file", home / "link")
    } == {(1234, 1235)}
    assert Path("/etc/hosts").stat().st_uid == owner_of_hosts


async def test_a_purge_touches_nothing_around_what_it_removes(gated: House, tmp_path: Path) -> None:
    gate(gated).open.set()
    await gated.ask("new project demo", contains="is ready")
    await gated.ask("new project other", contains="is ready")
    root, source = tmp_path / "projects", tmp_path / "projects" / "demo"
    root.chmod(0o751)
    shutil.rmtree(source)
    closed = gated.app.projects.paths(gated.app.projects.get("demo")).home / "a" / "b"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0)
    closed.parent.chmod(0o500)
    asked = await gated.ask("delete demo --purge")
    receipt = await gated.ask(asked.split("`")[1], contains="is deleted")
    assert "kept" not in receipt
    assert root.stat().st_mode & 0o777 == 0o751
    assert await gated.app.store.read(lambda c: rows.by_name(c, "demo")) is None


async def test_what_the_engine_refuses_to_end_is_owed_and_its_name_is_free(gated: House) -> None:
    gate(gated).open.set()
    await gated.ask("new project demo", contains="is ready")
    key = gated.app.projects.paths(gated.app.projects.get("demo")).client_key
    gate(gated).broken = "did not receive an exit event"
    asked = await gated.ask("delete demo")
    receipt = await gated.ask(asked.split("`")[1], contains="is deleted")
    assert "the container, until the engine removes it (did not receive an exit event)" in receipt
    assert not key.exists()
    gate(gated).broken = ""
    await gated.engine.stop(gate(gated).servers["demo"].spec)  # as `reap` does it on a real engine
    assert "is ready" in await gated.ask("new project demo", contains="is ready")
    assert await gated.ask("hello", contains="hello") == "hello"


async def test_down_while_the_engine_refused_is_made_so_later(gated: House) -> None:
    gate(gated).open.set()
    await gated.ask("new project demo", contains="is ready")
    gate(gated).broken = "not now"
    assert "did not go down: not now" in await gated.ask("down")
    gate(gated).broken = ""
    await until(lambda: "demo" not in gate(gated).servers)
    assert gated.app.projects.state(gated.app.projects.get("demo")) == "down"


async def test_a_deletion_that_was_cut_off_is_finished_with_its_key_and_its_purge(tmp_path: Path) -> None:
    projects = {"root": tmp_path / "projects", "ssh_ports": a_few_ports()}
    settings = make_settings(tmp_path, projects=projects)
    async with house(tmp_path, engine=SshEngine(), settings=settings) as home:
        for name in ("one", "two"):
            await home.ask(f"new project {name}", contains="is ready")
        ids = [home.app.projects.get(name).id for name in ("one", "two")]
        keys = [home.app.projects.paths(home.app.projects.get(name)).client_key for name in ("one", "two")]
        # As a gateway that is killed behind the tombstone leaves it.
        await home.app.store.write(lambda c: rows.bury(c, ids[0]))
        await home.app.store.write(lambda c: rows.bury(c, ids[1], purging=True))
    async with house(tmp_path, engine=SshEngine(), settings=settings) as home:
        await until(lambda: not any(key.exists() for key in keys))
        await until(lambda: not (tmp_path / "projects" / "two").exists())
        assert (tmp_path / "projects" / "one").exists()
        await home.say("version")  # numbers begin anew: these were used, and are taken for repetitions
        await home.say("version")
        assert "picked up again" in await home.ask("new project one", contains="is ready")


async def test_one_projects_trouble_is_not_the_others(gated: House, monkeypatch: pytest.MonkeyPatch) -> None:
    gate(gated).open.set()
    for name in ("alpha", "beta"):
        await gated.ask(f"new project {name}", contains="is ready")
    start = gated.engine.start

    async def odd(spec: SledSpec) -> None:
        if spec.project == "alpha":
            raise ValueError("nobody foresaw this")
        await start(spec)

    monkeypatch.setattr(gated.engine, "start", odd)
    for name in ("alpha", "beta"):
        await gated.engine.stop(gated.app.projects.spec(gated.app.projects.get(name)))
    await until(lambda: "beta" in gate(gated).servers)


async def test_a_project_that_nobody_was_told_of_yet_is_not_taken_for_unfinished(gated: House) -> None:
    """Between READY and the reply the loop of the start-up may come by, and somebody may ask for the same name."""
    gate(gated).open.set()
    projects = gated.app.projects
    request = Request(name="demo", by="fake:ana", conversation_id=1, asked_at=0.0)
    await gated.ask("version")  # makes the conversation
    notice = Notice(gated.app.store, gated.app.outbox, Destination(gated.transport.message("", "").conversation, 1))
    made = await projects.create(request, lambda: None, notice)
    stored = await gated.app.store.read(lambda c: rows.by_name(c, "demo"))
    assert stored is not None
    await projects.reconciler.finish(replace(stored, ready_at=None))
    assert "There is already a project demo" in await gated.ask("new project demo", room="other")
    projects.begin(made.project)
    assert projects.state(projects.get("demo")) == "ready"


async def test_one_person_from_two_rooms_is_told_in_which_the_project_is(gated: House) -> None:
    """The second room is not switched, so it is not told that all is well."""
    first = asyncio.create_task(gated.ask("new project demo", room="one", contains="is ready", within_s=30))
    await until(lambda: gated.app.projects.names())
    second = asyncio.create_task(gated.ask("new project demo", room="two", contains="already", within_s=30))
    gate(gated).open.set()
    assert "There is already a project demo. Type `switch demo`" in await second
    assert "is ready" in await first
    assert "No project is active here" in await gated.ask("status", room="two", contains="No project")
