"""How much later a project answers while its neighbour takes all that it can get, beside one that only computes.

    python -m benchmarks.neighbours [--rounds 5] [--probes 40]

Two projects of one gateway, each with half a gigabyte and 256 processes. What is timed is a command over an SSH
connection that stands, in the one: it starts processes, and reads and writes a file. Meanwhile the other computes on
every processor (bare), or does the same and also takes all file watchers, pipes and processes that it gets, fills its
/tmp and its memory, is killed for that, and begins again. Bare and greedy alternate; probes begin once the neighbour
says that it is at it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import asyncssh

from benchmarks.bootstrap import Huskies, clear, gateway
from benchmarks.report import Row, main
from gateway.config.state_dir import instance
from gateway.engine import Way
from gateway.engine.container import Resources
from gateway.engine.way import HOST, USER
from tests.support.containers import missing

BOUND = 2.0
BRIEF = {"rounds": 1, "probes": 3}
#: What a project may use here.
LIMITS = Resources(memory=512 << 20, cpus=2.0, pids=256)
PROBE = "cp /etc/services /workspace/probe && sort /workspace/probe | wc -l && rm /workspace/probe"
COMPUTE = "import os; os.fork(); print(flush=True); sum(iter(int, 1))"
#: One process computes beside the one that takes what there is; both, and those that it starts, end with the session.
GREEDY = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
while True:
    computing = os.fork()
    if computing == 0:
        sum(iter(int, 1))
    taking = os.fork()
    if taking == 0:
        while libc.inotify_init() >= 0:
            pass
        kept, children = [], []
        try:
            while True:
                kept.append(os.pipe())
        except OSError:
            pass
        try:
            while True:
                child = os.fork()
                if child == 0:
                    signal.pause()
                children.append(child)
        except OSError:
            pass
        try:
            with open("/tmp/full", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 20))
        except OSError:
            os.unlink("/tmp/full")
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print(flush=True)
        while True:
            kept.append(os.urandom(1 << 20))
    os.waitpid(taking, 0)
    os.kill(computing, signal.SIGKILL)
    os.waitpid(computing, 0)
"""


async def connected(huskies: Huskies, name: str) -> asyncssh.SSHClientConnection:
    """A standing connection into a project."""
    way = huskies.app.projects.registry.access(huskies.app.projects.get(name))
    assert isinstance(way, Way)
    return await asyncssh.connect(
        HOST, way.port, username=USER, client_keys=[str(way.key)], known_hosts=None, config=None, agent_path=None
    )


async def probes(modest: asyncssh.SSHClientConnection, count: int) -> list[float]:
    """Seconds that each of so many commands takes."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        await modest.run(PROBE, check=True)
        took.append(time.monotonic() - began)
    return took


async def beside(huskies: Huskies, modest: asyncssh.SSHClientConnection, script: str, count: int) -> list[float]:
    """The same while a neighbour runs a script."""
    async with await connected(huskies, "other") as other:
        process = await other.create_process(f"exec python3 -c '{script}'")
        await process.stdout.readline()
        took = await probes(modest, count)
        await other.run("pkill -KILL -f '[p]ython3 -c'", check=True)
        await process.wait()
    return took


async def run(given: argparse.Namespace, folder: Path) -> list[Row]:
    """One gateway and its two projects."""
    os.umask(0o077)  # as `huskies run`
    quiet: list[float] = []
    bare: list[float] = []
    greedy: list[float] = []
    async with gateway(folder, LIMITS) as huskies:
        for name in ("modest", "other"):
            await huskies.new(name, watch=False)
        async with await connected(huskies, "modest") as modest:
            await probes(modest, 3)  # the disk's cache
            for _ in range(given.rounds):
                quiet += await probes(modest, given.probes)
                bare += await beside(huskies, modest, COMPUTE, given.probes)
                greedy += await beside(huskies, modest, GREEDY, given.probes)
    alone, load, pressed = (statistics.median(took) * 1000 for took in (quiet, bare, greedy))
    return [
        Row(
            "neighbours",
            "a command beside one that takes all it can, beside one that computes",
            pressed,
            "ms",
            load,
            BOUND,
        ),
        Row("neighbours", "a command beside one that computes, beside a quiet one", load, "ms", alone),
    ]


def measure(given: argparse.Namespace) -> list[Row]:
    """In a folder, and with containers, that go with it."""
    if problem := missing():
        sys.exit(problem)
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        try:
            return asyncio.run(run(given, Path(name)))
        finally:
            clear(instance(Path(name) / "state"))


def options(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--probes", type=int, default=40)


if __name__ == "__main__":
    sys.exit(main(__doc__, options, measure, BRIEF))
