"""Which message is a command, an answer or a prompt, while something is asked and while nothing is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.intake.router import NOTHING_SAID
from tests.support.house import House, house, make_settings

ASK = "@@ask How shall we go on? | Start | Cancel | Wait"


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    settings = make_settings(tmp_path, dispatcher={"coalesce_window_ms": 0})
    async with house(tmp_path, engine=ProcessEngine(host_environment()), settings=settings) as made:
        await made.ask("new project demo", contains="is ready", within_s=60)
        yield made


@pytest.mark.parametrize(
    ("said", "answer"), [("Start", "Start"), ("cancel", "Cancel"), ("/etc/hosts", "/etc/hosts"), ("statsu", "statsu")]
)
async def test_what_is_asked_is_answered_before_anything_is_corrected(home: House, said: str, answer: str) -> None:
    await home.say(ASK)
    await home.transport.until(lambda texts: any("How shall we go on?" in text for text in texts), 30)
    await home.say(said)
    await home.transport.until(lambda texts: any(f"Ana: {answer}" in text for text in texts), 30)


@pytest.mark.parametrize("said", ["Stop!", "please stop", "Cancel everything!", "status"])
async def test_a_command_is_one_while_something_is_asked(home: House, said: str) -> None:
    await home.say(ASK)
    await home.transport.until(lambda texts: any("How shall we go on?" in text for text in texts), 30)
    told = await home.ask(said, within_s=30)
    assert ("Stopped" in told) is (said != "status")


async def test_stop_in_any_words_ends_a_run_and_what_waits(home: House) -> None:
    await home.say("@@sleep 300")
    await home.transport.until(lambda texts: any("⏳" in text for text in texts), 30)
    await home.say("and then this")
    told = await home.ask("STOP!!! please", contains="Discarded", within_s=30)
    assert "and then this" in told


@pytest.mark.parametrize("said", ["", "  \n"])
async def test_nothing_said_starts_no_turn(home: House, said: str) -> None:
    assert await home.ask(said) == NOTHING_SAID
    await home.quiet()
    assert not any("You said" in text for text in home.transport.texts)


async def test_what_is_one_slip_away_is_asked_about_and_prose_is_not(home: House) -> None:
    assert "Did you mean `status`?" in await home.ask("statsu")
    for said in ("start", "sup", "/etc/hosts", "stop using tabs"):
        assert f"You said:\n{said}" in await home.ask(said, contains="You said", within_s=30)
