"""A whole gateway, spoken to as people speak to it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.app import app as app_module
from gateway.app.build import build
from gateway.app.startup import check, choose_engine
from gateway.chat import Conversation, Fate
from gateway.config.state_dir import lock_state
from gateway.engine import docker
from gateway.errors import ConfigError, EngineDown, EngineError, StateError, StateLocked, UserError
from gateway.store import Connection, conversations, messages
from gateway.store import projects as rows
from gateway.store.messages import COMPACT
from gateway.store.tables import turns
from gateway.testing import FakeTransport, InMemoryEngine, patience
from tests.conftest import World
from tests.support.house import House, house, make_settings
from tests.support.processes import until
from tests.support.wall_clock import WallClock


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def test_the_first_two_minutes(home: House, tmp_path: Path) -> None:
    assert "new project <name>" in await home.ask("hello?")
    ready = await home.ask("new project demo", contains="is ready")
    assert str(tmp_path / "projects" / "demo") in ready
    assert "stack: minimal" in ready
    assert "no isolation" in ready
    assert "scripted agent" in ready
    assert "status demo" in ready
    assert await home.ask("hi there") == "hi there"
    assert "**demo**: ready" in await home.ask("status")
    assert "demo" in await home.ask("projects")
    assert "operator" in await home.ask("whoami")
    assert "active project demo" in await home.ask("whoami")


async def test_strangers_get_nothing(home: House) -> None:
    await home.say("new project demo", sender="fake:eve")
    await home.say("help", sender="fake:eve")
    await home.ask("help")
    assert len(home.transport.sent) == 1
    assert not home.transport.marks or all(mark[0] != "m1" for mark in home.transport.marks)


async def test_members_may_talk_but_not_make(home: House) -> None:
    assert "Only an operator" in await home.ask("new project demo", sender="fake:ben")
    await home.ask("new project demo", contains="is ready")
    assert await home.ask("hello", sender="fake:ben") == "hello"
    assert "Only an operator" in await home.ask("permissions allow", sender="fake:ben")
    assert "Only an operator" in await home.ask("delete demo", sender="fake:ben")


async def test_what_is_written_behind_new_project_waits_for_it(home: House) -> None:
    await home.say("new project demo")
    await home.say("first words")
    # The answer may take the place of a message that said what it waited for.
    texts = await home.transport.until(lambda texts: "first words" in texts)
    assert any("is ready" in text for text in texts)
    (turn,) = await home.app.store.read(lambda c: c.execute(select(turns)).mappings().all())
    (project,) = home.app.projects.all()
    assert turn["started_at"] >= project.ready_at


async def test_a_near_miss_is_offered_and_nothing_is_done(home: House) -> None:
    told = await home.ask("new porject demo")
    assert "`new project demo`" in told
    assert home.app.projects.all() == []


async def test_prompt_sends_what_looks_like_a_command(home: House) -> None:
    await home.ask("new project demo", contains="is ready")
    assert await home.ask("prompt status") == "status"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a",
        "Demo",
        "-x",
        "x-",
        "x" * 41,
        "de\u0301mo",
        "d\u0435mo",
        "de\u202emo",
        "de/mo",
        ".hidden",
        "1abc",
    ],
)
async def test_bad_names_are_refused_with_the_rule(home: House, name: str, tmp_path: Path) -> None:
    told = await home.ask(f"new project {name}")
    assert "lower-case letters" in told
    assert "new project my-app" in told
    assert home.app.projects.all() == []
    assert not (tmp_path / "projects").exists()


async def test_bad_paths_are_refused_with_the_reason(home: House, tmp_path: Path) -> None:
    root = tmp_path / "projects"
    (root / "full").mkdir(parents=True)
    (root / "full" / "file").touch()
    (root / "out").symlink_to("/etc")
    state = home.app.settings.gateway.state_dir
    for path, told in [
        ("/etc", "not inside an allowed folder"),
        ("/does/not/exist", "not inside an allowed folder"),
        (f"{root}/../elsewhere", "not inside an allowed folder"),
        (f"{root}/out", "not inside an allowed folder"),
        ("relative/path", "needs a full path"),
        (str(state), "not inside an allowed folder"),
        (f"{root}/full", "--adopt"),
    ]:
        assert told in await home.ask(f"new project demo --path {path}"), path
    assert "no folder" in await home.ask(f"new project demo --path {root}/nothing --adopt")
    assert "no stack cobol" in await home.ask("new project demo --stack cobol")
    assert home.app.projects.all() == []
    assert sorted(p.name for p in root.iterdir()) == ["full", "out"]
    assert sorted(p.name for p in state.iterdir()) == [".gateway"]


async def test_the_state_directory_is_no_source_even_inside_a_root(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, projects={"root": tmp_path})
    async with house(tmp_path, settings=settings) as home:
        for path in (tmp_path / "state", tmp_path / "state" / "x"):
            assert "gateway's own state" in await home.ask(f"new project demo --path {path}")
        await home.ask(f"new project demo --path {tmp_path}/one", contains="is ready")
        assert "overlaps" in await home.ask(f"new project other --path {tmp_path}/one/two")


async def test_an_adopted_folder_is_taken_as_it_is_and_never_removed(home: House, tmp_path: Path) -> None:
    source = tmp_path / "projects" / "legacy"
    source.mkdir(parents=True)
    (source / "Cargo.toml").touch()
    told = await home.ask(f"new project old --path {source} --adopt", contains="is ready")
    assert "stack: rust (read from Cargo.toml)" in told
    asked = await home.ask("delete old --purge")
    assert "adopted source stays" in asked
    receipt = await home.ask(asked.split("`")[1], contains="is deleted")
    assert f"kept: source ({source})" in receipt
    assert (source / "Cargo.toml").exists()


async def test_a_bootstrap_that_fails_leaves_nothing(home: House, tmp_path: Path) -> None:
    assert isinstance(home.engine, InMemoryEngine)
    home.engine.fail_start = EngineError("no room for it")
    await home.say("new project demo")
    await home.say("do something")
    texts = await home.transport.until(lambda texts: any("failed at" in t for t in texts))
    told = next(text for text in texts if "failed at" in text)
    assert "start the sled. no room for it" in told
    assert "`new project demo`" in told
    told_too = "The project could not be created. Not run: “do something”"
    await home.transport.until(lambda texts: any(told_too in text for text in texts))
    assert home.app.projects.all() == []
    assert not (tmp_path / "projects" / "demo").exists()
    assert not (tmp_path / "state" / "demo").exists()
    home.engine.fail_start = None
    assert "is ready" in await home.ask("new project demo", contains="is ready")


async def test_delete_asks_and_gives_a_receipt_and_the_name_is_taken_up_again(home: House, tmp_path: Path) -> None:
    await home.ask("new project demo", contains="is ready")
    await home.ask("remember me")
    asked = await home.ask("delete demo")
    code = asked.split("`")[1]
    assert code.startswith("confirm ")
    assert "No question with that code is open" in await home.ask(code, sender="fake:ben")
    assert "No question with that code is open" in await home.ask("confirm zzzz")
    receipt = await home.ask(code, contains="is deleted")
    assert "removed: sled" in receipt
    assert f"source ({tmp_path / 'projects' / 'demo'})" in receipt
    assert "No question with that code is open" in await home.ask(code)
    assert "No projects yet" in await home.ask("hello?")
    again = await home.ask("new project demo", contains="is ready")
    assert "picked up again" in again
    assert await home.ask("still there?") == "still there?"


async def test_purge_wants_the_name_typed(home: House, tmp_path: Path) -> None:
    await home.ask("new project demo", contains="is ready")
    asked = await home.ask("delete demo --purge")
    confirm = asked.split("`")[1]
    assert confirm.endswith(" demo")
    assert confirm in await home.ask(confirm.removesuffix(" demo"))
    receipt = await home.ask(confirm, contains="is deleted")
    assert "kept" not in receipt
    assert not (tmp_path / "projects" / "demo").exists()
    assert not (tmp_path / "state" / "demo").exists()


async def test_two_projects_and_a_switch(home: House) -> None:
    await home.ask("new project one", contains="is ready")
    await home.ask("new project two", contains="is ready")
    assert "active project two" in await home.ask("whoami")
    assert "one is active" in await home.ask("switch one")
    await home.say("to one")
    await home.say("switch two")
    await home.say("to two")
    await home.quiet()
    assert isinstance(home.engine, InMemoryEngine)
    prompts = {run.session.split("-")[0]: run.prompt for run in home.engine.runs}
    assert sorted(prompts.values()) == ["to one", "to two"]


async def test_down_refuses_and_up_goes_on(home: House) -> None:
    await home.ask("new project demo", contains="is ready")
    assert "is down" in await home.ask("down")
    assert "`up demo`" in await home.ask("hello?")
    assert "**demo**: down" in await home.ask("status demo")
    assert "is up" in await home.ask("up demo")
    assert await home.ask("hello!") == "hello!"
    assert "was restarted" in await home.ask("restart")
    assert "fresh sled" in await home.ask("rebuild")
    assert await home.ask("hello again") == "hello again"


async def test_small_commands(home: House) -> None:
    assert "new project" in await home.ask("help")
    assert await home.ask("help stop", contains="`stop`")
    assert "huskies" in await home.ask("version")
    assert "python" in await home.ask("stacks")
    assert "Nothing was running" in await home.ask("stop")
    await home.ask("new project demo", contains="is ready")
    assert "no SSH" in await home.ask("ssh")
    assert "auto" in await home.ask("permissions")
    assert "allow from the next run" in await home.ask("permissions allow")
    assert "log of demo is empty" in await home.ask("logs")
    assert "Between 1 and 500" in await home.ask("logs 9999")
    assert "new dialogue" in await home.ask("reset")
    assert "no interrupted" in await home.ask("retry")
    assert "Every message here" in await home.ask("ambient on")
    assert "There is no command" in await home.ask("/frobnicate")
    assert "--git needs a container" in await home.ask("new project x2 --git https://example.org/x")


async def test_an_unexpected_error_is_a_reference_and_the_log_has_the_rest(
    home: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from commands.stacks import Stacks
    from gateway.intake import CommandContext

    async def broken(self: Stacks, ctx: CommandContext) -> str:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Stacks, "run", broken)
    told = await home.ask("stacks")
    reference = told.split("ref ")[1].rstrip(").")
    assert "secret detail" not in told
    assert any(reference in record.getMessage() for record in caplog.records)


async def test_a_message_with_a_problem_is_answered_with_it(home: House) -> None:
    assert await home.ask("", problem="files cannot be taken yet; send text") == "files cannot be taken yet; send text"


async def test_fates_are_shown_on_the_messages(home: House) -> None:
    await home.ask("new project demo", contains="is ready")
    external_id = await home.say("hello")
    await home.quiet()
    mine = [fate for message, fate in home.transport.marks if message == external_id]
    assert mine[-1] is Fate.ANSWERED
    assert Fate.RUNNING in mine


async def test_health_readiness_and_metrics(tmp_path: Path, unused_port: int) -> None:
    settings = make_settings(tmp_path, gateway={"listen": f"127.0.0.1:{unused_port}"})
    base = f"http://127.0.0.1:{unused_port}"
    async with house(tmp_path, settings=settings) as home, aiohttp.ClientSession() as web:
        await home.ask("new project demo", contains="is ready")
        assert (await web.get(f"{base}/healthz")).status == 200
        assert (await web.get(f"{base}/readyz")).status == 200
        metrics = await (await web.get(f"{base}/metrics")).text()
        assert "huskies_messages_accepted_total 1.0" in metrics
        assert 'huskies_projects{state="ready"} 1.0' in metrics
        home.transport.serving = False
        broken = await web.get(f"{base}/readyz")
        assert (broken.status, "fake" in await broken.text()) == (503, True)


async def test_the_command_lines_socket(home: House) -> None:
    socket = home.app.settings.gateway.state_dir / ".gateway" / "cli.sock"
    assert socket.stat().st_mode & 0o077 == 0
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as web:

        async def send(text: str, external_id: str) -> dict[str, Any]:
            body: dict[str, Any] = {"text": text, "conversation": "c", "id": external_id}
            told: dict[str, Any] = {"notices": [], "seen": 0}
            while "notices" in told:  # what takes long is told of on the way, and asked for again
                body["seen"] = told["seen"]
                told = await (await web.post("http://gateway/send", json=body)).json()
            return told

        assert "is ready" in json.dumps(await send("new project demo", "1"))
        first = await send("hello", "2")
        again = await send("hello", "2")
        assert first == again == {"fate": "answered", "replies": ["hello"], "ok": True}
        assert isinstance(home.engine, InMemoryEngine)
        assert len(home.engine.runs) == 1, "the same id is the same message"
        listed = await (await web.get("http://gateway/projects")).json()
        assert [project["name"] for project in listed] == ["demo"]
        assert (await web.get("http://gateway/projects/nothing")).status == 404
        parts = await (await web.get("http://gateway/doctor")).json()
        assert [part for part in parts if not part["ok"]] == []


def test_one_gateway_per_state_directory(tmp_path: Path) -> None:
    with lock_state(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o077 == 0
        with pytest.raises(StateLocked, match="process"), lock_state(tmp_path / "s"):
            pass
    with lock_state(tmp_path / "s"):
        pass


async def test_people_elsewhere_and_no_isolation_must_be_meant(world: World, tmp_path: Path) -> None:
    matrix = {"matrix": {"homeserver": "http://x", "user_id": "@b:x"}}
    process = {"kind": "process"}
    with pytest.raises(ConfigError, match="allow_unsandboxed"):
        await choose_engine(make_settings(tmp_path, transports=matrix, engine=process), world.store)
    meant = make_settings(tmp_path, transports=matrix, engine={**process, "allow_unsandboxed": True})
    assert (await choose_engine(meant, world.store)).kind == "process"
    slack = {"slack": {"bot_token": "xoxb-x", "app_token": "xapp-x"}}
    with pytest.raises(ConfigError, match="slack lets people elsewhere use it"):
        await choose_engine(make_settings(tmp_path, transports=slack, engine=process), world.store)
    off = {"slack": {**slack["slack"], "enabled": False}}
    assert make_settings(tmp_path, transports=off, engine=process).remote_transports == []


async def test_the_engine_is_docker_where_there_is_one_or_projects_live_in_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    waiting = await choose_engine(make_settings(tmp_path), world.store)
    assert waiting.kind == "docker", "it is not running yet, and nobody falls back in silence"
    await waiting.close()
    assert f"looked at: DOCKER_HOST (unix://{tmp_path}/no-engine.sock). Projects wait for it" in caplog.text
    process = make_settings(tmp_path, engine={"kind": "process"})
    assert (await choose_engine(process, world.store)).kind == "process"
    monkeypatch.setattr(docker, "is_wanted", lambda: False)
    assert (await choose_engine(make_settings(tmp_path), world.store)).kind == "process"
    project = await world.project()
    await world.store.write(lambda c: rows.change(c, project, ssh_port=22200))
    chosen = await choose_engine(make_settings(tmp_path), world.store)
    assert chosen.kind == "docker", "what lives in a container never runs without one"
    with pytest.raises(EngineDown, match="No such file"):
        await chosen.check()
    await chosen.close()


async def test_a_project_with_a_container_does_not_run_on_the_process_engine(tmp_path: Path) -> None:
    async with house(tmp_path, settings=make_settings(tmp_path, engine={"reconcile_s": 0.05})) as home:
        await home.ask("new project demo", contains="is ready")
        await home.ask("down")
        project = home.app.projects.get("demo")
        await home.app.projects.registry.change(project, image="huskies-x-python:1")
        assert "lives in a container" in await home.ask("up demo")
        assert not await home.engine.is_running(home.app.projects.spec(project))


async def test_reconcile_starts_what_should_run(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, engine={"reconcile_s": 0.05})
    async with house(tmp_path, settings=settings) as home:
        await home.ask("new project demo", contains="is ready")
        project = home.app.projects.get("demo")
        await home.engine.stop(home.app.projects.spec(project))
        assert await home.ask("are you back?", contains="are you back?") == "are you back?"
        await home.ask("down")
        await asyncio.sleep(0.2)  # several rounds: none may start it
        assert not await home.engine.is_running(home.app.projects.spec(project))


async def test_a_socket_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    room = 107 - len("/.gateway/cli.sock") - len(str(tmp_path)) - 1
    settings = make_settings(tmp_path, gateway={"state_dir": tmp_path / ("d" * room)})
    async with house(tmp_path, settings=settings) as home:
        told = await home.ask(f"new project {'long-name' * 4}", contains="failed at")
        assert "107 bytes" in told
        assert "gateway.state_dir" in told
    with pytest.raises(ConfigError, match=r"state_dir is too long"):
        check(make_settings(tmp_path, gateway={"state_dir": tmp_path / ("d" * (room + 1))}))


async def test_what_is_deleted_stays_deleted_whoever_waited_for_it(home: House, tmp_path: Path) -> None:
    """`up` from another room has looked the project up already, and waits while it is deleted."""
    await home.ask("new project demo", contains="is ready")
    projects = home.app.projects
    project = projects.get("demo")
    async with projects.registry.lock("demo"):
        late = asyncio.create_task(projects.up(project))
        await asyncio.sleep(0)
        await home.app.store.write(lambda c: rows.bury(c, project.id))
        projects.registry.dismiss(project)
    with pytest.raises(UserError, match="There is no project demo"):
        await late
    assert projects.all() == []
    stored = await home.app.store.read(lambda c: rows.by_name(c, "demo"))
    assert stored is not None and stored.desired == "deleted"


async def test_a_kept_source_is_not_shared_by_two_projects(home: House, tmp_path: Path) -> None:
    await home.ask("new project demo", contains="is ready")
    source = tmp_path / "projects" / "demo"
    asked = await home.ask("delete demo")
    await home.ask(asked.split("`")[1], contains="is deleted")
    await home.ask(f"new project other --path {source} --adopt", contains="is ready")
    assert "overlaps" in await home.ask("new project demo")
    assert source.exists()


async def test_a_link_at_the_default_place_is_no_way_out(home: House, tmp_path: Path) -> None:
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / "demo").symlink_to(home.app.settings.gateway.state_dir)
    told = await home.ask("new project demo --adopt")
    assert "not inside an allowed folder" in told
    assert home.app.projects.all() == []


async def test_another_room_is_told_there_what_was_not_run(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.ask("new project demo", contains="is ready")
    await home.say("switch demo", room="private")
    await home.transport.until(lambda texts: any("is active here" in t for t in texts))
    await home.say("hold the line", room="room")
    project = home.app.projects.get("demo")
    monkeypatch.setattr(home.app.dispatcher._line, "_window_s", 60)
    monkeypatch.setattr(home.app.dispatcher._line, "_window_max_s", 60)
    await home.quiet()
    secret = await home.say("my secret plan", room="private")
    async with asyncio.timeout(5 * patience()):
        while not list(home.app.dispatcher._line.sessions):
            await asyncio.sleep(0.01)
    here = await home.app.store.read(lambda c: conversations.find(c, Conversation("fake", "room")))
    assert here is not None
    stopped = await home.app.projects.restart(project, here.id)
    assert "secret" not in stopped.told
    texts = await home.transport.until(lambda texts: any("my secret plan" in t for t in texts))
    assert any("was restarted. Not run: “my secret plan”" in text for text in texts)
    await home.quiet()
    assert (secret, Fate.DISCARDED) in home.transport.marks


async def test_an_empty_folder_that_was_there_is_left_there(home: House, tmp_path: Path) -> None:
    assert isinstance(home.engine, InMemoryEngine)
    mine = tmp_path / "projects" / "mine"
    mine.mkdir(parents=True)
    home.engine.fail_start = EngineError("no")
    await home.ask(f"new project demo --path {mine}", contains="failed at")
    assert mine.is_dir()


async def test_a_receipt_says_what_could_not_be_removed(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.ask("new project demo", contains="is ready")
    asked = await home.ask("delete demo --purge")
    source = tmp_path / "projects" / "demo"
    monkeypatch.setattr("gateway.projects.folders.remove", lambda folder: folder != source)
    receipt = await home.ask(asked.split("`")[1], contains="is deleted")
    assert f"kept: source ({source})" in receipt
    assert "removed: sled, wire, home" in receipt


# --- confirmations by a button ---------------------------------------------------------------------------------------


async def press(home: House, question: str, word: str, sender: str = "fake:ana") -> None:
    """Somebody presses a button below the message that reads `question`."""
    card = next(ref for ref, text in home.transport.sent if text == question)
    await home.say(word, presses=card, sender=sender)


async def test_a_confirmation_is_a_button_and_becomes_its_outcome(home: House) -> None:
    await home.ask("new project demo", contains="is ready")
    question = await home.ask("delete demo", contains="Reply `confirm")
    code = re.findall(r"confirm \w{4}", question)[0]
    assert home.transport.offered[question] == (code,)
    await press(home, question, code, sender="fake:ben")
    await home.transport.until(lambda texts: any("No question with that code is open" in text for text in texts))
    assert question in home.transport.texts, "nobody else's press does anything"
    await press(home, question, code)
    texts = await home.transport.until(lambda texts: any("is deleted" in text for text in texts))
    assert question not in texts, "the outcome stands in its place"
    await press(home, next(text for text in texts if "is deleted" in text), code)
    await home.quiet()
    assert sum("is deleted" in text for text in home.transport.texts) == 1


async def test_what_has_to_be_typed_is_no_button(home: House) -> None:
    await home.ask("new project demo", contains="is ready")
    question = await home.ask("delete demo --purge", contains="Reply `confirm")
    assert home.transport.offered[question] == ()
    code = re.findall(r"confirm \w{4}", question)[0]
    await press(home, question, code)
    await home.transport.until(lambda texts: any("To confirm, type" in text for text in texts))
    assert home.app.projects.all() != []
    assert "is deleted" in await home.ask(f"{code} demo", contains="is deleted")


async def test_whatever_asks_which_agent_answers_hears_the_same(tmp_path: Path) -> None:
    """Also after `huskies secrets set`, while the gateway runs."""
    async with house(tmp_path, settings=make_settings(tmp_path, agent={"kind": "auto"})) as home:
        await home.ask("new project demo", contains="is ready")
        assert "scripted" in await home.ask("agent")
        assert "can't do that" in await home.ask("compact")
        home.app.secrets.set("all", "api_key", "sk-ant-api-canary")
        assert (await home.ask("agent")).startswith("demo: claude.")
        assert (await home.ask("agent scripted")).startswith("demo: scripted from")
        assert (await home.ask("agent default")).startswith("demo: claude from")
        assert "can't do that" not in await home.ask("sessions")
        assert isinstance(home.engine, InMemoryEngine)
        runs = home.engine.runs
        before = len(runs)
        await home.say("compact")
        await until(lambda: len(runs) > before)
        assert runs[-1].prompt == COMPACT
        assert runs[-1].agent == "claude"


async def test_an_edit_of_a_queued_prompt_is_read_as_the_prompt_was(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, dispatcher={"coalesce_window_ms": 60_000, "coalesce_max_ms": 60_000})
    async with house(tmp_path, settings=settings) as home:
        await home.ask("new project demo", contains="is ready")
        first = await home.say("prompt stop")
        second = await home.say("something else")
        queued = "SELECT count(*) FROM messages WHERE fate = 'queued'"

        async def waiting() -> int:
            return await home.app.store.read(lambda c: c.exec_driver_sql(queued).scalar_one())

        async with asyncio.timeout(10 * patience()):
            while await waiting() < 2:
                await asyncio.sleep(0)
        await home.say("prompt restart", edits=first)
        await home.say("and this", edits=second)
        texts = await home.app.store.read(
            lambda c: c.exec_driver_sql("SELECT text FROM messages WHERE fate = 'queued' ORDER BY id").scalars().all()
        )
        assert texts == ["restart", "and this"]


async def test_a_purge_that_is_cut_off_leaves_no_secret_for_the_next_of_that_name(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.ask("new project demo", contains="is ready")
    home.app.secrets.set("demo", "api_key", "sk-ant-api-canary")
    project = home.app.projects.get("demo")
    erase = rows.erase

    def cut_off(*_: object) -> None:
        raise StateError("cut off")

    monkeypatch.setattr(rows, "erase", cut_off)
    with pytest.raises(StateError):
        await home.app.projects.delete(project, 1, purge=True)
    assert home.app.secrets.names() == {}
    monkeypatch.setattr(rows, "erase", erase)
    for left in await home.app.store.read(rows.all_projects):
        await home.app.projects.reconciler.finish(left)
    assert await home.app.store.read(rows.all_projects) == []


async def test_a_part_that_ended_is_told_of_until_it_is_at_work_again(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop that reconciles is such a part; and a transport's trouble is over when it serves."""
    monkeypatch.setattr(app_module, "_PAUSE_S", 0.2)
    home.app.troubles["fake"] = "it was refused"
    assert [part for part in await home.app.parts() if not part.ok] == []
    assert home.app.troubles == {}
    failures = [ValueError("odd")]
    began = asyncio.Event()

    async def loop() -> None:
        if failures:
            raise failures.pop()
        began.set()
        await asyncio.Event().wait()

    going = asyncio.create_task(home.app._keep_going("projects", loop))
    await until(lambda: "projects" in home.app.troubles)
    assert [(part.name, part.text) for part in await home.app.parts() if not part.ok] == [
        ("projects", "ValueError: odd")
    ]
    await asyncio.wait_for(began.wait(), 10 * patience())
    assert home.app.troubles == {}
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)


async def test_a_gateway_that_can_write_nothing_any_more_ends(tmp_path: Path, empty_database: Path) -> None:
    state = tmp_path / "state" / ".gateway"
    state.mkdir(parents=True)
    shutil.copy(empty_database, state / "huskies.db")
    app = await build(make_settings(tmp_path), None, engine=InMemoryEngine(), more_transports={"fake": FakeTransport()})
    running = asyncio.create_task(app.run(asyncio.Event()))
    await app.started.wait()

    def ends(_: Connection) -> None:
        raise SystemExit

    with pytest.raises(StateError):
        await app.store.write(ends)
    with pytest.raises(StateError, match="nothing can be written"):
        await asyncio.wait_for(running, 20 * patience())


# --- who is on the lists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"access": {"operators": ["matix:@ana:example.org"]}},
            "access.operators: there is no platform matix.*did you mean matrix",
        ),
        ({"access": {"members": ["telegram:1"]}}, "access.members: there is no platform telegram.*there are"),
        ({"people": {"fakes:ana": {"name": "Ana"}}}, "people: there is no platform fakes.*did you mean fake"),
    ],
)
async def test_an_entry_of_a_platform_that_does_not_exist_is_an_error(
    tmp_path: Path, sections: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        async with house(tmp_path, settings=make_settings(tmp_path, **sections)):
            raise AssertionError("it started")


async def test_who_is_on_no_list_is_named_once_a_day_without_their_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wall_clock: WallClock
) -> None:
    caplog.set_level(logging.INFO)
    async with house(tmp_path) as made:
        for _ in range(3):
            await made.say("a secret of mine", sender="fake:eve")
        await made.say("among others", sender="fake:zoe", direct=False)
        wall_clock.step(25 * 3600)
        await made.say("again", sender="fake:eve")
    named = [record.getMessage() for record in caplog.records if "is on no list" in record.getMessage()]
    assert named == ["fake:eve wrote to the bot and is on no list; to let them: [access] members = ['fake:eve']"] * 2
    assert "secret of mine" not in caplog.text


async def test_a_command_that_is_none_any_more_when_it_is_taken_up_is_told_as_cut_off(home: House) -> None:
    """It began before a restart, and the bootstrap of what it names was undone since: it is no prompt for that."""
    await home.ask("new project demo", contains="is ready")

    def begun(connection: Connection) -> messages.StoredMessage:
        here = conversations.find(connection, Conversation("fake", "room"))
        assert here is not None
        message = home.transport.message("up gone", "cut")
        stored = messages.add(connection, message, here.id, here.project_id, direct=True)
        assert stored is not None
        assert messages.begin_command(connection, stored.id)
        return messages.by_id(connection, stored.id)

    message = await home.app.store.write(begun)
    home.app.router.route(message)
    told = await home.transport.until(lambda texts: any("restarted during “up gone”" in text for text in texts))
    assert sum("up gone" in text for text in told) == 1
    settled = await home.app.store.read(lambda c: messages.by_id(c, message.id))
    assert settled.fate is Fate.INTERRUPTED
