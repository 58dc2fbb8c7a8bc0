"""A conversation and a project's turns, as they read."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, update

from gateway.chat import Conversation
from gateway.store import conversations, timeline
from gateway.store.tables import messages, outbox, turns
from gateway.store.timeline import Entry, Place
from sled.protocol import Finished
from tests.conftest import World

HERE = Conversation("fake", "room")


async def told(world: World, project: int, text: str, **end: object) -> None:
    """A turn that is over."""
    await world.say(text, text)
    _, run = await world.next_run()
    await world.sleds.say(project, run.run, Finished(**{"ending": "answered", **end}))  # type: ignore[arg-type]
    await world.settled(text)


@pytest.mark.parametrize("is_one_moment", [False, True])
async def test_pages_are_the_whole_in_order(world: World, is_one_moment: bool) -> None:
    project = await world.project()
    await world.activate(project)
    for number in range(7):
        await told(world, project, f"m{number}")

    def read(connection: Connection) -> tuple[list[Entry], list[Entry]]:
        if is_one_moment:
            connection.execute(update(messages).values(received_at=1000.1))
            connection.execute(update(outbox).values(created_at=1000.1))
        here = conversations.find(connection, HERE)
        assert here is not None
        whole = timeline.newest(connection, here.id, 100)
        pages: list[Entry] = []
        before = None
        while page := timeline.newest(connection, here.id, 3, before):
            pages = [*page, *pages]
            before = Place.of(page[0])
        return whole, pages

    whole, pages = await world.store.write(read)
    assert pages == whole
    assert len(whole) == 14


async def test_turns_read_newest_first_and_those_that_failed_need_somebody(world: World) -> None:
    project, other = await world.project("one"), await world.project("two")
    await world.activate(project)
    await told(world, project, "works", cost_usd=0.25, tools={"Bash": 2})
    await told(world, project, "fails", ending="failed", error="no")
    await world.activate(other)
    await told(world, other, "is stopped", ending="interrupted", reason="stopped")
    first, second = await world.store.read(lambda c: timeline.turns_of(c, project, 10))
    assert (first.text, first.ending, first.error, first.more) == ("fails", "failed", "no", 0)
    assert (second.text, second.usd, second.tools, second.room) == ("works", 0.25, {"Bash": 2}, HERE)
    assert second.seconds is not None
    (older,) = await world.store.read(lambda c: timeline.turns_of(c, project, 10, before=first.id))
    assert older == second
    failed = await world.store.read(lambda c: timeline.failed(c, 0.0))
    assert [turn.text for turn in failed] == ["fails"], "what people stopped needs nobody"
    assert await world.store.read(lambda c: timeline.failed(c, first.began_at + 1)) == []
    await world.activate(project)
    await told(world, project, "works again")
    assert await world.store.read(lambda c: timeline.failed(c, 0.0)) == []


async def test_a_turn_outlives_the_words_that_it_was_about(world: World) -> None:
    project = await world.project()
    await world.activate(project)
    await told(world, project, "gone")
    await world.store.write(lambda c: c.execute(update(messages).values(turn_id=None)))
    (turn,) = await world.store.read(lambda c: timeline.turns_of(c, project, 10))
    assert (turn.text, turn.name, turn.more) == ("", "", 0)
    assert turn.id == await world.store.read(lambda c: c.execute(turns.select()).one().id)
