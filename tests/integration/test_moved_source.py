"""A project that cannot run, as its source was moved away: whoever writes to it is told why, wherever they write."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.chat import Capabilities
from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.testing import FakeTransport, patience
from gateway.turns import dispatcher
from tests.support.house import House, house, make_settings
from tests.support.huskies import clean_environment
from tests.support.processes import die_with_parent

pytestmark = pytest.mark.timeout(120)


@contextlib.asynccontextmanager
async def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, edits: bool) -> AsyncIterator[House]:
    """A gateway that looks after its sleds all the time, with one project, whose source is not where it was."""
    monkeypatch.setattr(dispatcher, "AWAY_TOLD_S", 0.2)
    how = Capabilities(max_text=2000, edits=edits, edit_interval_s=0.0, idempotent=True, marks=False)
    settings = make_settings(tmp_path, engine={"reconcile_s": 0.1})
    engine = ProcessEngine(host_environment())
    async with house(tmp_path, transport=FakeTransport(capabilities=how), engine=engine, settings=settings) as made:
        await made.ask("new project demo", contains="is ready", within_s=60)
        project = made.app.projects.get("demo")
        project.path.rename(tmp_path / "elsewhere")
        await engine.stop(made.app.projects.spec(project))
        yield made


def moves_back(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").rename(tmp_path / "projects" / "demo")


def why(tmp_path: Path) -> str:
    return f"Waiting for the project to come up: the source {tmp_path / 'projects' / 'demo'} does not exist."


async def test_who_writes_where_nothing_can_be_edited_is_told_once_and_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moved(tmp_path, monkeypatch, edits=False) as home:
        before = len(home.transport.sent)
        assert await home.ask("hello", contains="Waiting", within_s=30) == why(tmp_path)
        assert "**demo**: failed\n- last error: the source" in await home.ask("status", contains="**demo**")
        await home.say("and another line")
        looked = asyncio.Event()  # there was time to say it again
        asyncio.get_running_loop().call_later(5 * dispatcher.AWAY_TOLD_S, looked.set)
        await looked.wait()
        moves_back(tmp_path)
        answer = "You said:\nhello\nand another line"
        texts = await home.transport.until(lambda texts: answer in texts, 30)
        assert [text for text in texts[before:] if "**demo**" not in text] == [
            why(tmp_path),
            "The project is up again. I'll continue.",
            answer,
        ]


async def test_who_reads_a_live_message_reads_it_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with moved(tmp_path, monkeypatch, edits=True) as home:
        await home.say("hello")
        await home.transport.until(lambda texts: texts[-1] == f"⏳\n{why(tmp_path)}", 30)
        moves_back(tmp_path)
        texts = await home.transport.until(lambda texts: "You said:\nhello" in texts, 30)
        assert not any("Waiting" in text or "up again" in text for text in texts), "the answer took its place"


async def test_huskies_send_says_it_and_prints_the_answer_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moved(tmp_path, monkeypatch, edits=True) as home:
        assert (await printed(await send(home, "switch demo")))[0].startswith("demo is active here now")
        sending = await send(home, "@@run until [ -e go ]; do sleep 0.05; done\n@@say done")
        assert sending.stderr is not None
        for told in (why(tmp_path), "The project is up again. I'll continue."):
            line = await asyncio.wait_for(sending.stderr.readline(), 60 * patience())
            assert line.decode() == f"{told}\n"
            if not (tmp_path / "projects" / "demo").exists():
                moves_back(tmp_path)
        (tmp_path / "projects" / "demo" / "go").touch()
        assert await printed(sending) == ("done\n", "", 0)


async def send(home: House, text: str) -> Process:
    """Start `huskies send TEXT`."""
    state = str(home.tmp_path / "state")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "send", text),
        env={**clean_environment(), "HOME": str(home.tmp_path), "HUSKIES_GATEWAY__STATE_DIR": state},
        cwd=home.tmp_path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=die_with_parent,
    )


async def printed(process: Process) -> tuple[str, str, int | None]:
    """What it prints until it ends, on stdout and stderr, and its exit code."""
    out, err = await asyncio.wait_for(process.communicate(), 60 * patience())
    return out.decode(), err.decode(), process.returncode
