"""A sled that lives and is not welcome, or says nothing: what people see, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gateway.chat import Capabilities
from gateway.config.settings import host_environment
from gateway.engine import SledSpec
from gateway.engine import process as engine_module
from gateway.engine.process import ProcessEngine
from gateway.errors import EngineError
from gateway.projects import reconcile
from gateway.store.projects import Project
from gateway.turns import dispatcher
from gateway.wire import sleds
from tests.support.house import House, house, make_settings
from tests.support.processes import alive, until

pytestmark = pytest.mark.timeout(120)
PLAIN = Capabilities(max_text=2000, edits=False, edit_interval_s=0.0, idempotent=True, marks=False)


@contextlib.asynccontextmanager
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway that looks after its sleds all the time, with one project."""
    settings = make_settings(tmp_path, engine={"reconcile_s": 0.1})
    async with house(tmp_path, engine=ProcessEngine(host_environment()), settings=settings) as made:
        made.transport.capabilities = PLAIN
        await made.ask("new project demo", contains="is ready", within_s=60)
        yield made


def sled_of(folder: Path) -> psutil.Process:
    """The sled of a gateway in this folder."""
    found = [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["cmdline"] or [])[-2:] == ["-m", "sled"]
        and (process.info["environ"] or {}).get("HOME", "").startswith(str(folder))
    ]
    (sled,) = found
    return sled


def gone(process: psutil.Process) -> Callable[[], bool]:
    return lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_a_sled_of_the_version_before_is_served_and_replaced_when_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with home(tmp_path) as made:
        project = made.app.projects.get("demo")
        old = sled_of(tmp_path)
        await made.say("@@run until [ -e go ]; do sleep 0.05; done; echo once >> ran")
        await until(lambda: made.app.dispatcher.running_in(project.id), 20)
        # The gateway is of a later version now, and the sled comes again.
        monkeypatch.setattr(sleds, "VERSION", 2)
        await made.app.sleds._connected[project.id].socket.close()
        await until(lambda: made.app.sleds.is_foreign(project.id), 20)
        assert made.app.sleds.trouble(project.id) == ""
        for _ in range(3):
            await made.app.projects.reconciler._renew_one()
        assert old.is_running(), "a run is under way"
        (project.path / "go").touch()
        await until(lambda: (project.path / "ran").exists(), 20)
        await until(gone(old), 30)
        monkeypatch.setattr(sleds, "VERSION", 1)
        assert await made.ask("hello", contains="You said", within_s=30) == "You said:\nhello"
        assert (project.path / "ran").read_text() == "once\n"


@pytest.mark.parametrize("seen", [(1,), (0, 1)], ids=["all along", "since it was looked at first"])
async def test_while_people_are_inside_a_sled_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: tuple[int, ...]
) -> None:
    """They may come while an image is built, too: so it is looked twice."""
    looks: list[int] = []
    there: Iterator[int] = itertools.cycle(seen)

    async def people_inside(_: SledSpec) -> int:
        looks.append(next(there))
        return looks[-1]

    async with home(tmp_path) as made:
        monkeypatch.setattr(made.engine, "people_inside", people_inside)
        project = made.app.projects.get("demo")
        old = sled_of(tmp_path)
        monkeypatch.setattr(sleds, "VERSION", 2)
        await made.app.sleds._connected[project.id].socket.close()
        await until(lambda: looks.count(1) >= 3, 20)
        assert old.is_running() and made.app.sleds.is_foreign(project.id)
        assert await made.ask("hello", contains="You said", within_s=30) == "You said:\nhello", "it is served"
        there = itertools.repeat(0)
        await until(gone(old), 30)
        monkeypatch.setattr(sleds, "VERSION", 1)
        assert await made.ask("again", contains="You said", within_s=30) == "You said:\nagain"


async def test_a_sled_that_is_too_old_is_told_of_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "AWAY_TOLD_S", 0.2)
    held = asyncio.Event()

    async with home(tmp_path) as made:
        project = made.app.projects.get("demo")
        renew = made.app.projects.reconciler._renew

        async def later(which: Project) -> bool:
            await held.wait()
            return await renew(which)

        monkeypatch.setattr(made.app.projects.reconciler, "_renew", later)
        old = sled_of(tmp_path)
        monkeypatch.setattr(sleds, "VERSION", 3)
        await made.app.sleds._connected[project.id].socket.close()
        await until(lambda: made.app.sleds.trouble(project.id), 20)
        why = "its sled speaks version 1 of the wire, and this gateway 3; `rebuild demo` replaces it"
        await until(lambda: made.app.projects.trouble(project.id) == why, 20)
        assert f"last error: {why}" in await made.ask("status", contains="**demo**: failed")
        assert await made.ask("hello", contains="Waiting for") == f"Waiting for the project to come up: {why}."
        monkeypatch.setattr(sleds, "VERSION", 1)
        held.set()
        await until(gone(old), 30)
        await made.transport.until(lambda texts: "You said:\nhello" in texts, 30)
        assert sum("The project is up again" in text for text in made.transport.texts) == 1
        assert sum(text.startswith("Waiting for the project") for text in made.transport.texts) == 1


async def test_a_frozen_sled_is_told_of_and_a_restart_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "HELLO_WITHIN_S", 0.2)
    monkeypatch.setattr(dispatcher, "AWAY_TOLD_S", 0.2)
    async with home(tmp_path) as made:
        project = made.app.projects.get("demo")
        old = sled_of(tmp_path)
        old.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: made.app.sleds.journal(project.id) is None, 30)
            told = await made.ask("hello", contains="Waiting for", within_s=40)
            assert "its sled runs, and has not been heard of since" in told
            assert "`restart demo` replaces it" in told
            assert "not been heard of" in made.app.projects.trouble(project.id)
            await made.ask("restart", contains="was restarted", within_s=40)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                old.kill()
        assert await made.ask("again", contains="You said", within_s=30) == "You said:\nagain"


@contextlib.asynccontextmanager
async def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[House, int]]:
    """A gateway whose sled stands still, with a run under way, and the process of that run."""
    monkeypatch.setattr(dispatcher, "STOP_WITHIN_S", 0.2)
    monkeypatch.setattr(engine_module, "_TERM_S", 0.2)
    async with home(tmp_path) as made:
        pid = made.app.projects.get("demo").path / "pid"
        await made.say("@@run echo $$ > pid; exec sleep 300")
        await until(lambda: pid.exists() and pid.read_text().endswith("\n"), 20)
        old = sled_of(tmp_path)
        old.send_signal(signal.SIGSTOP)
        try:
            yield made, int(pid.read_text())
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                old.kill()


async def test_a_restart_ends_the_run_of_a_frozen_sled_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with frozen(tmp_path, monkeypatch) as (made, run):
        before = len(made.transport.sent)
        assert (await made.ask("stop")).startswith("A run has not ended yet: its sled does not answer.")
        assert alive(run)
        assert await made.ask("restart", contains="demo", within_s=40) == "demo was restarted.\nStopped the run."
        assert not alive(run)
        await made.ask("again", contains="You said:\nagain", within_s=30)
        await made.quiet()
        assert len(made.transport.texts) == before + 3, "nothing else is said of it"


async def test_a_restart_that_could_not_end_the_run_does_not_say_that_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with frozen(tmp_path, monkeypatch) as (made, run):
        with monkeypatch.context() as patch:

            async def refuses(_: SledSpec) -> None:
                raise EngineError(f"these processes of demo could not be ended: [{run}]")

            patch.setattr(made.engine, "stop", refuses)
            told = await made.ask("restart", contains="demo", within_s=40)
        assert f"demo did not go down: these processes of demo could not be ended: [{run}]" in told
        assert "A run has not ended yet" in told, "whoever asked hears what became of it"
        assert "Stopped" not in told
        assert alive(run)
        await made.ask("restart", contains="demo was restarted", within_s=40)
        assert not alive(run)
