"""Two projects beside each other: whatever one takes, the other has its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.testing import patience
from tests.support.containers import ContainerGateway

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

#: Takes all that there is of what a kernel or a container has, holds it, and says how much that was.
GREEDY = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
watchers = 0
while libc.inotify_init() >= 0:
    watchers += 1
told = [f"watchers {watchers} {os.strerror(ctypes.get_errno())}"]
full = 0
with open("/tmp/full", "wb", buffering=0) as file:
    try:
        while True:
            full += file.write(bytes(1 << 20))
    except OSError as error:
        told.append(f"tmp {full >> 20} {error.strerror}")
children = 0
try:
    while True:
        if os.fork() == 0:
            os.closerange(0, 3)  # the session ends with its first process
            time.sleep(600)
            os._exit(0)
        children += 1
except OSError as error:
    told.append(f"processes {children} {error.strerror}")
print("; ".join(told), flush=True)
kept = []
while True:  # until it is killed for it
    kept.append(os.urandom(1 << 20))
"""
#: Says each name that appears in its folder.
WATCHING = """
import ctypes, os, struct
libc = ctypes.CDLL(None)
watch = libc.inotify_init()
assert libc.inotify_add_watch(watch, b".", 0x100) >= 0
print("watching", flush=True)
while True:
    data = os.read(watch, 4096)
    while data:
        size = struct.unpack("iIII", data[:16])[3]
        print(data[16:16 + size].rstrip(b"\\0").decode(), flush=True)
        data = data[16 + size:]
"""
#: What a neighbour goes on doing.
MODEST = """
import ctypes, mmap, os, subprocess
assert all(ctypes.CDLL(None).inotify_init() >= 0 for _ in range(64))
assert open("/tmp/mine", "wb").write(bytes(32 << 20))
kept = os.urandom(64 << 20)
running = [subprocess.Popen(["sleep", "60"]) for _ in range(50)]
for one in running: one.kill(); one.wait()
print("all there")
"""


async def test_a_new_project_runs_as_a_user_of_its_own(gateway: ContainerGateway) -> None:
    await gateway.start()
    for name in ("one", "two"):
        assert "is ready" in await gateway.said(f"new project {name}", name)
    ids = {name: int(await gateway.logs_in(name, "id -u")) for name in ("one", "two")}
    if os.geteuid() != 0:
        assert set(ids.values()) == {os.geteuid()}
        return
    assert ids == {"one": 70000, "two": 70001}
    await gateway.logs_in("one", "git init -q here && touch here/file && git -C here status -s")
    assert (gateway.projects / "one" / "here" / "file").stat().st_uid == ids["one"]
    # It keeps that user over a deletion, with all that was its own.
    assert "deleted" in await gateway.confirmed("delete one", "d")
    assert "is ready" in await gateway.said("new project three", "p3")
    assert "is ready" in await gateway.said("new project one", "p4")
    assert [int(await gateway.logs_in(name, "id -u")) for name in ("one", "three")] == [70000, 70002]


async def test_what_one_project_takes_its_neighbour_does_not_miss(tmp_path: Path) -> None:
    limits = {"memory": "512m", "pids": 256}
    with ContainerGateway(tmp_path, {"engine": limits}) as gateway:
        await gateway.start()
        for name in ("greedy", "modest"):
            assert "is ready" in await gateway.said(f"new project {name}", name)
            scripts = {"greedy.py": GREEDY, "watching.py": WATCHING, "modest.py": MODEST}
            for file, text in scripts.items():
                (gateway.projects / name / file).write_text(text)
        watching = await session(gateway, "modest", "python3 watching.py")
        greedy = await session(gateway, "greedy", "python3 greedy.py")
        try:
            assert await line(watching) == "watching"
            took = await line(greedy)
            assert "Too many open files" in took, took
            assert "No space left on device" in took, took
            assert "Resource temporarily unavailable" in took, took
            # By now it also asks for more memory than it has, until it is killed.
            for number in range(10):
                (gateway.projects / "modest" / f"new{number}").touch()
                assert await line(watching) == f"new{number}"
            assert await gateway.logs_in("modest", "python3 modest.py") == "all there\n"
            told = await gateway.said("@@say here", "m", conversation="default")
            assert "here" in told, told
            async with asyncio.timeout(60 * patience()):
                assert await greedy.wait() != 0
        finally:
            for one in (watching, greedy):
                if one.returncode is None:
                    one.kill()
                    await one.wait()
        assert "fresh container" in await gateway.said("rebuild greedy", "r")
        assert await gateway.logs_in("greedy", "echo back") == "back\n"


async def session(gateway: ContainerGateway, project: str, command: str) -> asyncio.subprocess.Process:
    """A command over SSH that goes on."""
    return await asyncio.create_subprocess_exec(
        *gateway.ssh(project), command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )


async def line(of: asyncio.subprocess.Process) -> str:
    """The next line that it says."""
    assert of.stdout is not None
    async with asyncio.timeout(60 * patience()):
        return (await of.stdout.readline()).decode().strip()
