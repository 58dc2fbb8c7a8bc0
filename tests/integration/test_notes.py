"""Agents that tell and ask each other, on real sleds: where they may, so far, and no further than people let them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.store import audit, notes
from gateway.store.notes import Note
from gateway.testing import patience
from tests.support.claude_cli import eventually
from tests.support.gateway_process import GatewayProcess
from tests.support.house import House, house

pytestmark = [pytest.mark.timeout(120)]

FAST: dict[str, dict[str, Any]] = {"dispatcher": {"coalesce_window_ms": 50}, "agent": {"kind": "scripted"}}


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[House]:
    """Two projects; Ana's room is about shop, and another one of hers about api."""
    async with house(tmp_path, engine=ProcessEngine(host_environment())) as made:
        await made.ask("new project api", contains="is ready", within_s=30, room="of-api")
        await made.ask("@@say I am api", contains="I am api", room="of-api")
        await made.ask("new project shop", contains="is ready", within_s=30)
        yield made


async def sent(made: House) -> list[Note]:
    """Every note there is."""
    found = [await made.app.store.read(lambda c, n=n: notes.by_id(c, n)) for n in range(1, 30)]  # type: ignore[misc]
    return [note for note in found if note is not None]


async def refusals(made: House) -> list[str]:
    rows = await made.app.store.read(lambda c: audit.newest(c, 200))
    return [str(e.detail["told"]) for e in rows if e.actor.startswith("agent:") and e.detail.get("fate") == "refused"]


async def final(made: House, text: str, part: str) -> str:
    """Say something, and wait for the answer with a part in it that is no live message."""
    before = len(made.transport.texts)
    await made.say(text)

    def found(texts: list[str]) -> list[str]:
        return [told for told in texts[before:] if part in told and not told.startswith("⏳")]

    return found(await made.transport.until(lambda texts: bool(found(texts)), 30))[0]


async def grant(made: House, *edges: str) -> None:
    for edge in edges:
        await made.ask(f"grant {edge}", contains="may now")


async def test_a_note_starts_a_turn_of_its_own_where_that_is_granted(yard: House) -> None:
    refused = await yard.ask("@@huskies tell api hello", contains="refused:")
    assert "An operator can allow it: `grant shop tell to api`." in refused
    await grant(yard, "shop tell to api")
    assert "done: api's agent has your note." in await yard.ask(
        "@@huskies tell api #deploy @@run touch told", contains="done:"
    )
    told = yard.app.projects.get("api").path / "told"
    await eventually(told.exists)
    (note,) = await sent(yard)
    assert (note.topic, note.hops, note.asks) == ("deploy", 1, False)
    await yard.quiet()
    assert "🐾 shop's agent: told api's: “@@run touch told”" in yard.transport.texts
    assert "🐾 shop's agent tells api's: “@@run touch told”" in yard.transport.texts
    assert not [text for text in yard.transport.texts if "Note from" in text], "what it answers is nobody's to read"
    assert "There is" not in await yard.ask("tell api hello", contains="You said:"), "from a person it is a prompt"


async def test_a_long_note_is_a_file(yard: House) -> None:
    await grant(yard, "shop ask to api")
    long = "x" * 600 + " y" * 2000 + " the end"
    (yard.app.projects.get("shop").path / "long").write_text(long)
    told = await final(yard, '@@run huskies ask api "$(cat long)"', "beginning")
    assert "That is its beginning; the whole note is in the file." in told and "the end" not in told
    inbox = yard.app.projects.get("api").path / ".huskies" / "inbox"
    (file,) = inbox.rglob("*note.md")
    assert file.read_text().endswith("the end")


async def test_an_agent_tells_all_and_tells_whoever_it_works_for(yard: House) -> None:
    await yard.ask("new project web", contains="is ready", within_s=30, room="of-web")
    assert "You may not use `tell all`" in await yard.ask("@@huskies tell all hello", contains="refused:")
    await grant(yard, "shop lead")
    assert "done: These have your note: api, web." in await yard.ask("@@huskies tell all hello", contains="done:")
    assert {note.to_id for note in await sent(yard)} == {yard.app.projects.get(name).id for name in ("api", "web")}
    await yard.say("@@huskies tell me half of it is done\n@@sleep 0.2")
    await yard.transport.until(lambda texts: "🐾 shop's agent: half of it is done" in texts)
    assert ("🐾 shop's agent: half of it is done", ("ana",)) in yard.transport.rang
    assert "You said" in await yard.ask("tell me why it fails", contains="You said:"), "from a person it is a prompt"


async def test_an_answer_is_the_calls_result(yard: House) -> None:
    await grant(yard, "shop ask to api")
    told = await yard.ask("@@huskies ask api @@say forty-two", contains="done:")
    assert "Note from shop's agent, at the word of fake:ana. Your answer goes back." in told
    assert told.endswith("forty-two")
    assert "was not answered (failed)" in await yard.ask("@@huskies ask api @@fail no idea", contains="done:")


async def test_an_answer_that_is_late_comes_as_a_note(yard: House) -> None:
    await grant(yard, "shop ask to api")
    source = yard.app.projects.get("api").path
    waits = "@@run while [ ! -e go ]; do sleep 0.05; done; echo '@@run echo late >> came'"
    told = await final(yard, f"@@huskies ask api {waits} --within 1s", "done:")
    assert told == "done: api has not answered within 1 s. Its answer will come as a note."
    listed = await yard.ask("open", contains="Open")
    assert "- shop waits for api: “@@run while" in listed
    (source / "go").touch()
    came = yard.app.projects.get("shop").path / "came"
    await eventually(came.exists)
    await yard.quiet()
    assert came.read_text() == "late\n"
    assert await yard.ask("open", contains="Nothing waits") == "Nothing waits."


async def test_what_is_asked_in_a_notes_turn_is_asked_in_the_room_where_it_began(yard: House) -> None:
    await grant(yard, "shop ask to api")
    await yard.say("@@huskies ask api @@permission Bash make")
    await yard.transport.until(lambda texts: any("May I use Bash?" in text for text in texts))
    assert "done:" in await yard.ask("allow", contains="Bash make: allowed")


async def test_a_chain_ends_after_some_hops(yard: House) -> None:
    await grant(yard, "shop tell to api", "api tell to shop")
    chain = " ".join(f"@@huskies tell {name}" for name in ("api", "shop", "api", "shop", "api"))
    await yard.ask(f"{chain} too far", contains="done:")
    await eventually(lambda: not yard.app.dispatcher.load[0] and not yard.app.dispatcher.load[1])
    await yard.quiet()
    assert [note.hops for note in await sent(yard)] == [1, 2, 3, 4]
    (told,) = await refusals(yard)
    assert told.startswith("This chain has 4 notes already, and ends here.")


async def test_a_loop_ends_in_a_card_and_a_no_ends_the_loop(yard: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.hive.notes.LOOP", 2)
    await grant(yard, "shop tell to api", "api tell to shop")
    for n in (1, 2):
        await yard.ask(f"@@huskies tell api #x number {n}", contains="done:")
    await yard.say("@@huskies tell api #x number 3")
    texts = await yard.transport.until(lambda texts: "may they go on" in texts[-1])
    assert "api and shop have exchanged 2 notes about x within an hour. Shall they go on?" in texts[-1]
    assert "_An operator can answer" in texts[-1]
    assert "done:" in await yard.ask("allow", contains="done:")
    await yard.ask("@@huskies tell api #x number 4", contains="done:")
    await yard.say("@@huskies tell api #x number 5")
    await yard.transport.until(lambda texts: "have exchanged 4 notes" in texts[-1])
    assert "This was not allowed: enough" in await yard.ask("no, enough", contains="refused:")
    assert "People stopped this exchange." in await yard.ask("@@huskies tell api #x number 6", contains="refused:")
    assert len(await sent(yard)) == 4
    await yard.ask("@@huskies tell api #y another thing", contains="done:")


async def test_an_edge_has_its_budget(yard: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.hive.notes.USD_PER_HOUR", 0.5)
    await grant(yard, "shop ask to api")
    await yard.ask("@@huskies ask api @@cost 0.6", contains="done:")
    told = await yard.ask("@@huskies ask api @@say more", contains="refused:")
    assert told == "refused: You have told api enough for this hour (1 notes, 0.60 USD). Try again later."


async def test_two_that_ask_each_other_in_a_circle_do_not_wait_for_ever(yard: House) -> None:
    await grant(yard, "shop ask to api", "api ask to shop")
    told = await final(yard, "@@huskies ask api @@huskies ask shop are you there? --within 1s --within 20s", "done:")
    assert "shop has not answered within 1 s" in told, "it has one run at a time, and that one waits"


@pytest.mark.slow
async def test_killed_while_an_answer_is_awaited_it_comes_once(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, FAST) as gateway:
        await gateway.start()
        await gateway.send("new project api", "a")
        await gateway.send("new project shop", "s")
        await gateway.send("grant shop ask to api", "g")
        wait = "@@run echo ran >> count; while [ ! -e go ]; do sleep 0.05; done; echo forty-two"
        asking = asyncio.create_task(gateway.send_surely(f"@@huskies ask api {wait}", "m"))
        source = gateway.projects / "api"
        await eventually((source / "count").exists)
        gateway.kill()
        (source / "go").touch()
        await gateway.start()
        replies = (await asyncio.wait_for(asking, 60 * patience()))["replies"]
        assert replies[-1].startswith("done: ") and replies[-1].endswith("forty-two")
        assert (source / "count").read_text() == "ran\n"
