"""The `huskies` command as processes: what scripts hold on to (output, exit codes, one line per complaint)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__
from gateway.testing import patience
from tests.support.huskies import Huskies, finish
from tests.support.processes import until

pytestmark = pytest.mark.slow


@pytest.fixture
def huskies(tmp_path: Path) -> Iterator[Huskies]:
    with Huskies(tmp_path) as made:
        yield made


# --- run --pipe ------------------------------------------------------------------------------------------------------


async def test_version(huskies: Huskies) -> None:
    assert await huskies("version") == await huskies("--config", "nowhere", "version")
    assert (await huskies("version")).out == f"huskies {__version__}\n"


async def test_a_transcript_in_the_replies_out(huskies: Huskies) -> None:
    done = await huskies("run", "--pipe", stdin=b"new project demo\n\nhello\n@@run sleep 0.5\n\n@@say at the end")
    assert done.code == 0, done
    assert "**demo** is ready." in done.out
    assert done.out.endswith("You said:\nhello\nat the end\n"), "what was asked is answered before the end"
    assert "is ready after" in done.err
    assert "Traceback" not in done.err


async def test_lines_that_nobody_reads_are_told_of(huskies: Huskies) -> None:
    process = huskies.popen("run", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"version\n")
    process.stdin.flush()
    await until((huskies.state / ".gateway" / "cli.sock").exists, 20)
    process.terminate()
    out, err = await asyncio.to_thread(process.communicate)
    assert out == b""
    assert b"What is piped in is not read. To send it as messages, type: huskies run --pipe" in err
    service = huskies.popen("run")
    await until((huskies.state / ".gateway" / "cli.sock").exists, 20)
    service.terminate()
    _, err = await asyncio.to_thread(service.communicate)
    assert b"--pipe" not in err


async def test_a_pipe_goes_on_behind_a_line_that_is_no_text(huskies: Huskies) -> None:
    done = await huskies("run", "--pipe", stdin=b"version\n\xff\xfe\n" + b"x" * 2**20 + b"\nwhoami\n")
    assert done.code == 0
    assert "Line 2 is not valid UTF-8" in done.out
    assert "1,048,576 characters; the limit is" in done.out
    assert "operator" in done.out.splitlines()[-1]


async def test_the_reader_of_the_output_goes_away(huskies: Huskies) -> None:
    process = huskies.popen("run", "--pipe", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"version\n")
    process.stdin.flush()
    await asyncio.to_thread(process.stdout.readline)
    process.stdout.close()
    process.stdin.write(b"help\nhelp\n")
    process.stdin.close()
    assert await asyncio.to_thread(process.wait, 20) in (0, 141)
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


async def test_a_pipe_that_stays_open_does_not_hold_up_the_end(huskies: Huskies) -> None:
    process = huskies.popen("run", "--pipe", stdin=subprocess.PIPE)
    await until((huskies.state / ".gateway" / "cli.sock").exists, 20)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 5) == 0


# --- send, projects, status, ssh -------------------------------------------------------------------------------------


async def test_send_prints_the_reply(huskies: Huskies) -> None:
    await huskies.start()
    assert "is ready" in (await huskies("send", "new project demo")).out
    done = await huskies("send", "hello")
    assert (done.code, done.out, done.err) == (0, "You said:\nhello\n", "")
    failed = await huskies("send", "@@fail no such luck")
    assert failed.code == 1
    assert "no such luck" in failed.out
    assert (await huskies("send", "new project demo")).code == 1, "refused"
    elsewhere = await huskies("send", "hello", "--conversation", "other")
    assert elsewhere.code == 1
    assert "switch" in elsewhere.out


async def test_send_gives_the_terminal_no_orders(huskies: Huskies) -> None:
    await huskies.start()
    await huskies("send", "new project demo")
    (huskies.projects / "demo" / "hostile").write_text("\x1b]0;owned\x07\x9b2J\u202eabc")
    done = await huskies("send", "@@run cat hostile")
    assert done.out == "\ufffd]0;owned\ufffd\ufffd2J\ufffdabc\n"


async def test_send_has_a_timeout_and_the_message_stays(huskies: Huskies) -> None:
    await huskies.start()
    await huskies("send", "new project demo")
    go = huskies.projects / "demo" / "go"
    text = "@@run while [ ! -e go ]; do sleep 0.05; done; touch done"
    done = await huskies("send", text, "--timeout", "0.5")
    assert "no reply within 0.5 s; the message stays" in done.complaint
    go.touch()
    await until((huskies.projects / "demo" / "done").exists)


async def test_send_of_bytes_that_are_no_text(huskies: Huskies) -> None:
    await huskies.start()
    assert "not valid UTF-8" in (await huskies("send", os.fsdecode(b"\xff"))).complaint
    assert "not valid UTF-8" in (await huskies("send", "hi", "--conversation", os.fsdecode(b"\xff"))).complaint


async def test_the_gateway_dies_under_a_send(huskies: Huskies) -> None:
    await huskies.start()
    await huskies("send", "new project demo")
    process = huskies.popen("send", "@@run touch began; sleep 300")
    await until((huskies.projects / "demo" / "began").exists)
    huskies.kill()
    assert "ended before it answered; type: huskies run" in (await finish(process)).complaint


@pytest.mark.parametrize("command", [("send", "hi"), ("projects",), ("status", "demo"), ("ssh", "demo")])
async def test_without_a_gateway(huskies: Huskies, command: tuple[str, ...]) -> None:
    assert (await huskies(*command)).complaint == f"no gateway is running on {huskies.state}; type: huskies run"
    huskies.state.mkdir()
    (huskies.state / ".gateway").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(huskies.state / ".gateway" / "cli.sock"))  # as a killed gateway leaves it
    assert "type: huskies run" in (await huskies(*command)).complaint


@pytest.mark.slow
async def test_projects_and_status(huskies: Huskies) -> None:
    await huskies.start()
    assert "new project demo" in (await huskies("projects")).out
    assert json.loads((await huskies("projects", "--json")).out) == []
    await huskies("send", "new project demo")
    assert (await huskies("projects")).out.split()[:2] == ["demo", "ready"]
    (listed,) = json.loads((await huskies("projects", "--json")).out)
    status = await huskies("status", "demo", "--json")
    assert status.code == 0
    assert json.loads(status.out) == listed
    assert (listed["name"], listed["state"], listed["path"]) == ("demo", "ready", str(huskies.projects / "demo"))
    assert "state: ready" in (await huskies("status", "demo")).out
    await huskies("send", "down")
    assert (await huskies("status", "demo")).code == 1
    assert "There is no project other" in (await huskies("status", "other")).complaint
    assert "is not a project's name" in (await huskies("status", "../x")).complaint
    ssh = (await huskies("ssh", "demo", "--", "ls", "-l")).complaint
    assert "no SSH; open " + str(huskies.projects / "demo") in ssh


async def test_output_into_a_pipe_that_closes(huskies: Huskies) -> None:
    await huskies.start()
    read, write = os.pipe()
    os.close(read)
    try:
        process = huskies.popen("projects")
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        await asyncio.to_thread(process.wait, 20)
        assert process.stderr.read() == b""
    finally:
        os.close(write)


# --- doctor ----------------------------------------------------------------------------------------------------------


async def test_doctor_with_and_without_a_gateway(huskies: Huskies) -> None:
    alone = await huskies("doctor")
    assert alone.code == 1
    assert "ok     state: " in alone.out
    assert "BROKEN gateway: no gateway is running" in alone.out
    assert "type: huskies run" in alone.out
    await huskies.start()
    done = await huskies("doctor")
    assert (done.code, done.err) == (0, "")
    parts = [line.split()[1].rstrip(":") for line in done.out.splitlines()]
    assert {"gateway", "state", "engine", "agent", "cli"} <= set(parts)
    assert all(line.startswith("ok     ") for line in done.out.splitlines())


async def test_doctor_says_what_to_type_for_what_is_broken(tmp_path: Path, unused_port: int) -> None:
    matrix = {"homeserver": f"http://127.0.0.1:{unused_port}", "user_id": "@bot:x", "access_token": "canary-token"}
    config: dict[str, dict[str, Any]] = {"agent": {"kind": "claude"}, "transports": {"matrix": matrix}}
    with Huskies(tmp_path, config) as huskies:
        alone = await huskies("doctor")
        assert "BROKEN agent: no model key is set: type `huskies secrets set all api_key`" in alone.out
        await huskies.start()
        done = await huskies("doctor")
        assert done.code == 1
        lines = {line.split()[1].rstrip(":"): line for line in done.out.splitlines()}
        assert lines["agent"].startswith("BROKEN agent: no model key is set: type `huskies secrets set all api_key`")
        assert lines["matrix"].startswith("BROKEN matrix: ")
        assert "transports.matrix" in lines["matrix"]
        assert lines["cli"].startswith("ok")
        assert await huskies.stop() == 0
        log = huskies.log.read_text()
        assert "Traceback" not in log
        assert "canary-token" not in log


# --- what cannot work is one line ------------------------------------------------------------------------------------

CONFIG_ERRORS = {
    "wrong key": ("[gateway]\nlissten = '127.0.0.1:0'", "unknown key gateway.lissten; did you mean listen?"),
    "wrong section": ("[gatway]\nlisten = '127.0.0.1:0'", "unknown key gatway; did you mean gateway?"),
    "wrong type": ("[dispatcher]\nmax_runs = 'many'", "dispatcher.max_runs"),
    "no TOML": ("[gateway", "cannot be read"),
    "no homeserver": ("[transports.matrix]\nuser_id = '@b:x'", "transports.matrix.homeserver is missing"),
    "no isolation": (
        "[engine]\nkind = 'process'\n[transports.matrix]\nuser_id = '@b:x'\nhomeserver = 'http://x'",
        "engine.allow_unsandboxed",
    ),
    "port": ("[gateway]\nlisten = '127.0.0.1:99999'", "must be host:port"),
    "host": ("[gateway]\nlisten = 'no.such.host.invalid:80'", "cannot be used"),
    "home": ("[gateway]\nstate_dir = '~nobody-of-that-name/x'", "write the whole path"),
    "state is a file": ("[gateway]\nstate_dir = 'config.toml'", "set gateway.state_dir"),
    "state not writable": ("[gateway]\nstate_dir = '/proc/huskies'", "set gateway.state_dir"),
    "state too long": (f"[gateway]\nstate_dir = '/tmp/{'d' * 100}'", "choose a shorter folder"),
}


@pytest.mark.parametrize("case", CONFIG_ERRORS)
async def test_a_configuration_that_cannot_work(huskies: Huskies, case: str) -> None:
    text, told = CONFIG_ERRORS[case]
    huskies.config.write_text(text)
    before = {path.name for path in huskies.folder.iterdir()}
    complaint = (await huskies("run", "--pipe", stdin=b"help\n")).complaint
    assert told in complaint
    assert "Traceback" not in complaint
    assert {path.name for path in huskies.folder.iterdir()} - {".huskies"} == before, "nothing is left behind"


@pytest.mark.parametrize("place", ["before", "behind"])
async def test_the_file_may_be_named_before_or_behind(huskies: Huskies, place: str) -> None:
    other = huskies.folder / "other.toml"
    other.write_text("[gateway]\nlissten = ''")
    named = ("--config", str(other))
    for command in (["run"], ["send", "hi"], ["projects"], ["status", "x"], ["doctor"]):
        arguments = [*named, *command] if place == "before" else [*command, *named]
        assert f"{other}: unknown key" in (await huskies(*arguments)).complaint


async def test_a_file_that_cannot_be_read(huskies: Huskies) -> None:
    assert "there is no configuration file nowhere.toml" in (await huskies("run", "--config", "nowhere.toml")).complaint
    # A file that exists and cannot be read, for root too.
    assert "cannot be read" in (await huskies("run", "--config", "/proc/self/mem")).complaint
    huskies.config.write_bytes(b"[gateway]\nbot_name = '\xff'")
    assert "cannot be read" in (await huskies("run")).complaint
    huskies.config.write_text("[agent]\napi_key = 'sk-canary'")
    huskies.config.chmod(0o644)
    told = (await huskies("run")).complaint
    assert "chmod 600" in told
    assert "sk-canary" not in told


async def test_a_wrong_environment(huskies: Huskies) -> None:
    assert "did you mean gateway?" in (await huskies("run", HUSKIES_GATWAY__LISTEN="127.0.0.1:0")).complaint
    assert "did you mean api_key?" in (await huskies("run", HUSKIES_AGENT__API_KEYS="sk-canary")).complaint


async def test_a_port_in_use(huskies: Huskies) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        told = (await huskies("run", HUSKIES_GATEWAY__LISTEN=f"127.0.0.1:{port}")).complaint
    assert f"gateway.listen 127.0.0.1:{port} cannot be used" in told
    assert not (huskies.state / ".gateway" / "cli.sock").exists()
    assert huskies.leftovers() == []


async def test_a_second_gateway(huskies: Huskies) -> None:
    await huskies.start()
    told = (await huskies("run")).complaint
    assert huskies.process is not None
    assert f"another gateway (process {huskies.process.pid})" in told
    assert (await huskies("doctor")).code == 0, "the first one is not disturbed"


async def test_a_database_of_a_newer_version_is_left_as_it_is(huskies: Huskies) -> None:
    database = huskies.state / ".gateway" / "huskies.db"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
    before = database.read_bytes()
    assert "has schema 9999" in (await huskies("run")).complaint
    assert database.read_bytes() == before
    assert {path.name for path in database.parent.iterdir()} == {"huskies.db", "lock"}


async def test_a_database_that_is_none(huskies: Huskies) -> None:
    database = huskies.state / ".gateway" / "huskies.db"
    database.parent.mkdir(parents=True)
    database.write_text("this is no database, and it is long enough to be looked at " * 20)
    assert str(database) in (await huskies("run")).complaint


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_good_order(huskies: Huskies, number: signal.Signals) -> None:
    await huskies.start()
    assert huskies.process is not None
    huskies.process.send_signal(number)
    assert await asyncio.to_thread(huskies.process.wait, 10) == 0
    assert "Traceback" not in huskies.log.read_text()


async def test_a_second_signal_during_the_drain_ends_it_at_once(huskies: Huskies) -> None:
    """The drain waits for a reply that cannot be written: the pipe is full, and nobody reads it."""
    process = huskies.popen("run", "--pipe", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"new project demo\n@@run touch began; head -c 200000 /dev/zero | tr '\\0' x\n")
    process.stdin.flush()
    began = huskies.projects / "demo" / "began"
    await until(began.exists, 20)

    async def drains() -> bool:
        return {"name": "gateway", "ok": False, "text": "shutting down"} in await huskies.get("/doctor")

    async with asyncio.timeout(10 * patience()):
        while (await huskies.get("/projects"))[0]["running"]:
            await asyncio.sleep(0.02)
        process.terminate()
        while not await drains():
            await asyncio.sleep(0.02)
    assert process.poll() is None
    process.terminate()
    assert await asyncio.to_thread(process.wait, 2) == 1
