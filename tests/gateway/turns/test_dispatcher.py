"""The dispatcher against a real database, with sleds that the test plays."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from gateway.chat import Attachment, Capabilities, Fate, Message, MessageRef, Reply
from gateway.errors import StateError
from gateway.store import Connection
from gateway.store import turns as turn_rows
from gateway.store.messages import COMPACT
from gateway.store.tables import messages, sessions, turns
from gateway.testing import FakeTransport, patience
from gateway.turns import progress
from sled.protocol import Finished, Run, RunState, Started, Steered, TextDelta, Tool, ToolDone
from tests.conftest import World, close_world, make_world
from tests.support.processes import until


async def started(world: World) -> int:
    project = await world.project()
    await world.activate(project)
    return project


async def test_messages_within_the_window_become_one_turn(world: World) -> None:
    project = await started(world)
    for number in range(3):
        await world.say(f"part {number}", f"m{number}")
    _, run = await world.next_run()
    assert run.prompt == "part 0\n\npart 1\n\npart 2"
    await world.sleds.finish(project, run, "all three")
    assert await world.settled("m2") is Fate.ANSWERED
    assert await world.transport.until(lambda texts: bool(texts)) == ["all three"]
    assert world.sleds.runs.empty()


@pytest.mark.parametrize("world", [{"window_s": 0.15, "window_max_s": 0.3}], indirect=True)
async def test_the_window_is_extended_but_not_for_ever(world: World) -> None:
    """Messages every 0.1 s never let a 0.15 s window close; its limit does, with what came until then."""
    project = await started(world)
    runs: list[Run] = []
    for number in range(8):
        await world.say(f"{number}", f"m{number}")
        await asyncio.sleep(0.1)  # this is the input's pace, not a wait for a result
    while not world.sleds.runs.empty() or len(" ".join(r.prompt for r in runs).split()) < 8:
        _, run = await world.next_run()
        runs.append(run)
        await world.sleds.finish(project, run)
    assert 2 <= len(runs[0].prompt.split()) <= 5
    assert " ".join(run.prompt for run in runs).split() == [str(n) for n in range(8)]


async def test_messages_during_a_run_go_together_when_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await started(world)
    await world.say("first", "m1")
    _, run = await world.next_run()
    await world.say("second", "m2")
    await world.say("third", "m3")
    await asyncio.sleep(0.15)  # longer than the window: nothing may start now
    assert world.sleds.runs.empty()
    assert await world.fate("m2") is Fate.QUEUED
    # From here on a window would take longer than the test waits: a batch that waited for a run needs none.
    monkeypatch.setattr(world.dispatcher._line, "_window_s", 60)
    monkeypatch.setattr(world.dispatcher._line, "_window_max_s", 60)
    await world.sleds.finish(project, run)
    _, after = await world.next_run()
    assert after.prompt == "second\n\nthird"
    await world.sleds.finish(project, after)
    assert await world.settled("m3") is Fate.ANSWERED


async def test_senders_are_named_when_several_wrote(world: World) -> None:
    await started(world)
    await world.say("red", "m1", sender="fake:ana")
    await world.say("blue", "m2", sender="fake:ben")
    _, run = await world.next_run()
    assert run.prompt == "Ana: red\n\nBen: blue"


async def test_a_session_never_has_two_runs_says_the_database(world: World) -> None:
    project = await started(world)
    await world.say("one", "m1")
    await world.next_run()
    key = world.key(project)

    def second(connection: Connection) -> None:
        session = connection.scalar(select(sessions.c.id).where(sessions.c.project_id == key.project_id))
        connection.execute(
            insert(turns).values(
                run="x",
                session_id=session,
                project_id=key.project_id,
                slot=1,
                agent="a",
                journal="j",
                requested_by="p",
                started_at=0.0,
            )
        )

    with pytest.raises(IntegrityError, match=r"turns\.session_id|uq_turns_open_session"):
        await world.store.write(second)


@pytest.mark.parametrize("world", [{"window_s": 0.0}], indirect=True)
async def test_a_burst_over_many_rooms_keeps_one_run_per_session_and_project(world: World) -> None:
    project = await world.project()
    rooms = [f"room{n}" for n in range(5)]
    for room in rooms:
        await world.activate(project, room)
    await asyncio.gather(*(world.say(f"{room} {n}", f"{room}-{n}", room=room) for room in rooms for n in range(10)))
    said: list[str] = []
    while len(said) < 50:
        _, run = await world.next_run()
        assert world.sleds.runs.empty(), "runs_per_project is 1"
        said += run.prompt.split("\n\n")
        await world.sleds.finish(project, run)
    assert len(set(said)) == 50
    for room in rooms:
        mine = [int(text.split()[1]) for text in said if text.startswith(f"{room} ")]
        assert mine == sorted(mine), "arrival order within a session"


@pytest.mark.parametrize("world", [{"window_s": 0.0, "runs": 2}], indirect=True)
async def test_places_are_given_first_come_first_served(world: World) -> None:
    ids = []
    for number in range(5):
        project = await world.project(f"p{number}")
        await world.activate(project, f"room{number}")
        ids.append(project)
    for number in range(5):
        await world.say(f"{number}", f"m{number}", room=f"room{number}")
    first = [await world.next_run(), await world.next_run()]
    assert [project for project, _ in first] == ids[:2]
    assert world.sleds.runs.empty()
    told = await world.transport.until(lambda texts: sum("in line" in text for text in texts) == 3)
    assert any("number 3 in line" in text for text in told)
    order: list[int] = []
    for project, run in first:
        await world.sleds.finish(project, run)
    while len(order) < 3:
        project, run = await world.next_run()
        order.append(project)
        await world.sleds.finish(project, run)
    assert order == ids[2:]


async def test_stop_in_the_window_discards_and_names(world: World) -> None:
    await started(world)
    await world.say("never mind this", "m1")
    stopped = await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    assert [m.text for m in stopped.discarded] == ["never mind this"]
    assert "never mind this" in stopped.told
    assert await world.fate("m1") is Fate.DISCARDED
    await asyncio.sleep(world.dispatcher._limits.window_s * 2)
    assert world.sleds.runs.empty()


async def test_stop_in_run_and_queue(world: World) -> None:
    project = await started(world)
    await world.say("work", "m1")
    _, run = await world.next_run()
    await world.say("later", "m2")
    stopping = asyncio.create_task(world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id]))
    stop = await asyncio.wait_for(world.sleds.stops.get(), 2 * patience())
    assert stop.run == run.run
    assert await world.fate("m1") is Fate.RUNNING, "free only once the sled says that the processes are gone"
    await world.sleds.say(project, run.run, Finished(ending="interrupted", reason="stopped"))
    stopped = await stopping
    assert [m.text for m in stopped.discarded] == ["later"]
    assert len(stopped.ended) == 1
    assert (await world.fate("m1"), await world.fate("m2")) == (Fate.INTERRUPTED, Fate.DISCARDED)
    await world.say("next", "m3")
    _, after = await world.next_run()
    assert after.prompt == "next"


@pytest.mark.parametrize("world", [{"mode": "interrupt"}], indirect=True)
async def test_mode_interrupt_ends_the_run_first(world: World) -> None:
    project = await started(world)
    await world.say("old", "m1")
    _, run = await world.next_run()
    await world.say("new", "m2")
    stop = await asyncio.wait_for(world.sleds.stops.get(), 2 * patience())
    assert stop.run == run.run
    assert world.sleds.runs.empty()
    await world.sleds.say(project, run.run, Finished(ending="interrupted", reason="stopped"))
    _, after = await world.next_run()
    assert after.prompt == "new"
    assert await world.settled("m1") is Fate.INTERRUPTED


@pytest.mark.parametrize("world", [{"mode": "steer"}], indirect=True)
async def test_mode_steer_hands_in_and_falls_back_to_the_queue(world: World) -> None:
    project = await started(world)
    await world.say("start", "m1")
    _, run = await world.next_run()
    await world.say("steered", "m2")
    steer = await asyncio.wait_for(world.sleds.steers.get(), 2 * patience())
    assert (steer.run, steer.text) == (run.run, "steered")
    await world.sleds.say(project, run.run, Steered(message=steer.message))
    await world.say("too late", "m3")
    await asyncio.wait_for(world.sleds.steers.get(), 2 * patience())
    await world.sleds.finish(project, run)
    assert await world.settled("m2") is Fate.ANSWERED
    _, after = await world.next_run()
    assert after.prompt == "too late", "what the agent did not take goes as the next batch"


@pytest.mark.parametrize("world", [{"queue": 3}], indirect=True)
async def test_a_full_queue_refuses_visibly(world: World) -> None:
    await started(world)
    await world.say("run", "m0")
    await world.next_run()
    for number in range(1, 6):
        await world.say(f"{number}", f"m{number}")
    assert await world.settled("m4") is Fate.REFUSED
    assert await world.settled("m5") is Fate.REFUSED
    assert await world.fate("m3") is Fate.QUEUED
    texts = await world.transport.until(lambda texts: sum("queue is full" in t for t in texts) == 2)
    assert "3 messages" in texts[0]


@pytest.mark.parametrize("world", [{"silence_s": 0.1}], indirect=True)
async def test_a_silent_run_is_ended_and_reported_but_not_during_a_tool(world: World) -> None:
    project = await started(world)
    await world.say("go", "m1")
    _, run = await world.next_run()
    await world.sleds.say(project, run.run, Started(agent_session="a"))
    await world.sleds.say(project, run.run, Tool(id="t", name="Bash", detail="sleep"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.sleds.stops.get(), 0.4)
    await world.sleds.say(project, run.run, ToolDone(id="t"))
    await asyncio.wait_for(world.sleds.stops.get(), 2 * patience())
    await world.sleds.say(project, run.run, Finished(ending="interrupted", reason="stopped"))
    texts = await world.transport.until(lambda texts: bool(texts))
    assert "silent for" in texts[-1]
    assert "`retry`" in texts[-1]


@pytest.mark.parametrize("world", [{"turn_s": 0.1}], indirect=True)
async def test_a_run_past_its_limit_is_ended(world: World) -> None:
    project = await started(world)
    await world.say("go", "m1")
    _, run = await world.next_run()
    await world.sleds.say(project, run.run, Tool(id="t", name="Bash"))
    await asyncio.wait_for(world.sleds.stops.get(), 2 * patience())
    await world.sleds.say(project, run.run, Finished(ending="interrupted", reason="stopped"))
    texts = await world.transport.until(lambda texts: bool(texts))
    assert "took longer than" in texts[-1]


async def test_retry_is_a_new_turn_over_the_same_batch(world: World) -> None:
    project = await started(world)
    await world.say("fragile", "m1")
    _, run = await world.next_run()
    await world.sleds.say(project, run.run, Finished(ending="interrupted", reason="crashed"))
    assert await world.settled("m1") is Fate.INTERRUPTED
    texts = await world.transport.until(lambda texts: bool(texts))
    assert "`retry`" in texts[-1]
    assert world.sleds.runs.empty(), "never silently repeated"
    await world.dispatcher.retry(world.key(project))
    _, again = await world.next_run()
    assert (again.prompt, again.run == run.run) == ("fragile", False)
    await world.sleds.finish(project, again)
    assert await world.settled("m1") is Fate.ANSWERED


async def test_an_edit_of_a_waiting_message_replaces_it_and_a_later_one_does_not(world: World) -> None:
    project = await started(world)
    await world.say("teh text", "m1")
    edit = world.transport.message("the text", "e1")
    await world.inbox.accept("fake", [_editing(edit, "m1")], None)
    _, run = await world.next_run()
    assert run.prompt == "the text"
    await world.inbox.accept("fake", [_editing(edit, "m1", text="too late")], None)
    await world.sleds.finish(project, run)
    await world.settled("m1")
    stored = await world.store.read(lambda c: c.scalar(select(messages.c.text).where(messages.c.external_id == "m1")))
    assert stored == "the text"
    assert world.sleds.runs.empty()


def _editing(message: Message, target: str, text: str | None = None) -> Message:
    return replace(message, edits=target, text=text or message.text)


async def test_an_unknown_run_is_sent_again_and_a_held_one_is_not(world: World) -> None:
    """The gateway loses its memory between claim and send: the sled's hello decides."""
    project = await started(world)
    await world.say("one", "m1")
    _, run = await world.next_run()
    world.sleds.disconnect(project)
    world.sleds.connect(project, journal="j1", runs=[])
    _, again = await world.next_run()
    assert again == run, "the very same frame"
    world.sleds.disconnect(project)
    world.sleds.connect(project, journal="j1", runs=[RunState(run=run.run, last=1, finished=False)])
    assert world.sleds.runs.empty()
    await world.sleds.finish(project, run)
    assert await world.settled("m1") is Fate.ANSWERED


async def test_a_lost_journal_interrupts(world: World) -> None:
    project = await started(world)
    await world.say("one", "m1")
    await world.next_run()
    world.sleds.disconnect(project)
    world.sleds.connect(project, journal="another", runs=[])
    assert await world.settled("m1") is Fate.INTERRUPTED
    assert world.sleds.runs.empty()


async def test_a_replayed_finish_answers_once(world: World) -> None:
    project = await started(world)
    await world.say("one", "m1")
    _, run = await world.next_run()
    await world.sleds.finish(project, run, "answer")
    await world.settled("m1")
    await world.sleds.finish(project, run, "answer")
    await world.say("two", "m2")
    _, second = await world.next_run()
    await world.sleds.finish(project, second, "other")
    assert await world.transport.until(lambda texts: "other" in texts) == ["answer", "other"]


async def test_another_projects_sled_cannot_finish_a_run(world: World) -> None:
    project = await started(world)
    stranger = await world.project("stranger")
    await world.say("one", "m1")
    _, run = await world.next_run()
    await world.sleds.say(stranger, run.run, Finished(ending="answered", text="forged"))
    assert await world.fate("m1") is Fate.RUNNING
    world.sleds._numbers.clear()
    await world.sleds.finish(project, run, "true")
    assert await world.transport.until(lambda texts: bool(texts)) == ["true"]


async def test_a_new_process_takes_up_windows_queue_and_runs(tmp_path: Path) -> None:
    """What a killed gateway leaves in the database is all that the next one needs."""
    first = await make_world(tmp_path)
    project = await started(first)
    await first.activate(project, "other")
    await first.say("running", "m1")
    _, run = await first.next_run()
    await first.say("queued behind", "m2")
    await first.say("in its window", "m3", room="other")
    await first.store.read(lambda c: None)
    await close_world(first)

    second = await make_world(tmp_path)
    await second.dispatcher.recover()
    second.sleds.connect(project, runs=[RunState(run=run.run, last=0, finished=False)])
    await second.sleds.finish(project, run, "from before")
    prompts = []
    for _ in range(2):
        _, later = await second.next_run()
        prompts.append(later.prompt)
        await second.sleds.finish(project, later, f"re: {later.prompt}")
    texts = await second.transport.until(lambda texts: sum(text.startswith("re:") for text in texts) == 2)
    assert sorted(prompts) == ["in its window", "queued behind"]
    assert sorted(texts) == ["from before", "re: in its window", "re: queued behind"]
    await close_world(second)


async def test_idle_sessions_leave_nothing_in_memory(world: World) -> None:
    project = await started(world)
    for number in range(20):
        await world.activate(project, f"r{number}")
        await world.say("hi", f"m{number}", room=f"r{number}")
        _, run = await world.next_run()
        await world.sleds.finish(project, run)
        await world.settled(f"m{number}")
    dispatcher = world.dispatcher
    assert not list(dispatcher._line.sessions)
    assert dispatcher.load == (0, 0)
    assert not dispatcher._starting
    assert await world.outbox.drain(5)
    await asyncio.gather(*dispatcher._tasks._running)
    assert not dispatcher._tasks._running


@pytest.mark.parametrize("world", [{"window_s": 0.0, "runs": 1}], indirect=True)
async def test_a_long_line_costs_no_edit_storm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 60 sessions is told its place once when it joins, and again only near the head of the line."""
    ids = {}
    for number in range(60):
        project = await world.project(f"p{number}")
        await world.activate(project, f"room{number}")
        ids[number] = project
    edits = 0
    original = world.transport.edit

    async def counted(ref: MessageRef, reply: Reply, key: str) -> None:
        nonlocal edits
        edits += 1
        await original(ref, reply, key)

    monkeypatch.setattr(world.transport, "edit", counted)
    for number in range(60):
        await world.say(f"{number}", f"m{number}", room=f"room{number}")
    order: list[int] = []
    while len(order) < 60:
        project, run = await world.next_run()
        order.append(project)
        await world.sleds.finish(project, run)
    assert order == [ids[n] for n in range(60)]
    assert await world.outbox.drain(10)
    assert edits < 60 * 30
    assert sum(text == "done" for text in world.transport.texts) == 60


async def test_progress_is_one_message_that_becomes_the_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.05)
    project = await started(world)
    await world.say("go", "m1")
    _, run = await world.next_run()
    await world.transport.until(lambda texts: len(texts) == 1 and "Working" in texts[0])
    await world.sleds.say(project, run.run, Tool(id="t", name="Bash", detail="pytest -q"))
    await world.transport.until(lambda texts: "› `Bash pytest -q`" in texts[0])
    await world.sleds.say(project, run.run, ToolDone(id="t", failed=True))
    await world.transport.until(lambda texts: "(failed)" in texts[0])
    await world.sleds.say(project, run.run, TextDelta(delta="half an ans"))
    await world.transport.until(lambda texts: "half an ans" in texts[0])
    await world.sleds.finish(project, run, "the answer")
    assert await world.transport.until(lambda texts: texts == ["the answer"])


async def test_a_quick_turn_shows_no_progress(world: World) -> None:
    project = await started(world)
    await world.say("go", "m1")
    _, run = await world.next_run()
    await world.sleds.finish(project, run, "quick")
    await world.settled("m1")
    assert await world.outbox.drain(5)
    assert len(world.transport.calls) == 1


async def test_a_restart_goes_on_with_the_same_live_message(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.01)
    shutil.copy(empty_database, tmp_path / "huskies.db")
    first = await make_world(tmp_path)
    project = await started(first)
    await first.say("go", "m1")
    _, run = await first.next_run()
    await first.transport.until(lambda texts: bool(texts))
    assert await first.outbox.drain(5)
    await close_world(first)
    second = await make_world(tmp_path, transport=first.transport)
    await second.dispatcher.recover()
    second.sleds.connect(project, runs=[RunState(run=run.run, last=0, finished=False)])
    await second.sleds.finish(project, run, "the answer")
    assert await second.transport.until(lambda texts: texts == ["the answer"])
    await close_world(second)


async def test_a_sled_cannot_take_another_projects_message(world: World) -> None:
    project = await started(world)
    other = await world.project("other")
    await world.activate(other, "elsewhere")
    await world.say("mine", "m1")
    _, run = await world.next_run()
    await world.say("theirs", "m2", room="elsewhere")
    theirs = next(m.id for m in world.accepted if m.external_id == "m2")
    await world.sleds.say(project, run.run, Steered(message=theirs))
    _, second = await world.next_run()
    assert second.prompt == "theirs"


async def test_a_batch_that_no_frame_could_carry_is_refused_visibly(world: World) -> None:
    await started(world)
    await world.say("run", "m0")
    await world.next_run()
    for number in range(1, 8):
        await world.say("x" * 99_000, f"m{number}")
    assert await world.settled("m7") is Fate.REFUSED
    assert await world.fate("m5") is Fate.QUEUED
    assert "500,000 characters" in (await world.transport.until(lambda texts: bool(texts)))[-1]


# --- messages that stand alone, or cannot be handed in ---------------------------------------------------------------


async def test_what_was_written_around_a_compact_goes_to_the_agent_too(world: World) -> None:
    project = await started(world)
    for number, text in enumerate(["first", COMPACT, "then this"], 1):
        await world.say(text, f"m{number}")
    for expected in ("first", COMPACT, "then this"):
        _, run = await world.next_run()
        assert run.prompt == expected
        await world.sleds.finish(project, run)
    assert await world.settled("m3") is Fate.ANSWERED


@pytest.mark.parametrize("world", [{"mode": "steer"}], indirect=True)
async def test_what_cannot_be_steered_waits_for_a_turn_of_its_own(world: World) -> None:
    project = await started(world)
    await world.say("first", "m1")
    _, run = await world.next_run()
    photo = Attachment("photo.png", "image/png", 3, "ref1")
    await world.inbox.accept("fake", [replace(world.transport.message("look", "m2"), files=(photo,))], None)
    world.dispatcher.submit(world.accepted[-1], project)
    await world.say(COMPACT, "m3")
    await world.say("and this", "m4")
    steer = await asyncio.wait_for(world.sleds.steers.get(), 2 * patience())
    assert steer.text == "and this"
    await world.sleds.finish(project, run)
    _, later = await world.next_run()
    assert [file.name for file in later.files] == ["photo.png"]


async def test_what_the_database_refused_is_queued_later_in_the_same_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.tasks.RETRY_S", 0.01)
    project = await started(world)
    await world.inbox.accept("fake", [world.transport.message("prompt stop", "m1")], None)
    refuse_next_write(world, monkeypatch)
    world.dispatcher.submit(world.accepted[0], project, "stop")
    _, run = await world.next_run()
    assert run.prompt == "stop"


def refuse_next_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database refuses one write."""
    write = world.store.write

    def refuse(unit: Any) -> asyncio.Future[Any]:
        monkeypatch.setattr(world.store, "write", write)
        refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refused.set_exception(StateError("the disk is full"))
        return refused

    monkeypatch.setattr(world.store, "write", refuse)


async def test_a_project_that_is_away_holds_up_nobody_behind_it(world: World) -> None:
    away = await started(world)
    other = await world.project("other")
    await world.activate(other, room="elsewhere")
    world.sleds.disconnect(away)
    await world.say("one", "m1")
    await world.transport.until(lambda texts: any("Waiting for the project to come up" in text for text in texts))
    await world.say("two", "m2", room="elsewhere")
    assert (await world.next_run())[0] == other
    world.sleds.connect(away)
    assert (await world.next_run())[1].prompt == "one"


@pytest.mark.parametrize("edits", [True, False])
async def test_whoever_waits_for_long_is_told_why_once_and_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edits: bool
) -> None:
    monkeypatch.setattr("gateway.turns.dispatcher.AWAY_TOLD_S", 0.05)
    how = Capabilities(max_text=2000, edits=edits, edit_interval_s=0.0, idempotent=True, marks=False)
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=how))
    project = await started(world)
    world.sleds.disconnect(project)
    await world.say("one", "m1")
    await world.say("two", "m2")
    await world.store.read(lambda c: None)
    assert not any("because" in text for text in world.transport.texts), "nobody knows why yet"
    world.sleds.troubles[project] = "its source is gone."
    told = "Waiting for the project to come up: its source is gone."
    await world.transport.until(lambda texts: any(told in text for text in texts))
    world.dispatcher.fill()
    world.sleds.connect(project)
    _, run = await world.next_run()
    await world.sleds.finish(project, run)
    await world.settled("m1")
    texts = await world.transport.until(lambda texts: "done" in texts)
    if edits:
        assert not any("Waiting" in text for text in texts), "the answer took its place"
    else:
        assert texts == [told, "The project is up again. I'll continue.", "done"]
    await close_world(world)


async def test_what_is_stopped_while_its_turn_could_not_begin_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.turns.dispatcher._AGAIN_S", (0.2, 0.2))
    failed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    project = await started(world)
    await world.say("never", "m1")
    await world.store.read(lambda c: None)
    refuse_next_write(world, monkeypatch)  # the claim
    while project not in {key.project_id for key in world.dispatcher._starting}:
        await asyncio.sleep(0)
    while world.dispatcher._starting:
        await asyncio.sleep(0)
    stopped = await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    assert [message.text for message in stopped.discarded] == ["never"]
    await asyncio.sleep(0.3)  # when it would have been tried again
    assert failed == []
    await world.say("this one", "m2")
    assert (await world.next_run())[1].prompt == "this one"


async def test_a_stop_that_the_database_refused_leaves_what_waits_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await started(world)
    world.sleds.disconnect(project)
    await world.say("wait", "m1")
    await world.transport.until(lambda texts: any("to come up" in text for text in texts))
    refuse_next_write(world, monkeypatch)
    with pytest.raises(StateError):
        await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    world.sleds.connect(project)
    assert (await world.next_run())[1].prompt == "wait"


@pytest.mark.parametrize("world", [{"mode": "steer"}], indirect=True)
async def test_what_is_steered_are_the_words_for_the_agent(world: World) -> None:
    """`prompt ls` says `ls` to it; `compact` is nothing to say in the middle of a run, whatever it was typed as."""
    project = await started(world)
    await world.say("first", "m1")
    await world.next_run()
    for external_id, text, words in (("m2", "prompt ls", "ls"), ("m3", "compact", COMPACT), ("m4", "and this", None)):
        await world.inbox.accept("fake", [world.transport.message(text, external_id)], None)
        world.dispatcher.submit(world.accepted[-1], project, words)
    steers = [await asyncio.wait_for(world.sleds.steers.get(), 5 * patience()) for _ in range(2)]
    assert [steer.text for steer in steers] == ["ls", "and this"]
    assert await world.fate("m3") is Fate.QUEUED


async def test_a_claim_that_fails_unforeseen_loses_neither_the_session_nor_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.turns.dispatcher._AGAIN_S", (0.05, 0.05))
    project = await started(world)
    claim, failures = turn_rows.claim, [IntegrityError("INSERT", None, Exception("UNIQUE")), ValueError("odd")]

    def odd(*what: Any, **how: Any) -> Any:
        if failures:
            raise failures.pop()
        return claim(*what, **how)

    monkeypatch.setattr(turn_rows, "claim", odd)
    await world.say("first", "m1")
    await until(lambda: not failures)
    _, run = await world.next_run()
    assert run.prompt == "first"
    assert not world.dispatcher.problem
    await world.sleds.finish(project, run)
    await world.say("second", "m2")
    assert (await world.next_run())[1].prompt == "second"


async def test_a_session_that_cannot_begin_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await started(world)
    monkeypatch.setattr(turn_rows, "claim", lambda *_, **__: 1 / 0)
    await world.say("first", "m1")
    await until(lambda: bool(world.dispatcher.problem))
    assert "sessions: 1" in world.dispatcher.problem
    await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    assert not world.dispatcher.problem


async def test_a_turn_that_cannot_be_told_to_its_sled_fails_and_frees_its_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await started(world)
    monkeypatch.setattr("gateway.turns.runs.compose", lambda *_: 1 / 0)
    await world.say("first", "m1")
    assert await world.settled("m1") is Fate.FAILED
    monkeypatch.undo()
    await world.say("second", "m2")
    _, run = await world.next_run()
    assert run.prompt == "second"
    await world.sleds.finish(project, run)
    assert await world.settled("m2") is Fate.ANSWERED


# --- that it is done is told -----------------------------------------------------------------------------------------


async def shown(world: World, project: int, monkeypatch: pytest.MonkeyPatch, *, direct: bool = True) -> Run:
    """A turn of Ana's whose live message people see."""
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.0)
    await world.say("do it", "m1", direct=direct)
    _, run = await world.next_run()
    await world.sleds.say(project, run.run, Tool(id="t1", name="Bash"))
    await world.transport.until(lambda texts: any("⏳" in text for text in texts))
    return run


@pytest.mark.parametrize("world", [{"told_after_s": 0.0}], indirect=True)
async def test_a_turn_that_took_long_ends_with_a_new_message_that_rings(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await started(world)
    run = await shown(world, project, monkeypatch)
    await world.sleds.finish(project, run, "the answer")
    told = await world.transport.until(lambda texts: len(texts) == 2 and "⏳" not in texts[0])
    assert told == ["✔ 0 s, 1 tool", "the answer"]
    assert world.transport.rang == [("the answer", ())], "the room is hers alone"


@pytest.mark.parametrize("world", [{"told_after_s": 0.0}], indirect=True)
async def test_in_a_room_of_several_whoever_asked_is_called(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await started(world)
    run = await shown(world, project, monkeypatch, direct=False)
    await world.sleds.say(project, run.run, Finished(ending="failed", error="no"))
    await world.transport.until(lambda texts: len(texts) == 2 and texts[0].startswith("✖"))
    ((_, called),) = world.transport.rang
    assert called == ("ana",)


async def test_a_short_turn_stays_one_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await started(world)
    run = await shown(world, project, monkeypatch)
    await world.sleds.finish(project, run, "the answer")
    assert await world.transport.until(lambda texts: "the answer" in texts) == ["the answer"]
    assert world.transport.rang == []


async def test_where_people_wrote_meanwhile_the_answer_is_below_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await started(world)
    run = await shown(world, project, monkeypatch)
    await world.say("and then that", "m2")
    await world.sleds.finish(project, run, "the answer")
    told = await world.transport.until(lambda texts: "the answer" in texts)
    assert told[0].startswith("✔") or "⏳" in told[0]
    assert told.index("the answer") > 0


async def test_our_own_lines_are_no_markup(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await started(world)
    run = await shown(world, project, monkeypatch)
    await world.sleds.say(project, run.run, Tool(id="t2", name="Edit", detail="src/pkg/__init__.py"))
    await world.transport.until(lambda texts: "› `Edit src/pkg/__init__.py`" in texts[0])
    await world.say("look at __init__.py and *.py", "m2")
    stopped = await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    assert r"“look at \_\_init\_\_.py and \*.py”" in stopped.told
