"""Codes that confirm: somebody else's, late ones, guessed ones, and ones whose question is about what is no more."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.intake import confirmations
from gateway.testing import InMemoryEngine, patience
from tests.support.house import House, house, make_settings
from tests.support.wall_clock import WallClock

ANA, BEA, BEN = "fake:ana", "fake:bea", "fake:ben"
NOT_OPEN = "No question with that code is open. Codes expire after 60 s: type the command again."
GONE = "There is no project demo. Type `projects` to see them all."
#: What is asked about, and how the outcome begins.
ASKS = {
    "delete demo": "**demo** is deleted",
    "delete demo --purge": "**demo** is deleted",
    "agent acp:sh -c id": "demo: acp:sh -c id",
}


@dataclass
class Asked:
    """Ana was asked to confirm something about her project."""

    home: House
    source: Path
    words: str  # what she is to type
    outcome: str

    async def hears(self, text: str, *, sender: str = ANA, room: str = "room") -> str:
        """What is answered to a text."""
        return await self.home.ask(text, sender=sender, room=room)

    def nothing_was_done(self) -> None:
        project = self.home.app.projects.get("demo")
        assert (self.home.app.projects.state(project), project.agent) == ("ready", "")
        assert (self.source / "kept").read_text() == "hers"
        assert not any(text.startswith(self.outcome) for text in self.home.transport.texts)


async def ask(home: House, command: str = "delete demo --purge") -> Asked:
    """Ana types a command that asks first."""
    question = await home.ask(command, contains="within 60 s")
    (words,) = re.findall(r"`(confirm .*?)`", question)
    return Asked(home, home.app.projects.get("demo").path, words, ASKS[command])


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    settings = make_settings(tmp_path, access={"operators": [ANA, BEA], "members": [BEN]})
    async with house(tmp_path, settings=settings) as made:
        await made.ask("new project demo", contains="is ready")
        (made.app.projects.get("demo").path / "kept").write_text("hers")
        yield made


@pytest.mark.parametrize("command", ASKS)
@pytest.mark.parametrize(("sender", "room"), [(BEA, "room"), (BEN, "room"), (ANA, "other"), (BEA, "other")])
async def test_a_code_is_for_whoever_was_asked_where_they_were_asked(
    home: House, command: str, sender: str, room: str
) -> None:
    asked = await ask(home, command)
    await home.ask("switch demo", room=room, sender=sender)
    for typed in (asked.words, asked.words.upper(), asked.words.removesuffix(" demo")):
        assert await asked.hears(typed, sender=sender, room=room) == NOT_OPEN, "nor is told that there is such a code"
    asked.nothing_was_done()
    assert (await asked.hears(asked.words)).startswith(asked.outcome), "it is good all the same"


@pytest.mark.parametrize("command", ASKS)
async def test_a_code_is_good_once(home: House, command: str) -> None:
    asked = await ask(home, command)
    # Both are there before either is read.
    words = [home.transport.message(asked.words, f"twice{n}") for n in range(2)]
    await home.app.inbox.accept("fake", words, None)
    await home.transport.until(lambda texts: NOT_OPEN in texts)
    await home.quiet()
    assert await asked.hears(asked.words) == NOT_OPEN
    assert sum(text.startswith(asked.outcome) for text in home.transport.texts) == 1


@pytest.mark.parametrize("command", ASKS)
async def test_a_code_is_over_after_its_minute(home: House, command: str, wall_clock: WallClock) -> None:
    asked = await ask(home, command)
    wall_clock.step(confirmations.GOOD_FOR_S + 1)
    assert await asked.hears(asked.words) == NOT_OPEN
    asked.nothing_was_done()
    again = await ask(home, command)
    wall_clock.step(2 * confirmations.GOOD_FOR_S - 5)
    assert (await asked.hears(again.words)).startswith(asked.outcome), "its minute is its own"


async def test_a_clock_that_is_set_back_makes_no_minute_longer(
    home: House, wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await ask(home)
    wall_clock.step(-3600)
    monkeypatch.setattr(confirmations, "GOOD_FOR_S", 0.1)
    await asyncio.sleep(0.1)  # it ends for nobody to see
    assert await asked.hears(asked.words) == NOT_OPEN
    asked.nothing_was_done()


@pytest.mark.slow
@pytest.mark.parametrize("sender", [BEA, BEN, ANA])
async def test_guesses_carry_nothing_out_and_hold_nobody_up(home: House, sender: str) -> None:
    """The code itself is among them. From others it is worth nothing, nor from her without the name behind it."""
    asked = await ask(home)
    code = asked.words.split()[1]
    tried = ["".join(letters) for letters in itertools.product("abcd", "efgh", "jkmn", "pqrstuvwxyz23456")][:999]
    began, before = time.monotonic(), len(home.transport.sent)
    guesses = [
        home.transport.message(f"confirm {guess}", f"g{guess}", sender=sender)
        for guess in (*tried[:500], code, *tried[500:])
    ]
    await home.app.inbox.accept("fake", guesses, None)
    await home.ask("version", room="other", sender=BEA, contains="huskies 0", within_s=10)
    assert len(home.transport.sent) - before < len(guesses), "somebody else's turn came in between"
    await home.transport.until(lambda texts: len(texts) == before + 1001, 60)
    assert time.monotonic() - began < confirmations.GOOD_FOR_S * patience()
    told = set(home.transport.texts[before:])
    assert NOT_OPEN in told
    assert len(told) == (3 if sender == ANA else 2), "one line for all guesses, and the version"
    asked.nothing_was_done()
    assert (await asked.hears(asked.words)).startswith(asked.outcome), "and nobody talked her out of it"


@pytest.mark.parametrize("command", ASKS)
@pytest.mark.parametrize("deletion", ["delete demo", "delete demo --purge"])
async def test_what_is_deleted_meanwhile_is_not_asked_about_any_more(home: House, command: str, deletion: str) -> None:
    asked = await ask(home, command)
    theirs = await home.ask(deletion, sender=BEA, room="other", contains="within 60 s")
    await home.ask(theirs.split("`")[1], sender=BEA, room="other", contains="is deleted")
    before = len(home.transport.sent)
    assert await asked.hears(asked.words) == GONE
    assert len(home.transport.sent) == before + 1
    assert (asked.source / "kept").exists() is (deletion == "delete demo")
    assert await asked.hears(asked.words) == NOT_OPEN


async def test_a_gateway_that_was_started_again_has_no_codes(tmp_path: Path) -> None:
    settings, engine = make_settings(tmp_path), InMemoryEngine()
    async with house(tmp_path, settings=settings, engine=engine) as before:
        await before.ask("new project demo", contains="is ready")
        (before.app.projects.get("demo").path / "kept").write_text("hers")
        asked = await ask(before)
    async with house(tmp_path, settings=settings, engine=engine) as after:
        for _ in range(2):  # numbers begin anew: these were used, and are taken for repetitions
            await after.say("version")
        now = Asked(after, asked.source, asked.words, asked.outcome)
        assert await now.hears(asked.words) == NOT_OPEN
        now.nothing_was_done()


@pytest.mark.parametrize("command", ASKS)
@pytest.mark.parametrize("deletion", ["delete demo", "delete demo --purge"])
async def test_a_code_is_not_about_another_project_of_that_name(
    home: House, tmp_path: Path, command: str, deletion: str
) -> None:
    """What she read named another source."""
    asked = await ask(home, command)
    theirs = await home.ask(deletion, sender=BEA, room="other", contains="within 60 s")
    await home.ask(theirs.split("`")[1], sender=BEA, room="other", contains="is deleted")
    elsewhere = tmp_path / "projects" / "elsewhere"
    made = f"new project demo --path {elsewhere}"
    assert "is ready" in await home.ask(made, sender=BEA, room="other", contains="is ready")
    (elsewhere / "kept").write_text("hers")
    assert await asked.hears(asked.words) == GONE
    (project,) = home.app.projects.all()
    assert (project.path, project.agent) == (elsewhere, "")
    assert (elsewhere / "kept").read_text() == "hers"
