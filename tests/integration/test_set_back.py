"""The clock is set back while there is much to tell the age of: nothing that people read is younger than now."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from tests.support.house import House, house
from tests.support.processes import until
from tests.support.wall_clock import WallClock

pytestmark = pytest.mark.timeout(120)
#: What tells how long ago something was, or how long it takes, and a text that it has then.
TELLS = {
    "status": "running for 0 s",
    "projects": "1 running",
    "sessions": "0 s ago",
    "questions": "left)",
    "open": "(0 s)",
    "schedules": "look at the oven",
    "audit": "typed `new project demo`",
    "audit --since 1h": "typed `new project demo`",
    "usage": "1 run, 0 s",
    "usage demo": "1 run, 0 s",
    "releases": "**1** (now)",
}
NEGATIVE = re.compile(r"(?<![\w-])-\d[\d.]* ?(s|min|h|d)\b")


async def replies(home: House) -> dict[str, str]:
    """What each of them says, in order."""
    return {command: await home.ask(command, within_s=20) for command in TELLS}


async def test_no_age_is_negative(tmp_path: Path, wall_clock: WallClock) -> None:
    async with house(tmp_path, engine=ProcessEngine(host_environment())) as home:
        await home.ask("new project demo", contains="is ready", within_s=60)
        source = home.app.projects.get("demo").path
        await home.ask("remind 3h look at the oven", contains="Reminder 1")
        await home.say("@@permission Bash make\n@@run until [ -e go ]; do sleep 0.05; done")
        await home.transport.until(lambda texts: any("May I use Bash?" in text for text in texts), 30)
        before = len(home.transport.sent)
        wall_clock.step(-7200)
        for command, told in (await replies(home)).items():
            assert TELLS[command] in told, told
        connector = aiohttp.UnixConnector(str(tmp_path / "state" / ".gateway" / "cli.sock"))
        async with aiohttp.ClientSession(connector=connector) as web, web.get("http://gateway/projects/demo") as answer:
            (running,) = (await answer.json())["running"]
        assert running["for_s"] == 0
        # And what ends at an earlier time than it began.
        await home.say("allow")
        (source / "go").touch()
        await until(lambda: not home.app.dispatcher.running_in(home.app.projects.get("demo").id), 20)
        await replies(home)
        await home.quiet()
        for text in home.transport.texts[before:]:
            assert not NEGATIVE.search(text), text
