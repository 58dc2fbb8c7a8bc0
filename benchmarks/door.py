"""From an agent's call to its answer; how long the command `huskies` takes to start; and what idle schedules cost.

    python -m benchmarks.door [--calls 200] [--idle 20]

A gateway and a sled as processes, with nothing else to do. The call is `huskies version`, from a process that is up, on
the sled's door, seldom enough for the project's share. Bare, from the same process, are two durable commits into a
database beside the gateway's, and one round trip over a Unix socket to a process that answers at once. Both alternate
in blocks of ten: where two processes commit in turn, ext4's journal has each wait for company. A start is the whole
process, as a shell sees it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.report import Row, main
from tests.support.gateway_process import GatewayProcess

#: Times two bare commits and a round trip; seconds of a start; percent of a core.
CALL_RATIO, START_S, IDLE_PERCENT = 3.0, 0.05, 1.0
PROJECTS, SCHEDULES = 20, 50
BRIEF = {"calls": 10, "idle": 1}

#: What the agent runs: it measures within its run, so that its calls are at somebody's word.
LOOP = '''
import json, os, socket, sqlite3, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
import client
BLOCK, PAUSE_S = 10, 0.06
calls, folder = int(sys.argv[2]), sys.argv[3]
database = sqlite3.connect(os.path.join(folder, "bare.db"), isolation_level=None)
for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE said (text TEXT)"):
    database.execute(statement)
path = os.path.join(folder, "echo")
server = subprocess.Popen([sys.executable, "-c", """
import socket, sys
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen(); print("up", flush=True)
while True:
    one, _ = server.accept(); one.sendall(one.recv(65536)); one.close()
""", path], stdout=subprocess.PIPE)
server.stdout.readline()
def bare():
    began = time.perf_counter()
    for _ in range(2):
        database.execute("INSERT INTO said VALUES ('version')")
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path); one.sendall(b'{"text": "version"}'); one.recv(65536)
    return time.perf_counter() - began
def call():
    began = time.perf_counter()
    outcome, _ = client.call(os.environ["HUSKIES_DOOR"], "version")
    assert outcome == "done", outcome
    return time.perf_counter() - began
def started(*command):
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
found = {"bare": [], "call": [], "start": [], "python": []}
for n in range(0, calls, BLOCK):
    for what, measure in (("bare", bare), ("call", call)):
        for _ in range(BLOCK):
            time.sleep(PAUSE_S)
            found[what].append(measure())
for n in range(min(calls, 20)):
    found["start"].append(started("huskies", "version"))
    found["python"].append(started(sys.executable, "-IS", "-c", "pass"))
server.kill()
with open(os.path.join(folder, "found.new"), "w") as file:
    json.dump(found, file)
os.rename(os.path.join(folder, "found.new"), os.path.join(folder, "found"))
'''


async def calls(gateway: GatewayProcess, folder: Path, count: int) -> dict[str, float]:
    """Medians of one run, in seconds."""
    script = folder / "loop.py"
    script.write_text(LOOP)
    sled = Path(__file__).parents[1] / "sled"
    order = f"@@run {sys.executable} {script} {sled} {count} {folder}"
    told = await gateway.send(order, "calls")
    found = folder / "found"
    assert found.exists(), told
    return {name: statistics.median(values) for name, values in json.loads(found.read_text()).items()}


async def idle(gateway: GatewayProcess, seconds: float) -> float:
    """Percent of a core that the gateway takes with many projects and schedules, and nothing to do."""
    for n in range(PROJECTS):
        await gateway.send(f"new project p{n}", f"p{n}")
    for n in range(SCHEDULES):
        await gateway.send(f"every {n + 2}h look around", f"s{n}")
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds * 100


async def run(arguments: argparse.Namespace) -> list[Row]:
    """One gateway for each half."""
    config: dict[str, dict[str, Any]] = {
        "dispatcher": {"coalesce_window_ms": 0},
        "agent": {"kind": "scripted"},
        "engine": {"reconcile_s": 30},  # as it is by default
    }
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        folder = Path(name)
        with GatewayProcess(folder, config) as gateway:
            await gateway.start()
            await gateway.send("new project demo", "p")
            found = await calls(gateway, folder, arguments.calls)
            percent = await idle(gateway, arguments.idle)
    return [
        Row("door", "a call, p50", found["call"] * 1000, "ms", found["bare"] * 1000, CALL_RATIO),
        Row("door", "`huskies version`, from start to end", found["start"], "s", None, START_S),
        Row("door", "a bare Python, from start to end", found["python"], "s"),
        Row("door", f"idle, {PROJECTS} projects and {SCHEDULES} schedules", percent, "% of a core", None, IDLE_PERCENT),
    ]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--idle", type=float, default=20.0)


if __name__ == "__main__":
    sys.exit(main(__doc__, _options, lambda arguments: asyncio.run(run(arguments)), BRIEF))
