"""Sleds as plain processes: found, started, ended, whoever started them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gateway.engine.log_file import tail
from gateway.engine.process import ProcessEngine, environment, find
from gateway.engine.spec import ProjectPaths, SledSpec
from gateway.errors import EngineError
from gateway.testing import patience
from sled.protocol import Run
from tests.support.processes import TEST_MARK, Zoo, alive, until, zoo
from tests.support.yard import PROJECT, TOKEN, Gateway


class Site:
    """A project, its gateway's end, and whatever engine the test makes."""

    def __init__(self, folder: Path, animals: Zoo) -> None:
        self.animals = animals
        self.paths = ProjectPaths.of(folder, "p")
        self.source = folder / "src"
        self.source.mkdir()
        self.host_environment = {"PATH": os.environ["PATH"], TEST_MARK: animals.mark}
        self.spec = SledSpec(project="p", paths=self.paths, source=self.source, token=TOKEN, oauth=False)
        self.gateway = Gateway(self.paths.socket)

    def engine(self) -> ProcessEngine:
        """One more gateway's engine."""
        return ProcessEngine(self.host_environment)

    async def sled(self) -> psutil.Process:
        """The sled, once it has its lock."""
        return await until(lambda: find(self.paths.home))

    async def shell(self, script: str, pid_file: str) -> psutil.Process:
        """Have the sled run a script that writes a pid."""
        await self.gateway.sleds.arrival(PROJECT, 20)
        prompt = f"@@run {script}"
        await self.gateway.sleds.send(PROJECT, Run(run=pid_file, session=pid_file, prompt=prompt, agent="scripted"))
        path = self.source / pid_file
        await until(lambda: path.exists() and path.read_text().strip(), 15)
        return self.animals.adopt(int(path.read_text()))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="huskies-") as name, zoo() as animals:
        made = Site(Path(name), animals)
        await made.gateway.open()
        try:
            yield made
        finally:
            animals.close()
            await asyncio.wait_for(made.gateway.close(), 20 * patience())


async def test_start_and_stop_make_it_so_however_often(site: Site) -> None:
    engine = site.engine()
    assert not await engine.is_running(site.spec)
    await engine.stop(site.spec)
    await asyncio.gather(*(engine.start(site.spec) for _ in range(3)))
    assert await engine.is_running(site.spec)
    sled = await site.sled()
    for _ in range(3):
        await engine.start(site.spec)
    assert [p.pid for p in site.animals.marked()] == [sled.pid]
    await engine.stop(site.spec)
    assert not alive(sled.pid)
    assert not await engine.is_running(site.spec)
    await engine.stop(site.spec)
    await engine.start(site.spec)
    assert (await site.sled()).pid != sled.pid
    await engine.stop(site.spec)


async def test_a_sled_that_has_just_been_started_is_stopped(site: Site) -> None:
    """It has not even taken its lock."""
    engine = site.engine()
    for _ in range(5):
        await engine.start(site.spec)
        assert await engine.is_running(site.spec)
        await engine.stop(site.spec)
        assert site.animals.marked() == []


async def test_the_next_gateway_finds_it_again(site: Site) -> None:
    await site.engine().start(site.spec)
    sled = await site.sled()
    later = site.engine()
    assert await later.is_running(site.spec)
    await later.start(site.spec)
    assert [p.pid for p in site.animals.marked()] == [sled.pid]
    await later.stop(site.spec)
    assert not alive(sled.pid)
    assert not await later.is_running(site.spec)


async def test_only_who_holds_the_lock_is_the_sled(site: Site) -> None:
    """No pid on disk can be stale, and so none can be reused: what the file says is of no interest."""
    stranger = site.animals.start("sleep", "300")
    lock = site.paths.home / ".huskies" / "sled.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{stranger.pid} {psutil.Process(stranger.pid).create_time()}\n")
    engine = site.engine()
    assert not await engine.is_running(site.spec)
    await engine.stop(site.spec)
    assert stranger.poll() is None
    await engine.start(site.spec)
    assert (await site.sled()).pid != stranger.pid
    await engine.stop(site.spec)


async def test_a_killed_sled_is_not_running_and_leaves_no_zombie(site: Site) -> None:
    engine = site.engine()
    await engine.start(site.spec)
    sled = await site.sled()
    sled.kill()
    await until(lambda: not alive(sled.pid))
    assert not await engine.is_running(site.spec)
    assert not psutil.pid_exists(sled.pid)


@pytest.mark.parametrize("how", ["", "frozen", "killed"])
async def test_stop_leaves_nothing_of_a_sled(site: Site, how: str) -> None:
    engine = site.engine()
    await engine.start(site.spec)
    sled = await site.sled()
    cleared = "" if how == "killed" else "env -i "  # of a killed sled's orphans, only the marked ones can be found
    script = f"setsid {cleared}sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done' & sleep 300"
    orphan = await site.shell(script, "pid")
    if how == "frozen":
        sled.suspend()
    elif how == "killed":
        sled.kill()
        await until(lambda: not alive(sled.pid))
        engine = site.engine()

    began = time.monotonic()
    await engine.stop(site.spec)

    assert time.monotonic() - began < 8 * patience()
    assert not alive(sled.pid)
    assert not alive(orphan.pid)
    assert site.animals.marked() == []
    assert not await engine.is_running(site.spec)


async def test_its_environment_is_the_specs_and_nothing_else(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret-of-the-gateway")
    old = os.umask(0o077)
    try:
        await site.engine().start(site.spec)
    finally:
        os.umask(old)
    sled = await site.sled()
    environ = Path(f"/proc/{sled.pid}/environ").read_bytes()
    found = dict(line.split("=", 1) for line in environ.decode().split("\0") if line)
    assert found == environment(site.spec, site.host_environment)
    status = Path(f"/proc/{sled.pid}/status").read_text()
    assert "Umask:\t0022" in status
    assert sled.cwd() == str(site.paths.home.resolve())
    assert os.getsid(sled.pid) == sled.pid
    assert site.paths.sled_log.stat().st_mode & 0o777 == 0o600
    assert site.paths.home.stat().st_mode & 0o777 == 0o700
    await site.engine().stop(site.spec)


async def test_it_survives_its_gateway(site: Site) -> None:
    """Killed with its whole process group, as a terminal or a service manager does it."""
    code = (
        "import asyncio, sys, time\n"
        "from tests.gateway.engine.test_process_engine import *\n"
        "paths = ProjectPaths.of(Path(sys.argv[1]), 'p')\n"
        "env = {'PATH': os.environ['PATH'], TEST_MARK: os.environ[TEST_MARK]}\n"
        "spec = SledSpec(project='p', paths=paths, source=Path(sys.argv[1]) / 'src', token=TOKEN, oauth=False)\n"
        "asyncio.run(ProcessEngine(env).start(spec))\n"
        "time.sleep(300)\n"
    )
    folder = str(site.paths.folder.parent)
    root = Path(__file__).parents[3]
    gateway = site.animals.start(sys.executable, "-c", code, folder, cwd=root, start_new_session=True)
    sled = await site.sled()
    os.killpg(gateway.pid, signal.SIGKILL)
    await asyncio.to_thread(gateway.wait)
    await site.gateway.sleds.arrival(PROJECT, 20)
    assert alive(sled.pid)
    engine = site.engine()
    assert await engine.is_running(site.spec)
    await engine.stop(site.spec)
    assert not alive(sled.pid)


async def test_logs_are_the_last_lines(site: Site, tmp_path: Path) -> None:
    engine = site.engine()
    assert await engine.logs(site.spec, "sled", 3) == ""
    wrong = replace(site.spec, token="wrong")
    await engine.start(wrong)
    await until(lambda: site.animals.marked() == [], 15)
    assert "does not know this project" in await engine.logs(site.spec, "sled", 3)
    assert len((await engine.logs(site.spec, "sled", 1)).splitlines()) == 1
    path = tmp_path / "log"
    path.write_bytes(b"\xff" * 2**21 + b"\none\ntwo\n")
    assert tail(path, 2) == "one\ntwo"


async def test_a_large_log_is_kept_once(site: Site) -> None:
    site.paths.sled_log.parent.mkdir(exist_ok=True)
    site.paths.sled_log.write_bytes(b"x" * (9 * 2**20))
    engine = site.engine()
    await engine.start(site.spec)
    assert site.paths.sled_log.stat().st_size < 2**20
    assert site.paths.sled_log.with_suffix(".log.1").stat().st_size == 9 * 2**20
    await engine.stop(site.spec)


async def test_a_missing_source_is_an_error_that_says_so(site: Site) -> None:
    site.source.rmdir()
    with pytest.raises(EngineError, match="does not exist"):
        await site.engine().start(site.spec)
    with contextlib.suppress(EngineError):
        await site.engine().stop(site.spec)
