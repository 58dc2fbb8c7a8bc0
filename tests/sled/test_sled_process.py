"""A sled as a process: what becomes of its runs when it, its gateway, or what is between them fails."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket as sockets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from gateway.errors import SledRefused
from gateway.testing import patience
from gateway.wire import sleds as sleds_module
from sled.door import VARIABLE
from sled.processes import MARK
from sled.protocol import BadFrame, Call, Finished, Frame, Hello, Job, Run, Started, Stop, Welcome
from tests.support.processes import alive, until
from tests.support.yard import PROJECT, TOKEN, Yard, make_yard


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    async with make_yard() as made:
        yield made


async def test_hello_welcome_run_events_ack(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    hello = yard.gateway.hellos[0]
    assert hello.runs == [] and "scripted" in hello.agents
    run = await yard.run("@@say x")
    await yard.gateway.finished(run)
    files = yard.home / ".huskies" / "journal"
    assert (files / f"{run}.jsonl").exists()
    await yard.ack(run)
    await until(lambda: not (files / f"{run}.jsonl").exists())
    assert yard.gateway.sleds.journal(PROJECT) == (files / "id").read_text() == hello.journal


async def test_a_job_is_answered(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    arguments = {"git": "yes", "user_name": "Ana", "user_email": "a@example.org"}
    for number in range(2):
        call = Call(call=f"c{number}", job="init", arguments=arguments)
        assert await yard.gateway.sleds.call(PROJECT, call, 20) == "ready"
    assert (yard.workspace / ".git").is_dir()


async def job(yard: Yard, name: Job, said: list[str] | None = None, **arguments: str) -> str:
    """Have the sled do a job; what it answers."""
    call = Call(call=yard.gateway.sleds.new_call_id(), job=name, arguments=arguments)
    return await yard.gateway.sleds.call(PROJECT, call, 20, None if said is None else said.append)


async def test_a_record_leaves_alone_what_people_wrote(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    file = yard.workspace / ".huskies" / "project.toml"
    await job(yard, "record", head="# yours\n\n", record="# mark\nx = 1\n")
    assert file.read_text() == "# yours\n\n# mark\nx = 1\n"
    file.write_text(file.read_text().replace("# yours", 'stack = "go"'))
    written = file.stat().st_ino
    await job(yard, "record", head="# yours\n\n", record="# mark\nx = 1\n")
    assert file.stat().st_ino == written, "what says so already is not written again"
    await job(yard, "record", head="# yours\n\n", record="# mark\ny = 2\n")
    assert file.read_text() == 'stack = "go"\n\n# mark\ny = 2\n'
    file.write_bytes(b"# \xff no UTF-8, no record yet")
    await job(yard, "record", head="# yours\n\n", record="# mark\ny = 2\n")
    assert file.read_bytes() == b"# \xff no UTF-8, no record yet\n\n# mark\ny = 2\n"
    assert [path.name for path in file.parent.iterdir()] == ["project.toml"]


async def test_a_record_is_written_through_no_link(yard: Yard, tmp_path: Path) -> None:
    yard.sled()
    await yard.arrival()
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = yard.workspace / ".huskies"
    folder.symlink_to(outside)
    with pytest.raises(SledRefused, match="is a link"):
        await job(yard, "record", record="# mark\n")
    folder.unlink()
    folder.mkdir()
    (folder / "project.toml").symlink_to(outside / "project.toml")
    (outside / "project.toml").touch()
    (folder / ".project.toml.new").symlink_to(outside / "other")
    with pytest.raises(SledRefused, match="cannot be read"):
        await job(yard, "record", record="# mark\n")
    (folder / "project.toml").unlink()
    await job(yard, "record", record="# mark\n")
    assert (outside / "project.toml").read_text() == "" and not (outside / "other").exists()
    (folder / "project.toml").write_text("[chosen]\nmine = 1\n")
    with pytest.raises(SledRefused, match="has its own table"):
        await job(yard, "record", record="# mark\n")
    (folder / "project.toml").write_text("#" * (64 * 1024 + 1))
    with pytest.raises(SledRefused, match="more than 64 KiB"):
        await job(yard, "record", record="# mark\n")


async def test_a_command_runs_in_the_workspace_to_its_end(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    said: list[str] = []
    command = "echo one; pwd > place; echo two >&2; until [ -e go ]; do sleep 0.02; done"
    running = asyncio.create_task(job(yard, "run", said, command=command))
    await until(lambda: "two" in said)
    (yard.workspace / "go").touch()
    assert await running == "ran"
    assert (yard.workspace / "place").read_text() == f"{yard.workspace}\n"
    with pytest.raises(SledRefused, match="it ended with 3: wrong"):
        await job(yard, "run", command="echo wrong; exit 3")
    # What it leaves in the background holds nothing up; what takes too long is ended with all that it started.
    await job(yard, "run", command="sleep 600 & echo $! > left")
    left = int((yard.workspace / "left").read_text())
    assert psutil.pid_exists(left)
    with pytest.raises(SledRefused, match="it took too long and was stopped: begun"):
        await job(yard, "run", command="echo begun; sleep 600 & echo $! > child; wait", within_s="1")
    child = int((yard.workspace / "child").read_text())
    await until(lambda: not psutil.pid_exists(child))
    os.kill(left, signal.SIGKILL)


async def test_agents_see_no_setting_of_the_sled_and_reach_their_relay_directly(yard: Yard) -> None:
    yard.sled(NO_PROXY="intra.example", HTTPS_PROXY="http://proxy.example")
    await yard.arrival()
    text = (await yard.answer("@@run env")).text
    env = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert {name for name in env if name.startswith("HUSKIES_")} == {MARK, VARIABLE}
    assert env["NO_PROXY"] == env["no_proxy"] == "intra.example,127.0.0.1,localhost"
    assert env["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert env["ANTHROPIC_AUTH_TOKEN"] == TOKEN
    assert Path(env["TMPDIR"]).is_dir()


# --- the gateway goes away -------------------------------------------------------------------------------------------


async def test_a_gateway_that_restarts_mid_run_misses_nothing_and_gets_nothing_twice(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    run = await yard.run("".join(f"@@say line {n}\n@@sleep 0.02\n" for n in range(100)))
    for _ in range(3):
        await until(lambda: len(yard.gateway.of(run)) > 5)
        await yard.gateway.close()
        await asyncio.sleep(0.2)  # a part of the run that nobody listens to
        await yard.gateway.open()
        await yard.arrival()
    end = await yard.gateway.finished(run)
    assert end.text.splitlines() == [f"line {n}" for n in range(100)]
    assert [e.seq for e in yard.gateway.events] == list(range(1, len(yard.gateway.events) + 1))
    assert not yard.gateway.replayed
    assert len(yard.gateway.hellos) == 4


async def test_a_gateway_that_forgot_is_told_all_again(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    run = await yard.run("@@say a")
    await yard.gateway.finished(run)
    before = list(yard.gateway.events)
    await yard.gateway.close()
    yard.gateway.seen.clear()
    yard.gateway.events.clear()
    await yard.gateway.open()
    await yard.gateway.finished(run)
    assert yard.gateway.events == before


async def test_a_gateway_that_is_away_for_the_rest_of_a_run_is_told_its_end(yard: Yard) -> None:
    sled = yard.sled()
    await yard.arrival()
    run = await yard.run("@@run touch begun; while ! [ -e go ]; do sleep 0.02; done\n@@stream 600\n@@run touch done")
    await until(lambda: (yard.workspace / "begun").exists())
    await yard.gateway.close()
    (yard.workspace / "go").touch()
    await until(lambda: (yard.workspace / "done").exists())
    await yard.gateway.open()
    end = await yard.gateway.finished(run)
    assert len(end.text.splitlines()) == 600
    assert sled.is_running()


async def test_stop_of_a_run_reaches_a_sled_that_comes_back(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    run = await yard.run("@@run sleep 300")
    await until(lambda: yard.gateway.of(run))
    await yard.gateway.close()
    yard.gateway.then = [Stop(run=run)]
    await yard.gateway.open()
    assert (await yard.gateway.finished(run)).reason == "stopped"


async def test_a_gateway_that_hangs_up_before_its_welcome_does_no_harm(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is restarting, or does not like the hello: the sled's runs go on."""
    sled = yard.sled()
    await yard.arrival()
    run = await yard.run("@@run while ! [ -e go ]; do sleep 0.02; done")
    await until(lambda: yard.gateway.of(run))
    refused: list[Hello] = []

    def refuse(project_id: int, hello: Hello) -> tuple[Welcome, list[Frame]]:
        refused.append(hello)
        raise RuntimeError("not now")

    with monkeypatch.context() as for_now:
        for_now.setattr(yard.gateway, "on_hello", refuse)
        await yard.gateway.close()
        await yard.gateway.open()
        await until(lambda: len(refused) > 3)
    await yard.arrival()
    (yard.workspace / "go").touch()
    assert (await yard.gateway.finished(run)).ending == "answered"
    assert sled.is_running()


async def test_a_sled_that_is_turned_away_comes_back_ever_later_and_says_so_once(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of another version: nobody's log is filled, and it is there when that is mended."""
    came: list[float] = []

    async def refuse(socket: web.WebSocketResponse) -> Hello:
        await socket.receive()
        came.append(time.monotonic())
        raise BadFrame("its sled speaks another language")

    with monkeypatch.context() as for_now:
        for_now.setattr(sleds_module, "_hello", refuse)
        yard.sled()
        await until(lambda: len(came) == 5, 30)
        assert "another language" in yard.gateway.sleds.trouble(PROJECT)
    pauses = [later - earlier for earlier, later in itertools.pairwise(came)]
    assert pauses[-1] > 2 * pauses[0]
    await yard.arrival()
    assert yard.gateway.sleds.trouble(PROJECT) == ""
    assert yard.log.read_text().count("another language") == 1


FROZEN = """
import asyncio, sys
from pathlib import Path
from tests.support.yard import Gateway
async def main():
    gateway = Gateway(Path(sys.argv[1]))
    await gateway.open()
    while not gateway.hellos:
        await asyncio.sleep(0.01)
    print("welcomed", flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


@pytest.mark.waits
async def test_a_frozen_gateway_is_noticed_and_its_successor_is_found(yard: Yard) -> None:
    await yard.gateway.close()
    root = Path(__file__).parent.parent.parent
    frozen = yard.animals.start(sys.executable, "-c", FROZEN, str(yard.wire), cwd=root, stdout=subprocess.PIPE)
    yard.sled()
    assert frozen.stdout is not None
    with frozen.stdout:
        assert await asyncio.to_thread(frozen.stdout.readline) == b"welcomed\n"
    frozen.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    yard.wire.unlink()
    await yard.gateway.open()
    await yard.arrival()
    assert time.monotonic() - began < 9 * patience()
    assert (await yard.answer("@@say x")).text == "x"


@pytest.mark.waits
async def test_a_gateway_that_takes_the_call_but_says_nothing_is_left(yard: Yard) -> None:
    await yard.gateway.close()
    yard.wire.unlink(missing_ok=True)
    with sockets.socket(sockets.AF_UNIX) as mute:
        mute.bind(str(yard.wire))
        mute.listen()
        mute.setblocking(False)
        yard.sled()
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(mute), 20 * patience())
        yard.wire.unlink()
        began = time.monotonic()
        await yard.gateway.open()
        await yard.arrival()
        assert time.monotonic() - began < 8 * patience()
        connection.close()


# --- the sled goes away ----------------------------------------------------------------------------------------------


async def test_a_killed_sled_is_a_crash_that_the_next_one_reports_and_cleans_up(yard: Yard) -> None:
    first = yard.sled()
    await yard.arrival()
    run = await yard.run("@@stream 40\n@@run setsid sh -c 'echo $$ > pid; exec sleep 300' & sleep 300")
    orphan = await yard.process("pid")
    await yard.gateway.said(run, "chunk 40")
    (runner,) = yard.runners(first)
    journal = yard.gateway.hellos[-1].journal
    first.kill()
    await until(lambda: not alive(runner.pid), 2)  # PR_SET_PDEATHSIG
    assert alive(orphan.pid)

    yard.sled()
    end = await yard.gateway.finished(run)

    assert (end.ending, end.reason) == ("interrupted", "crashed")
    assert not alive(orphan.pid)
    assert yard.gateway.hellos[-1].journal == journal
    assert [type(e.body) for e in yard.gateway.events if isinstance(e.body, Started | Finished)] == [Started, Finished]
    assert (await yard.answer("@@say x")).text == "x"


async def test_a_lost_home_is_another_journal(yard: Yard) -> None:
    first = yard.sled()
    await yard.arrival()
    first.kill()
    await asyncio.to_thread(yard.child.wait)
    (yard.home / ".huskies").rename(yard.home / "lost")
    await until(lambda: yard.gateway.sleds.journal(PROJECT) is None)
    yard.sled()
    await yard.arrival()
    assert yard.gateway.hellos[0].journal != yard.gateway.hellos[-1].journal


async def test_sigterm_ends_the_runs_and_the_next_sled_tells(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    run = await yard.run("@@run setsid env -i sh -c 'echo $$ > pid; exec sleep 300' & sleep 300")
    orphan = await yard.process("pid")
    began = time.monotonic()
    yard.child.terminate()
    assert await asyncio.to_thread(yard.child.wait, 10) == 0
    assert time.monotonic() - began < 3 * patience()
    assert not alive(orphan.pid)
    assert not [p for p in yard.animals.marked() if alive(p.pid)]
    yard.sled()
    assert (await yard.gateway.finished(run)).ending == "interrupted"


async def test_a_second_sled_of_one_home_ends_at_once(yard: Yard) -> None:
    first = yard.sled()
    await yard.arrival()
    run = await yard.run("@@run sleep 300")
    await until(lambda: yard.gateway.of(run))
    yard.sled()
    assert await asyncio.to_thread(yard.child.wait, 20) == 75
    assert alive(first.pid)
    assert yard.gateway.end_of(run) is None
    assert len(yard.gateway.hellos) == 1


async def test_a_wrong_token_ends_the_sled(yard: Yard) -> None:
    yard.sled(token="another")
    assert await asyncio.to_thread(yard.child.wait, 20) == 77
    assert yard.gateway.hellos == []


async def test_a_run_too_long_for_the_pipe_to_its_runner_can_be_stopped(yard: Yard) -> None:
    """Its prompt is longer than the channel's buffer, and the runner still starts: nothing waits for it."""
    yard.sled()
    await yard.arrival()
    prompt = "@@sleep 60\n" + "x" * (3 * 2**20)
    run = await yard.run(prompt)
    assert (await yard.stop(run)).ending == "interrupted"


async def test_a_sled_without_a_gateway_waits(yard: Yard) -> None:
    await yard.gateway.close()
    sled = yard.sled()
    await until(lambda: (yard.home / ".huskies" / "journal" / "id").exists())
    await asyncio.sleep(0.5)  # a few attempts
    assert sled.is_running()
    await yard.gateway.open()
    await yard.arrival()
    await yard.send(Run(run="late", session="s", prompt="@@say x", agent="scripted"))
    assert (await yard.gateway.finished("late")).text == "x"


async def test_nothing_of_the_sled_is_left_open_in_what_it_starts(yard: Yard) -> None:
    yard.sled()
    await yard.arrival()
    text = (await yard.answer("@@run ls -l /proc/self/fd")).text
    assert "socket:" not in text and "sled.lock" not in text
    assert psutil.Process(yard.child.pid).cwd() == os.path.realpath(yard.home)
