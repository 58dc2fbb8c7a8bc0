"""Agents that are started while people still write, and windows that end when they have stopped typing."""

from __future__ import annotations

import asyncio

import pytest

from gateway.chat import Conversation, Fate
from gateway.store import messages
from gateway.testing import patience
from sled.protocol import Cool, Run, Warm
from tests.conftest import World

ROOM = Conversation("fake", "room")
#: A window that no test waits for.
LONG = pytest.mark.parametrize("world", [{"window_s": 60.0, "window_max_s": 60.0}], indirect=True)


def told(world: World, kind: type[Warm] | type[Cool]) -> list[Warm | Cool]:
    return [frame for _, frame in world.sleds.frames if isinstance(frame, kind)]


async def until_told(world: World, kind: type[Warm] | type[Cool], count: int = 1) -> list[Warm | Cool]:
    async with asyncio.timeout(10 * patience()):
        while len(told(world, kind)) < count:
            await world.store.read(lambda c: None)
    return told(world, kind)


async def settle(world: World) -> None:
    """Let whatever could happen by now happen."""
    for _ in range(20):
        await world.store.write(lambda c: None)


@pytest.fixture
async def project(world: World) -> int:
    made = await world.project()
    await world.activate(made)
    return made


@LONG
async def test_an_agent_is_started_when_its_window_opens(world: World, project: int) -> None:
    await world.say("first", "m1")
    (warm,) = await until_told(world, Warm)
    await world.say("second", "m2")
    await settle(world)
    assert told(world, Warm) == [warm], "once for a window"
    assert world.sleds.runs.empty()
    world.dispatcher.typing(ROOM, ["fake:ana"])
    world.dispatcher.typing(ROOM, [])
    _, run = await world.next_run()
    assert isinstance(warm, Warm)
    assert (warm.session, warm.agent, warm.resume) == (run.session, run.agent, run.resume)
    assert told(world, Cool) == []
    await world.sleds.finish(project, run)
    await world.settled("m2")
    world.dispatcher.typing(ROOM, ["fake:ana"])  # else the window could be over before a slow disk has taken this
    await world.say("third", "m3")
    (_, later) = await until_told(world, Warm, 2)
    assert isinstance(later, Warm)
    assert later.resume == "a1", "the dialogue of before"


@LONG
async def test_stop_in_the_window_ends_what_was_started(world: World, project: int) -> None:
    await world.say("first", "m1")
    (warm,) = await until_told(world, Warm)
    await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    (cool,) = await until_told(world, Cool)
    assert cool.session == warm.session
    await world.say("second", "m2")
    await until_told(world, Warm, 2)


@LONG
async def test_what_is_withdrawn_in_the_window_ends_what_was_started(world: World, project: int) -> None:
    await world.say("first", "m1")
    await until_told(world, Warm)
    await world.store.write(lambda c: messages.set_fate(c, [world.accepted[0].id], Fate.DISCARDED))
    world.dispatcher.typing(ROOM, ["fake:ana"])
    world.dispatcher.typing(ROOM, [])
    await until_told(world, Cool)


@pytest.mark.parametrize("world", [{"window_s": 60.0, "window_max_s": 60.0, "runs": 1}], indirect=True)
async def test_what_is_started_ahead_takes_a_place(world: World, project: int) -> None:
    other = await world.project("other")
    await world.activate(other, "elsewhere")
    await world.say("first", "m1")
    await until_told(world, Warm)
    await world.say("second", "m2", room="elsewhere")
    await settle(world)
    assert len(told(world, Warm)) == 1, "there is no place for it"
    world.dispatcher.typing(Conversation("fake", "elsewhere"), ["fake:ana"])
    world.dispatcher.typing(Conversation("fake", "elsewhere"), [])
    await world.transport.until(lambda texts: any("number 1 in line" in text for text in texts))
    assert world.sleds.runs.empty(), "the other session came first"
    await world.dispatcher.stop("Stopped.", conversations=[world.accepted[0].conversation_id])
    assert (await world.next_run())[0] == other


@LONG
async def test_nothing_is_started_while_something_holds_the_session(world: World, project: int) -> None:
    world.admission.refusal = lambda _: "the model key was refused"
    await world.say("first", "m1")
    await settle(world)
    assert told(world, Warm) == []


@LONG
async def test_nothing_is_started_for_a_project_that_is_away(world: World, project: int) -> None:
    world.sleds.disconnect(project)
    await world.say("first", "m1")
    await settle(world)
    assert told(world, Warm) == []


@pytest.mark.parametrize("world", [{"window_s": 0.0}], indirect=True)
async def test_without_a_window_there_is_nothing_to_hide_behind(world: World, project: int) -> None:
    await world.say("first", "m1")
    await world.next_run()
    assert told(world, Warm) == []


# --- typing ----------------------------------------------------------------------------------------------------------


@LONG
async def test_a_window_ends_when_who_wrote_in_it_stopped_typing(world: World, project: int) -> None:
    world.dispatcher.typing(ROOM, ["fake:ana"])
    await world.say("first", "m1")
    await settle(world)
    assert world.sleds.runs.empty()
    world.dispatcher.typing(ROOM, [])
    assert (await world.next_run())[1].prompt == "first"


@LONG
async def test_one_who_stopped_just_before_the_message_came_counts(world: World, project: int) -> None:
    """A client tells of it with the message; which of both comes first is the homeserver's choice."""
    world.dispatcher.typing(ROOM, ["fake:ana"])
    world.dispatcher.typing(ROOM, [])
    await world.say("first", "m1")
    assert (await world.next_run())[1].prompt == "first"


@LONG
async def test_whoever_types_on_is_waited_for(world: World, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.turns.line.AFTER_TYPING_S", 0.05)
    world.dispatcher.typing(ROOM, ["fake:ana"])
    await world.say("first", "m1")
    world.dispatcher.typing(ROOM, [])
    world.dispatcher.typing(ROOM, ["fake:ana"])
    await asyncio.sleep(0.2)
    assert world.sleds.runs.empty()
    await world.say("second", "m2")
    world.dispatcher.typing(ROOM, [])
    assert (await world.next_run())[1].prompt == "first\n\nsecond"


@LONG
async def test_only_those_who_wrote_in_the_window_count(
    world: World, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's typing says nothing; and of one whose client never tells, nobody knows."""
    monkeypatch.setattr("gateway.turns.line.AFTER_TYPING_S", 0.01)
    await world.say("first", "m1")
    world.dispatcher.typing(ROOM, ["fake:ben"])
    world.dispatcher.typing(ROOM, [])
    await asyncio.sleep(0.1)
    assert world.sleds.runs.empty()
    await world.say("me too", "m2", sender="fake:ben")
    await asyncio.sleep(0.1)
    assert world.sleds.runs.empty(), "ana may be writing"
    world.dispatcher.typing(ROOM, ["fake:ana", "fake:eve"])
    world.dispatcher.typing(ROOM, ["fake:eve"])
    _, run = await world.next_run()
    assert isinstance(run, Run)


@pytest.mark.parametrize("world", [{"window_s": 0.1, "window_max_s": 0.2}], indirect=True)
async def test_typing_makes_no_window_longer(world: World, project: int) -> None:
    world.dispatcher.typing(ROOM, ["fake:ana"])
    await world.say("first", "m1")
    world.dispatcher.typing(ROOM, ["fake:ana"])
    assert (await world.next_run())[1].prompt == "first"


@LONG
async def test_what_is_known_of_who_types_is_forgotten(
    world: World, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.turns.line._RECENT_S", 0.0)
    for number in range(10):
        there = Conversation("fake", f"room{number}")
        world.dispatcher.typing(there, ["fake:ana"])
        world.dispatcher.typing(there, [])
    assert world.dispatcher._line._typing == {}
    assert len(world.dispatcher._line._stopped) == 1
