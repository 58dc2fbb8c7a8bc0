"""Budgets are asked for, and a provider's limit parks a turn: the dispatcher with sleds that the test plays."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway import clock
from gateway.asking import Questions
from gateway.chat import Capabilities, Fate
from gateway.config import Role
from gateway.errors import StateError, UserError
from gateway.store import budgets
from gateway.store import turns as rows
from gateway.testing import FakeTransport
from gateway.turns import admission as admission_module
from gateway.turns.running import RunSettings
from sled.protocol import Finished, Question, Run, RunState
from tests.conftest import FAST, World, close_world, make_world


@pytest_asyncio.fixture
async def poor(tmp_path: Path) -> AsyncIterator[World]:
    """A world in which a project may spend 5 USD a day."""
    world = await make_world(tmp_path, budget_usd=5.0)
    await world.activate(await world.project())
    yield world
    await close_world(world)


async def spend(world: World, usd: float, number: str) -> None:
    await world.say("work", number)
    project, run = await world.next_run()
    await world.sleds.say(project, run.run, Finished(ending="answered", text="ok", cost_usd=usd))
    await world.settled(number)


async def answer(world: World, text: str, external_id: str, role: Role = Role.OPERATOR) -> str | None:
    before = len(world.accepted)
    await world.inbox.accept("fake", [world.transport.message(text, external_id)], None)
    return await world.answers.take(world.accepted[before], role)


async def reads(world: World, part: str) -> str:
    texts = await world.transport.until(lambda texts: any(part in text for text in texts))
    return next(text for text in texts if part in text)


async def test_a_budget_that_is_used_is_asked_for_and_the_turn_goes_on(poor: World) -> None:
    await spend(poor, 4.9, "m1")
    await poor.say("more work", "m2")
    card = await reads(poor, "Continue")
    assert "4.90 of 5.00 USD used today. Continue with +2?" in card
    assert "An operator can answer" in card
    assert await poor.fate("m2") is Fate.QUEUED
    assert poor.sleds.runs.empty()
    assert await answer(poor, "1", "a1") == ""
    _, run = await poor.next_run()
    assert run.prompt == "more work"
    assert poor.admission.left(poor.projects["demo"]) == (4.9, 7.0)


async def test_a_member_cannot_answer_for_the_budget(poor: World) -> None:
    await spend(poor, 5.0, "m1")
    await poor.say("more work", "m2")
    await reads(poor, "Continue")
    assert await answer(poor, "yes", "a1", Role.MEMBER) is None
    assert poor.sleds.runs.empty()


async def test_no_to_a_budget_names_what_is_not_run(poor: World) -> None:
    await spend(poor, 5.0, "m1")
    await poor.say("more work", "m2")
    await reads(poor, "Continue")
    await answer(poor, "no", "a1")
    assert await poor.settled("m2") is Fate.DISCARDED
    assert "Not run: “more work”" in await reads(poor, "Not run")
    # What is asked after that is asked for anew.
    await poor.say("even more", "m3")
    await reads(poor, "Reply with a number")
    await answer(poor, "+1.5 USD", "a2")
    _, run = await poor.next_run()
    assert run.prompt == "even more"


async def test_a_budget_is_asked_for_once_for_all_that_waits(poor: World) -> None:
    await spend(poor, 6.0, "m1")
    await poor.activate(poor.projects["demo"], room="other")
    await poor.say("here", "m2")
    await poor.say("there", "m3", room="other")
    await reads(poor, "Continue")
    await poor.transport.until(lambda texts: any("an operator has been asked" in text for text in texts))
    assert sum("Continue with" in text for text in poor.transport.texts) == 1


async def test_a_budgets_question_and_its_answer_outlive_a_restart(tmp_path: Path) -> None:
    world = await make_world(tmp_path, budget_usd=5.0)
    project = await world.project()
    await world.activate(project)
    await spend(world, 5.0, "m1")
    await world.say("more", "m2")
    await reads(world, "Continue")
    await close_world(world)

    again = await make_world(tmp_path, budget_usd=5.0, transport=world.transport)
    await again.questions.recover(again.admission.taken_up)
    await again.dispatcher.recover()
    again.sleds.connect(project)
    await answer(again, "yes", "a1")
    _, run = await again.next_run()
    assert run.prompt == "more"
    assert "Yes, +2 USD" in await reads(again, "✅")  # the card is its outcome now
    assert not any("Reply with a number" in text for text in again.transport.texts)
    await close_world(again)

    third = await make_world(tmp_path, budget_usd=5.0)
    assert third.admission.left(project) == (5.0, 7.0)
    await close_world(third)


async def test_a_gateway_killed_upon_the_answer_to_a_budget_has_allowed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(tmp_path, budget_usd=5.0)
    project = await world.project()
    await world.activate(project)
    await spend(world, 5.0, "m1")
    await world.say("more", "m2")
    await reads(world, "Continue")

    async def killed(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Questions, "_tell", killed)
    answering = asyncio.create_task(answer(world, "yes", "a1"))
    await reads(world, "✅")
    answering.cancel()
    await close_world(world)
    again = await make_world(tmp_path, budget_usd=5.0, transport=world.transport)
    await again.questions.recover(again.admission.taken_up)
    await again.dispatcher.recover()
    again.sleds.connect(project)
    assert (await again.next_run())[1].prompt == "more"
    assert again.admission.left(project) == (5.0, 7.0)
    await close_world(again)


# --- the provider ----------------------------------------------------------------------------------------------------


def limited(until: float, session: str = "a1") -> Finished:
    return Finished(
        ending="failed", reason="limit", error="limit", resets_at=until, agent_session=session, cost_usd=0.25
    )


async def begin(world: World, room: str = "room", external_id: str = "m1") -> tuple[int, Run]:
    project = world.projects.get("demo") or await world.project()
    await world.activate(project, room=room)
    await world.say("build it", external_id, room=room)
    return await world.next_run()


async def test_a_limit_parks_the_turn_and_it_goes_on_by_itself(world: World) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 0.6))
    assert "The provider's limit is reached. I'll continue at" in await reads(world, "limit is reached")
    assert await world.fate("m1") is Fate.RUNNING
    _, later = await world.next_run()
    assert later.run != run.run
    assert later.resume == "a1"
    assert "build it" in later.prompt
    assert "without repeating" in later.prompt
    await world.sleds.say(project, later.run, Finished(ending="answered", text="built", cost_usd=0.5))
    assert await world.settled("m1") is Fate.ANSWERED
    assert await reads(world, "built") == "built"
    turn = await world.store.read(lambda c: rows.by_id(c, 1))
    assert turn.waited_s >= 0.5
    assert world.admission.left(project)[0] == pytest.approx(0.75)


def limit_account(world: World, until: float) -> None:
    """The provider serves nobody before `until`: what the proxy's ledger knows, and the admission is told."""
    world.admission.limit_of = lambda _: until
    world.admission.limit(until)


async def test_while_the_provider_refuses_nothing_begins_and_parked_turns_go_first(world: World) -> None:
    project, run = await begin(world)
    until = time.time() + 0.8
    limit_account(world, until)
    await world.sleds.say(project, run.run, limited(until))
    other = await world.project("other")
    await world.activate(other, room="elsewhere")
    await world.say("me too", "m2", room="elsewhere")
    assert "Continuing at" in await reads(world, "Continuing at")
    assert world.sleds.runs.empty()
    first, second = await world.next_run(), await world.next_run()
    assert (first[0], second[0]) == (project, other)
    assert second[1].prompt == "me too"


async def test_stop_gives_up_a_parked_turn(world: World) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 60))
    await reads(world, "limit is reached")
    here = world.accepted[0].conversation_id
    stopped = await world.dispatcher.stop("Stopped.", conversations=[here])
    assert [turn.id for turn in stopped.ended] == [1]
    assert await world.fate("m1") is Fate.INTERRUPTED
    assert world.sleds.stops.empty()  # there is no run to stop


async def test_a_parked_turn_outlives_a_restart(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    project, run = await begin(world)
    until = time.time() + 1.0
    await world.sleds.say(project, run.run, limited(until))
    await reads(world, "limit is reached")
    await close_world(world)

    again = await make_world(tmp_path, transport=world.transport)
    await again.dispatcher.recover()
    # The sled knows nothing of a next run, and must not be given it early.
    again.sleds.connect(project, runs=[])
    assert again.sleds.runs.empty()
    _, later = await again.next_run()
    assert time.time() >= until
    assert "without repeating" in later.prompt
    await again.sleds.finish(project, later, "built")
    await again.transport.until(lambda texts: "built" in texts)
    await close_world(again)


async def test_a_gateway_killed_when_a_parked_turn_went_on_does_not_begin_it_from_the_start(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 0.2))
    _, later = await world.next_run()
    await close_world(world)

    again = await make_world(tmp_path)
    await again.dispatcher.recover()
    again.sleds.connect(project, runs=[])  # the frame never arrived
    _, once_more = await again.next_run()
    assert (once_more.run, once_more.prompt, once_more.resume) == (later.run, later.prompt, "a1")
    await close_world(again)


async def test_a_limit_without_an_end_is_tried_again_later_and_later_then_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "_TRY_AGAIN_MIN", (0.001, 0.002))
    project, run = await begin(world)
    for _ in range(2):
        await world.sleds.say(project, run.run, limited(0.0))
        _, run = await world.next_run()
    monkeypatch.setattr(admission_module, "GIVE_UP_S", 0.0)
    await world.sleds.say(project, run.run, limited(0.0))
    assert await world.settled("m1") is Fate.FAILED
    assert "`retry`" in await reads(world, "The run failed")


async def test_where_nothing_can_be_edited_the_wait_is_announced(tmp_path: Path) -> None:
    plain = Capabilities(max_text=2000, edits=False, edit_interval_s=0.0, idempotent=True, marks=False)
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=plain))
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 60))
    await reads(world, "limit is reached")
    await close_world(world)


@pytest.mark.parametrize("world", [{"runs": 1}], indirect=True)
async def test_parked_turns_take_no_place_from_others(world: World) -> None:
    """A turn that waits by itself for its provider, without a limit on everybody, holds up nobody else."""
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(0.0))
    await reads(world, "limit is reached")
    other = await world.project("other")
    await world.activate(other, room="elsewhere")
    await world.say("me too", "m2", room="elsewhere")
    assert (await world.next_run())[0] == other


async def test_a_sled_that_is_away_when_a_turn_shall_go_on_gets_it_when_it_comes(world: World) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 0.2))
    await reads(world, "limit is reached")
    world.sleds.disconnect(project)
    await asyncio.sleep(0.5)  # its time comes and goes: nobody could be sent to
    assert world.sleds.runs.empty()
    world.sleds.connect(project, runs=[RunState(run=run.run, last=1, finished=True)])
    assert "build it" in (await world.next_run())[1].prompt


async def test_the_time_in_which_a_turn_was_parked_is_not_on_its_clock_across_a_restart(tmp_path: Path) -> None:
    limits = replace(FAST, turn_s=1.0)
    world = await make_world(tmp_path, limits)
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 1.2))
    await reads(world, "limit is reached")
    await asyncio.sleep(0.9)  # what it waited before the restart counts as well
    began = (await world.store.read(rows.open_turns))[0].started_at
    await close_world(world)

    again = await make_world(tmp_path, limits, transport=world.transport)
    await again.dispatcher.recover()
    again.sleds.connect(project, runs=[])
    await again.next_run()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(again.sleds.stops.get(), 0.5)
    (turn,) = await again.store.read(rows.open_turns)
    assert 1.1 <= turn.waited_s <= time.time() - began - 0.5, "and not the time since it goes on"
    await close_world(again)


async def test_a_turn_that_was_given_up_while_it_was_parked_did_not_wait_longer(world: World) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 3600))
    await reads(world, "limit is reached")
    await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    assert (await world.store.read(lambda c: rows.by_id(c, 1))).waited_s < 5


async def test_a_longer_limit_behind_a_shorter_one_is_waited_for_too(world: World) -> None:
    began = time.time()
    world.admission.limit(began + 0.2)
    limit_account(world, began + 0.6)
    await world.activate(await world.project())
    await world.say("work", "m1")
    _, run = await world.next_run(3)
    assert run.prompt == "work"
    assert time.time() >= began + 0.6


@pytest.mark.parametrize("until", [1e300, 1.8e12])
async def test_an_end_of_a_limit_that_nobody_can_mean_is_none(world: World, until: float) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(until))
    await reads(world, "I'll continue at")
    stopped = await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    assert len(stopped.ended) == 1


async def test_a_turn_goes_on_with_the_permissions_of_then(world: World) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(time.time() + 0.4))
    await reads(world, "limit is reached")
    changed = RunSettings("demo", "scripted", "ask", isolated=False, model="small")
    world.settings = changed
    _, later = await world.next_run()
    assert (later.permissions, later.model) == ("ask", "small")


# --- budgets, once more ----------------------------------------------------------------------------------------------


async def test_what_is_no_answer_to_a_budget_is_for_the_agent(poor: World) -> None:
    await spend(poor, 5.0, "m1")
    await poor.say("more work", "m2")
    await reads(poor, "Continue")
    for number, text in enumerate(["also look at the logs", "okra is a vegetable", "nothing works", "5 tests fail"]):
        assert await answer(poor, text, f"a{number}") is None, text
    assert await poor.fate("m2") is Fate.QUEUED
    with pytest.raises(UserError, match="an amount"):
        await answer(poor, "answer 1 whatever", "a8")
    assert await answer(poor, "yes please", "a9") == ""
    assert (await poor.next_run())[1].prompt == "more work"


async def test_an_answer_to_a_budget_and_what_it_allows_are_one_transaction(
    poor: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant, refusals = budgets.grant, [StateError("full")]

    def refuse(*given: Any) -> None:
        if refusals:
            raise refusals.pop()
        grant(*given)

    monkeypatch.setattr(budgets, "grant", refuse)
    await spend(poor, 5.0, "m1")
    await poor.say("more work", "m2")
    await reads(poor, "Continue")
    with pytest.raises(StateError):
        await answer(poor, "yes", "a1")
    assert not any("✅" in text for text in poor.transport.texts), "nobody is told what did not happen"
    assert await answer(poor, "yes", "a2") == ""
    assert (await poor.next_run())[1].prompt == "more work"
    assert poor.admission.left(poor.projects["demo"]) == (5.0, 7.0)


async def test_nobody_is_asked_for_a_deleted_project(poor: World) -> None:
    await spend(poor, 5.0, "m1")
    await poor.say("more work", "m2")
    await reads(poor, "Continue")
    project = poor.projects["demo"]
    await poor.dispatcher.stop("demo was deleted.", project_id=project, conversations=[])
    await poor.dispatcher.forget(project)
    assert "Closed" in await reads(poor, "Closed")
    assert await answer(poor, "yes", "a1", Role.OPERATOR) is None
    assert poor.admission.left(project) == (0.0, 5.0)  # as another project of that number begins


def test_a_budgets_day_ends_at_midnight_also_when_the_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        noon = datetime.datetime(2025, 10, 26, 12).timestamp()
        monkeypatch.setattr(clock, "now", lambda: noon)
        assert admission_module._midnight(1) - admission_module._midnight() == 25 * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_a_limit_that_grows_while_a_turn_is_parked_is_waited_for(world: World) -> None:
    project, run = await begin(world)
    began = time.time()
    await world.sleds.say(project, run.run, limited(began + 0.2))
    await reads(world, "limit is reached")
    limit_account(world, began + 0.7)
    assert "build it" in (await world.next_run(3))[1].prompt
    assert time.time() >= began + 0.7


async def test_a_refused_key_is_told_once_also_where_nothing_can_be_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "KEY_AGAIN_S", 0.05)
    plain = Capabilities(max_text=2000, edits=False, edit_interval_s=0.0, idempotent=True, marks=False)
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=plain))
    project, run = await begin(world)
    for _ in range(3):
        await world.sleds.say(project, run.run, Finished(ending="failed", reason="model_key"))
        _, run = await world.next_run()
    assert await world.outbox.drain(5)
    assert len(world.transport.texts) == 1
    await close_world(world)


@pytest.mark.parametrize("world", [{"turn_s": 1.0}], indirect=True)
async def test_what_people_took_before_a_turn_was_parked_is_not_on_its_clock(world: World) -> None:
    project, run = await begin(world)
    permission = Question(id="q1", kind="permission", tool="Bash", arguments="{}")
    await world.sleds.say(project, run.run, permission)
    await reads(world, "May I use Bash?")
    await asyncio.sleep(1.1)  # longer than a turn may take
    await answer(world, "yes", "a1")
    await world.sleds.say(project, run.run, limited(time.time() + 0.1))
    await world.next_run()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.sleds.stops.get(), 0.4)
