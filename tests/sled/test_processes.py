from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sled.processes import descendants, end_descendants, end_marked, end_tree, is_alive, marked
from tests.support.processes import TEST_MARK, Zoo, alive, until, zoo

Start = Callable[..., psutil.Process]
#: A subreaper, as a runner is: starts what it is told, collects nothing.
REAPER = """
import subprocess, sys, time
from sled.processes import become_subreaper
become_subreaper()
for script in sys.argv[1:]:
    subprocess.Popen(["sh", "-c", script])
print("ready", flush=True)
time.sleep(300)
"""

#: Each process forks its successor and exits at once: nobody lives for longer than a few milliseconds.
CHAIN = """
import os, time
for _ in range(20000):
    time.sleep(0.003)
    if os.fork():
        os._exit(0)
"""


@pytest.fixture
def animals() -> Iterator[Zoo]:
    with zoo() as made:
        yield made


@pytest.fixture
def reaper(animals: Zoo) -> Start:
    def start(*scripts: str) -> psutil.Process:
        child = animals.start(sys.executable, "-c", REAPER, *scripts, stdout=subprocess.PIPE, cwd=Path.cwd())
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"ready\n"
        return psutil.Process(child.pid)

    return start


def pids_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


async def test_daemons_and_double_forks_are_descendants_and_are_ended(reaper: Start, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    daemon = f"setsid sh -c 'echo $$ >> {pids}; exec sleep 300' &"
    double = (
        f"(setsid sh -c 'echo $$ >> {pids}; exec sleep 300' & ) & env -i sh -c 'echo $$ >> {pids}; exec sleep 300' &"
    )
    root = reaper(daemon, double)
    await until(lambda: len(pids_in(pids)) == 3)
    assert {p.pid for p in descendants(root)} >= set(pids_in(pids))

    assert await end_descendants(root) == []

    assert not any(alive(pid) for pid in pids_in(pids))
    assert alive(root.pid)
    assert descendants(root) == set()


async def test_what_is_spared_lives_but_not_what_it_starts(reaper: Start, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    root = reaper(f"echo $$ > {pids}; sleep 300 & sleep 300")
    await until(lambda: len(pids_in(pids)) == 1)
    spared = psutil.Process(pids_in(pids)[0])
    await until(lambda: len(spared.children()) == 2)

    assert await end_descendants(root, spare=[spared]) == []

    assert is_alive(spared) or not descendants(root)  # the shell may end by itself once its children are gone
    assert not any(p.name() == "sleep" for p in descendants(root))


async def test_what_is_apart_keeps_its_children_while_it_starts_new_ones(reaper: Start, tmp_path: Path) -> None:
    """The end of one runner must not cost another one the tool that it starts at that moment."""
    pids = tmp_path / "pids"
    root = reaper(f"echo $$ > {pids}; while :; do sleep 0.01 || echo killed >> {tmp_path}/killed; done", "sleep 300")
    await until(lambda: len(pids_in(pids)) == 1)
    apart = psutil.Process(pids_in(pids)[0])
    for _ in range(20):
        assert await end_descendants(root, apart=[apart]) == []
    assert is_alive(apart)
    assert not (tmp_path / "killed").exists()
    assert {p.pid for p in root.children() if is_alive(p)} == {apart.pid}


@pytest.mark.parametrize("attempt", range(5))
async def test_a_chain_of_successors_is_caught(reaper: Start, attempt: int) -> None:
    root = reaper(f"exec {sys.executable} -c '{CHAIN}'", f"exec {sys.executable} -c '{CHAIN}'")
    await until(lambda: len(root.children()) > 5)  # zombies of the chain, which the root does not collect

    assert await end_descendants(root, within_s=3) == []

    before = len(root.children())
    await asyncio.sleep(0.1)  # nothing to wait for: it is the absence of further links that is looked at
    assert len(root.children()) == before
    assert descendants(root) == set()


async def test_a_fork_storm_is_caught(reaper: Start, tmp_path: Path) -> None:
    storm = "import os, time\nfor _ in range(7):\n    os.fork()\n    time.sleep(0.02)\ntime.sleep(300)"
    root = reaper(*[f"exec {sys.executable} -c '{storm}'"] * 2)
    await until(lambda: len(descendants(root)) > 16)
    assert await end_descendants(root, within_s=10) == []
    assert descendants(root) == set()


async def test_a_tree_ends_with_its_root(reaper: Start, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    root = reaper(f"setsid sh -c 'echo $$ >> {pids}; sleep 300 & exec sleep 300' &")
    await until(lambda: pids_in(pids))
    assert await end_tree(root) == []
    assert not is_alive(root)
    assert not alive(pids_in(pids)[0])
    assert await end_tree(root) == []


async def test_a_stopped_tree_ends_too(reaper: Start) -> None:
    root = reaper("kill -STOP $$")
    await until(lambda: [p for p in root.children() if p.status() == psutil.STATUS_STOPPED])
    root.suspend()
    assert await end_tree(root) == []
    assert not is_alive(root)


async def test_a_reused_pid_is_another_process(animals: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument: a process is its pid and its start time, and psutil compares both before it signals."""
    child = animals.start("sleep", "300")
    stale = psutil.Process(child.pid)
    monkeypatch.setattr(stale, "_ident", (child.pid, 12345.0))
    monkeypatch.setattr(stale, "_create_time", 12345.0)
    assert not is_alive(stale)
    assert await end_descendants(stale) == []
    await end_tree(stale)
    assert child.poll() is None


async def test_a_process_whose_first_thread_ended_is_alive(animals: Zoo) -> None:
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(300,)).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"
    )
    child = animals.start(sys.executable, "-c", script)
    process = psutil.Process(child.pid)
    await until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert is_alive(process)
    await end_tree(process)
    assert not is_alive(process)


async def test_marked_processes_are_found_by_their_environment(animals: Zoo) -> None:
    child = animals.shell("setsid sleep 300 & sleep 300")
    other = animals.start("sleep", "300", env={TEST_MARK: animals.mark + "0"})
    await until(lambda: len(marked(TEST_MARK, animals.mark)) == 3)
    assert await end_marked(TEST_MARK, animals.mark) == []
    assert marked(TEST_MARK, animals.mark) == set()
    assert child.wait(5) and other.poll() is None
    other.kill()


async def test_the_reaper_collects_orphans_and_leaves_children_to_asyncio(animals: Zoo) -> None:
    script = """
import asyncio, json, psutil
from sled.processes import Reaper, become_subreaper
async def main():
    become_subreaper()
    reaping = asyncio.create_task(Reaper(0.02).run())
    codes = []
    for number in range(40):
        process = await asyncio.create_subprocess_exec("sh", "-c", f"(sleep 0.01 &) ; exit {number}")
        await asyncio.sleep(0.03)
        codes.append(await process.wait())
    for _ in range(200):
        if not psutil.Process().children():
            break
        await asyncio.sleep(0.02)
    print(json.dumps([codes, len(psutil.Process().children())]))
asyncio.run(main())
"""
    child = animals.start(sys.executable, "-c", script, stdout=subprocess.PIPE, cwd=Path.cwd())
    output, _ = await asyncio.to_thread(child.communicate, timeout=30)
    assert json.loads(output) == [list(range(40)), 0]


def test_a_process_dies_with_its_parent(animals: Zoo) -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "code = 'import sys, time; from sled.processes import die_with; die_with(int(sys.argv[1])); '\\\n"
        "    'print(1, flush=True); time.sleep(300)'\n"
        "child = subprocess.Popen([sys.executable, '-c', code, str(os.getpid())])\n"
        "print(child.pid, flush=True); time.sleep(300)\n"
    )
    parent = animals.start(sys.executable, "-c", script, stdout=subprocess.PIPE, cwd=Path.cwd())
    assert parent.stdout is not None
    with parent.stdout:
        lines = [int(parent.stdout.readline()), int(parent.stdout.readline())]
    child = psutil.Process(max(lines))
    os.kill(parent.pid, 9)
    child.wait(5)
