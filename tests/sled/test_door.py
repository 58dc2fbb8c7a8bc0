"""The sled's end of the door: who calls, what they are told, and what happens while the gateway is away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.testing import patience
from sled import client, door
from sled.door import MAX_ANSWER, MAX_WAITING, VARIABLE, Door, call, commands_in, socket_in
from sled.protocol import Command, Told


class Scene:
    """A door, and what it sent to the gateway."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        (self.home / ".huskies").mkdir(parents=True)
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.sent: asyncio.Queue[Command] = asyncio.Queue()
        self.pids: list[int] = []
        self.door = Door(self.home, self.workspace, self.sent.put_nowait, self._run_of)
        self.door.serves = True

    def _run_of(self, pid: int) -> str:
        self.pids.append(pid)
        return "r1"

    async def next(self) -> Command:
        return await asyncio.wait_for(self.sent.get(), 10 * patience())


@pytest_asyncio.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    # Deeper than the kernel takes a socket's name.
    made = Scene(tmp_path / ("d" * 120))
    await made.door.open()
    monkeypatch.setenv(VARIABLE, str(socket_in(made.home)))
    yield made
    await made.door.close()
    assert not socket_in(made.home).exists()


async def test_a_call_is_a_frame_and_its_answer_is_told(scene: Scene) -> None:
    calling = asyncio.create_task(call("remind 2h tea"))
    command = await scene.next()
    assert (command.run, command.text) == ("r1", "remind 2h tea")
    assert scene.pids == [os.getpid()], "the kernel says who calls"
    scene.door.told(Told(call="another", outcome="done", text="not for us"))
    scene.door.told(Told(call=command.call, outcome="refused", text="no"))
    assert await calling == ("refused", "no")
    assert scene.door.waiting() == []


@pytest.mark.parametrize(("outcome", "code"), [("done", 0), ("refused", 1), ("failed", 2)])
async def test_the_client_prints_and_tells_by_its_code(scene: Scene, outcome: str, code: int) -> None:
    program = commands_in(scene.home) / "huskies"
    process = await asyncio.create_subprocess_exec(
        program, "model", "a b", "the rest of it", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command = await scene.next()
    assert command.text == 'model "a b" the rest of it'
    assert scene.pids == [process.pid]
    scene.door.told(Told(call=command.call, outcome=outcome, text="so it is"))  # type: ignore[arg-type]
    out, err = await process.communicate()
    assert (out, err) == ((b"so it is\n", b"") if code == 0 else (b"", b"so it is\n"))
    assert process.returncode == code


def test_the_client_without_a_sled(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-IS", client.__file__, "status"],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == client.UNAVAILABLE
    assert done.stderr.startswith(b"huskies: the gateway cannot be asked now")


async def test_a_call_waits_for_a_gateway_that_is_away_and_is_sent_to_each_that_comes(scene: Scene) -> None:
    scene.door.serves = None
    calling = asyncio.create_task(call("status"))
    async with asyncio.timeout(10 * patience()):
        while scene.door._waiting == {}:
            await asyncio.sleep(0)
    assert scene.sent.empty()
    scene.door.serves = True
    (command,) = scene.door.waiting()
    assert scene.door.waiting() == [command], "until it is answered"
    scene.door.told(Told(call=command.call, outcome="done", text="here"))
    assert await calling == ("done", "here")


async def test_an_older_gateway_takes_none(scene: Scene) -> None:
    scene.door.serves = False
    assert await call("status") == ("refused", door._FOREIGN)


async def test_calls_that_wait_are_bounded(scene: Scene) -> None:
    waiting = [asyncio.create_task(call(f"number {n}")) for n in range(MAX_WAITING)]
    sent = [await scene.next() for _ in waiting]
    outcome, told = await call("one more")
    assert (outcome, told.partition(".")[0]) == ("refused", f"{MAX_WAITING} calls already wait for an answer")
    for command in sent:
        scene.door.told(Told(call=command.call, outcome="done", text=""))
    await asyncio.gather(*waiting)


async def test_a_long_answer_is_in_a_file(scene: Scene) -> None:
    calling = asyncio.create_task(call("diff"))
    command = await scene.next()
    text = "ä line\n" * MAX_ANSWER
    scene.door.told(Told(call=command.call, outcome="done", text=text))
    _, told = await calling
    (found,) = (scene.workspace / ".huskies" / "inbox").glob("answer-*.md")
    assert found.read_text() == text
    assert told.endswith(f"all of it is in .huskies/inbox/{found.name})")
    assert len(told.encode()) < MAX_ANSWER + 200


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[1]\n", b"\xff\n", b'{"text": ' + b"[" * 5000 + b"\n"])
async def test_what_is_no_call_is_refused(scene: Scene, line: bytes) -> None:
    with door._reachable(socket_in(scene.home)) as name:
        reader, writer = await asyncio.open_unix_connection(name)
    writer.write(line)
    assert json.loads(await reader.readline())["outcome"] == "refused"
    writer.close()
    assert scene.sent.empty()


async def test_a_line_without_an_end_is_cut_off(scene: Scene) -> None:
    with door._reachable(socket_in(scene.home)) as name:
        _reader, writer = await asyncio.open_unix_connection(name)
    with pytest.raises(ConnectionError):
        while True:
            writer.write(b"x" * 2**16)
            await writer.drain()
    writer.close()
    assert scene.sent.empty()
