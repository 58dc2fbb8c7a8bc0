"""The wall's clock is set, forwards and back, and the machine sleeps: deadlines hold, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway import clock
from gateway.asking import questions
from gateway.store import turns as rows
from gateway.testing import patience
from sled.protocol import Finished, Question, RunState
from tests.conftest import World, close_world, make_world
from tests.gateway.turns.test_admission import begin, limited, reads
from tests.support.wall_clock import WallClock


async def test_an_alarm_goes_off_after_a_step_forwards(wall_clock: WallClock) -> None:
    rang = asyncio.Event()
    clock.Alarm(clock.now() + 3600, rang.set)
    wall_clock.step(7200)
    await asyncio.wait_for(rang.wait(), 10 * patience())


async def test_an_alarm_never_goes_off_before_its_time(wall_clock: WallClock) -> None:
    rang: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    stamp = clock.now() + 0.2
    clock.Alarm(stamp, lambda: rang.set_result(clock.now()))
    wall_clock.step(-0.5)
    assert await asyncio.wait_for(rang, 10 * patience()) >= stamp


async def test_an_alarm_that_was_cancelled_is_quiet(wall_clock: WallClock) -> None:
    rang = list[str]()
    alarm = clock.Alarm(clock.now() + 0.05, lambda: rang.append("never"))
    alarm.cancel()
    later = asyncio.Event()
    clock.Alarm(clock.now() + 0.2, later.set)
    await later.wait()
    assert rang == []
    assert not alarm.waits


def test_a_time_from_the_future_was_no_time_ago(wall_clock: WallClock) -> None:
    assert clock.since(clock.now() + 7200) == 0.0
    # Began 12 s ago by the clock that nobody sets, whatever the wall says.
    assert 11 < clock.lasted(clock.now() - 7212, clock.boot_id(), clock.awake() - 12) < 13
    assert 11 < clock.lasted(clock.now() - 12, "another start", clock.awake() - 7212) < 13


def test_a_sleep_of_the_machine_is_no_work(monkeypatch: pytest.MonkeyPatch, wall_clock: WallClock) -> None:
    """The clock that stands still in it is asked, and not the one that goes on."""
    read = {time.CLOCK_MONOTONIC: 100.0, time.CLOCK_BOOTTIME: 7300.0}
    monkeypatch.setattr(time, "clock_gettime", read.__getitem__)
    began, at_awake = clock.now(), clock.awake()
    read[time.CLOCK_MONOTONIC], read[time.CLOCK_BOOTTIME] = 112.0, 7300.0 + 7212
    wall_clock.step(7212)
    assert clock.lasted(began, clock.boot_id(), at_awake) == 12


async def test_a_parked_turn_goes_on_after_a_step_back(world: World, wall_clock: WallClock) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(clock.now() + 0.3))
    await reads(world, "limit is reached")
    wall_clock.step(-1)
    _, later = await world.next_run(10)
    assert later.resume == "a1"


async def test_hours_that_a_clock_is_set_back_do_not_keep_a_parked_turn(world: World, wall_clock: WallClock) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(clock.now() + 0.3))
    await reads(world, "limit is reached")
    wall_clock.step(-7200)
    _, later = await world.next_run(10)
    assert later.resume == "a1"


async def test_nor_a_question(world: World, wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.dispatcher._questions, "timeout_s", 0.3)
    project, run = await begin(world)
    question = Question(id="q", kind="permission", tool="Bash", arguments="{}")
    await world.sleds.say(project, run.run, question)
    wall_clock.step(-7200)
    (asked,) = world.dispatcher._questions.everything()
    assert world.dispatcher._questions.left_s(asked) <= 0.3, "and that is what people are told"
    decision = await asyncio.wait_for(world.sleds.decisions.get(), 10 * patience())
    assert not decision.allow


async def test_nor_one_that_was_taken_up_meanwhile(
    tmp_path: Path, wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is moved on at a start, by whatever the clock says then."""
    monkeypatch.setattr(questions, "AFTER_RESTART_S", 0.3)
    world = await make_world(tmp_path)
    monkeypatch.setattr(world.dispatcher._questions, "timeout_s", 0.3)
    project, run = await begin(world)
    await world.sleds.say(project, run.run, Question(id="q", kind="permission", tool="Bash", arguments="{}"))
    await close_world(world)
    wall_clock.step(7200)
    again = await make_world(tmp_path, transport=world.transport)
    monkeypatch.setattr(again.dispatcher._questions, "timeout_s", 0.3)
    await again.dispatcher.recover()
    await again.dispatcher._questions.recover(lambda _: None)
    again.sleds.connect(project, runs=[RunState(run=run.run, last=1, finished=False)])
    wall_clock.step(0)
    decision = await asyncio.wait_for(again.sleds.decisions.get(), 10 * patience())
    assert not decision.allow
    await close_world(again)


async def test_a_machine_that_slept_goes_on_at_once(world: World, wall_clock: WallClock) -> None:
    project, run = await begin(world)
    await world.sleds.say(project, run.run, limited(clock.now() + 3600))
    await reads(world, "limit is reached")
    wall_clock.step(7200)
    await world.next_run()


async def test_a_turn_is_as_long_as_it_was_whatever_the_clock_says(tmp_path: Path, wall_clock: WallClock) -> None:
    world = await make_world(tmp_path)
    project, run = await begin(world)
    await close_world(world)
    wall_clock.step(7200)
    again = await make_world(tmp_path, transport=world.transport)
    await again.dispatcher.recover()
    again.sleds.connect(project, runs=[RunState(run=run.run, last=0, finished=False)])
    (turn,) = await again.store.read(rows.open_turns)
    assert turn.worked_s < 60
    assert clock.since(turn.started_at) > 7000
    await again.sleds.say(project, run.run, Finished(ending="answered", text="done"))
    await again.transport.until(lambda texts: "done" in texts)
    assert again.sleds.stops.empty(), "it was not ended for being too long"
    await close_world(again)


async def test_a_question_ends_at_its_time_also_when_the_machine_slept(tmp_path: Path, wall_clock: WallClock) -> None:
    world = await make_world(tmp_path, budget_usd=5.0)
    await world.activate(await world.project())
    began = time.monotonic()
    await world.say("work", "m1")
    project, run = await world.next_run()
    await world.sleds.say(project, run.run, Finished(ending="answered", text="ok", cost_usd=5.0))
    await world.settled("m1")
    await world.say("more", "m2")
    await reads(world, "Continue")
    wall_clock.step(25 * 3600)  # tomorrow, everybody has a new budget
    await world.next_run()
    assert time.monotonic() - began < 60 * patience()
    await close_world(world)
