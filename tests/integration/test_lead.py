"""The lead, on real sleds: it answers where no project is active, has others work, and hears of what happened."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine, find
from gateway.hive.leads import INSTRUCTIONS
from gateway.store import messages
from gateway.store.messages import StoredMessage
from tests.support.claude_cli import eventually
from tests.support.house import House, house, make_settings

pytestmark = [pytest.mark.timeout(120)]

BEN = "fake:ben"


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[House]:
    """Ana has a lead, and has said something to it; there is another project."""
    async with house(tmp_path, engine=ProcessEngine(host_environment())) as made:
        await made.ask("new project shop", contains="is ready", within_s=30, room="of-shop")
        told = await made.ask("new project chief --lead", contains="leads:", within_s=30)
        assert "**chief** is ready." in told and "Its instructions, for you to edit: `" in told
        assert await made.ask("@@say I am chief", contains="I am chief") == "I am chief"
        yield made


async def events(made: House) -> list[StoredMessage]:
    """What the lead was told."""
    found = [await made.app.store.read(lambda c, n=n: messages.by_id_if_any(c, n)) for n in range(1, 80)]  # type: ignore[misc]
    return [message for message in found if message is not None and message.sender == "event:chief"]


async def test_the_lead_answers_where_no_project_is_active(yard: House) -> None:
    assert await yard.ask("@@say here, too", contains="here, too", room="another", sender=BEN) == "here, too"
    assert (await yard.ask("status", contains="**chief**", room="third")).startswith("**chief**: ready")
    assert await yard.ask("@@say I am shop", contains="I am", room="of-shop") == "I am shop"
    assert "chief leads. Its instructions" in await yard.ask("lead", contains="leads")
    assert "Only an operator" in await yard.ask("lead off", contains="Only", sender=BEN)
    assert "chief does not lead any more." in await yard.ask("lead off", contains="lead")
    assert "No project is active here" in await yard.ask("hello", contains="No project", room="another")
    assert yard.app.powers.granted() == []


async def test_it_is_told_its_instructions_the_people_and_the_projects(yard: House) -> None:
    chief, shop = yard.app.projects.get("chief"), yard.app.projects.get("shop")
    leads = yard.app.services.leads
    assert leads.file.read_text() == INSTRUCTIONS
    leads.file.write_text("You lead, and speak like a pirate.")
    assert leads.told(chief.id) == "You lead, and speak like a pirate.\n\nPeople: as they write.\nProjects: shop."
    assert leads.told(shop.id) == ""


async def test_a_chat_only_person_gets_a_project_and_a_schedule_from_one_room(yard: House) -> None:
    """What the lead does for "make a project and have the tests run each morning", in the words of its calls."""
    await yard.say("@@huskies new project web --stack minimal")
    card = (await yard.transport.until(lambda texts: "may chief's agent do this" in texts[-1]))[-1]
    assert "new project web --stack minimal" in card
    assert "**web** is ready." in await yard.ask("allow", contains="done:", within_s=30)
    assert "🐾 chief's agent: made the project web" in yard.transport.texts
    told = await yard.ask("@@huskies ask web @@huskies every weekdays 8:30 run the tests", contains="done:")
    assert "Schedule 1: next on" in told
    assert (await yard.ask("status", contains="**chief**")).startswith("**chief**"), "the room has not switched"
    (one,) = await yard.app.services.schedules.of_project(yard.app.projects.get("web").id)
    assert (one.conversation.room, one.word) == ("room", "fake:ana"), "its answers come where it was asked for"


async def test_a_member_gains_nothing_by_talking_to_the_lead(yard: House) -> None:
    await yard.say("@@huskies restart shop", sender=BEN)
    card = (await yard.transport.until(lambda texts: "may chief's agent do this" in texts[-1]))[-1]
    assert "_An operator can answer" in card
    assert "Only an operator can answer that." in await yard.ask("allow", sender=BEN, contains="Only")
    await yard.ask("deny", contains="refused:")
    assert "is for people" in await yard.ask("@@huskies lead shop", contains="refused:", sender=BEN)
    await yard.say("@@huskies new project third --lead")
    await yard.transport.until(lambda texts: "may chief's agent do this" in texts[-1])
    assert "Who leads is for people to say" in await yard.ask("allow", contains="refused:")


async def test_a_crash_wakes_it_once_and_it_may_be_quiet(yard: House) -> None:
    source = yard.app.projects.get("shop").path
    await yard.say("@@run touch begun; while [ ! -e go ]; do sleep 0.05; done", room="of-shop")
    await eventually((source / "begun").exists)
    sled = find(yard.app.projects.paths(yard.app.projects.get("shop")).home)
    assert sled is not None
    os.kill(sled.pid, signal.SIGKILL)
    (source / "go").touch()
    await yard.transport.until(lambda texts: any("shop: A run ended with its sled" in t for t in texts), 60)
    (event,) = await events(yard)
    assert "in the middle of: “@@run touch begun" in event.text and event.word == "fake:ana"
    await yard.quiet()
    assert len(await events(yard)) == 1


async def test_what_happens_together_is_one_turn_and_no_more_than_so_many_an_hour(
    yard: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.hive.leads.WAKES_PER_HOUR", 3)
    leads, shop = yard.app.services.leads, yard.app.projects.get("shop").id
    for number in (1, 1, 2, 3, 4):
        leads.hand(await yard.app.store.write(lambda c, n=number: leads.wake(c, shop, f"x/{n}", f"thing {n}")))  # type: ignore[misc]
    await yard.transport.until(lambda texts: any("thing 3" in text for text in texts))
    await yard.quiet()
    told = await events(yard)
    assert [message.text for message in told] == ["shop: thing 1", "shop: thing 2", "shop: thing 3"]
    assert len({message.turn_id for message in told}) == 1, "one turn decides on all of them"


async def test_a_schedule_that_rests_wakes_it(yard: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.hive.schedules.MOST_FAILURES", 1)
    await yard.ask("every 1h @@fail the tests", contains="Schedule 1", room="of-shop")
    await yard.ask("retry 1", contains="sent now", room="of-shop")
    await yard.transport.until(lambda texts: any("shop: ⏰ Schedule 1 failed" in text for text in texts))
    (event,) = await events(yard)
    assert event.text.endswith("It said: the tests")


async def test_it_has_a_budget_of_its_own(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path,
        gateway={"state_dir": tmp_path / "state", "lead_budget_usd_per_day": 1.0},
        agent={"budget_usd_per_project_day": 100.0},
    )
    async with house(tmp_path, engine=ProcessEngine(host_environment()), settings=settings) as made:
        await made.ask("new project shop", contains="is ready", within_s=30, room="of-shop")
        await made.ask("new project chief --lead", contains="leads:", within_s=30)
        await made.ask("@@cost 0.97\n@@say spent", contains="spent")
        await made.say("@@say more")
        await made.transport.until(lambda texts: any("0.97 of 1.00 USD used today" in text for text in texts))
        await made.ask("@@cost 2\n@@say fine", contains="fine", room="of-shop")


async def test_the_configuration_names_it(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, gateway={"state_dir": tmp_path / "state", "lead": "chief"})
    engine = ProcessEngine(host_environment())
    async with house(tmp_path, engine=engine, settings=settings) as made:
        await made.ask("new project chief", contains="is ready", within_s=30)
        assert made.app.projects.registry.lead is None
    async with house(tmp_path, engine=engine, settings=settings) as made:
        await made.say("and the ids of this life's messages are others", room="of-nobody")
        await made.say("@@say here", room="elsewhere")
        await made.transport.until(lambda texts: "here" in texts)
        assert "`lead` for all projects" in await made.ask("grants", contains="Grants")
