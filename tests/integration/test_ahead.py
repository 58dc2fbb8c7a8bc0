"""A cold first turn with the real CLI: it comes up while its person writes, and asks the model when they are done."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from gateway.chat import Conversation
from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from tests.support.claude_api import ClaudeApi, script
from tests.support.house import House, house, make_settings
from tests.support.processes import until

pytestmark = [pytest.mark.claude, pytest.mark.timeout(90)]
ROOM = Conversation("fake", "room")


def clis(folder: Path) -> list[psutil.Process]:
    """The CLIs that run in a gateway's folders, without their children, which begin as copies of them."""
    found: dict[psutil.Process, int] = {}
    # psutil keeps both a process and what it runs for the next look; a CLI was once a copy of the runner.
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if Path(process.exe()).name == "claude" and process.environ().get("HOME", "").startswith(str(folder)):
                found[process] = process.ppid()
    return [process for process, parent in found.items() if parent not in {other.pid for other in found}]


@contextlib.asynccontextmanager
async def home(tmp_path: Path) -> AsyncIterator[tuple[House, ClaudeApi]]:
    """A gateway with a window that no test waits for, and one project."""
    async with ClaudeApi() as api:
        settings = make_settings(
            tmp_path,
            agent={"kind": "claude", "api_key": "sk-ant-ahead", "api_base_url": api.base_url},
            dispatcher={"coalesce_window_ms": 60_000, "coalesce_max_ms": 60_000},
        )
        async with house(tmp_path, engine=ProcessEngine(host_environment()), settings=settings) as made:
            await made.ask("new project demo", contains="is ready", within_s=60)
            yield made, api


async def test_the_cli_is_up_before_the_window_ends(tmp_path: Path) -> None:
    async with home(tmp_path) as (made, api):
        await made.say(f"hello {script({'text': 'a first answer'})}")
        [cli] = await until(lambda: clis(tmp_path), 30)
        assert api.main == [], "nobody has said all that they want to say"
        await made.say("and this")
        made.app.dispatcher.typing(ROOM, ["fake:ana"])
        made.app.dispatcher.typing(ROOM, [])
        await made.transport.until(lambda texts: "a first answer" in texts, 30)
        assert clis(tmp_path) == [cli]
        assert len(api.main) == 1
        assert "and this" in str(api.main[0].messages)


async def test_stop_in_the_window_ends_the_cli(tmp_path: Path) -> None:
    async with home(tmp_path) as (made, api):
        await made.say("hello")
        await until(lambda: clis(tmp_path), 30)
        assert "Discarded: “hello”" in await made.ask("stop")
        await until(lambda: not clis(tmp_path), 30)
        await made.say(f"again {script({'text': 'a new answer'})}")
        made.app.dispatcher.typing(ROOM, ["fake:ana"])
        made.app.dispatcher.typing(ROOM, [])
        await made.transport.until(lambda texts: "a new answer" in texts, 30)
        assert len(api.main) == 1
