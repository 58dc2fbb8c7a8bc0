"""Rooms that become other ones: what was agreed holds, and what could not be said is said there."""

from __future__ import annotations

from gateway.chat import Conversation, Move
from gateway.store import conversations
from gateway.store import outbox as rows
from gateway.store.conversations import Destination, StoredConversation
from tests.conftest import World

OLD, NEW = Conversation("fake", "room"), Conversation("fake", "new")


async def found(world: World, conversation: Conversation) -> StoredConversation:
    """What the store knows of a conversation that it knows."""
    stored = await world.store.read(lambda c: conversations.find(c, conversation))
    assert stored is not None
    return stored


async def test_project_and_session_go_along(world: World) -> None:
    project = await world.project()
    await world.activate(project)
    await world.say("before", "m1")
    _, run = await world.next_run()
    await world.inbox.accept("fake", [Move(OLD, NEW)], None)
    await world.sleds.finish(project, run, "answer to before")
    await world.transport.until(lambda texts: "answer to before" in texts)
    assert ("room", "answer to before") not in world.transport.edits, "nobody reads the old room any more"
    await world.say("after", "m2", room="new")
    _, later = await world.next_run()
    assert later.session == run.session
    assert await world.store.read(lambda c: conversations.find(c, OLD)) is None


async def test_what_the_old_room_did_not_take_is_said_in_the_new_one(world: World) -> None:
    await world.activate(await world.project())
    here = (await found(world, OLD)).id
    (row,) = await world.store.write(lambda c: rows.add(c, here, ["lost?"], reply_to="m1"))
    await world.store.write(lambda c: rows.set_state(c, row, "failed", error="forbidden"))
    await world.inbox.accept("fake", [Move(OLD, NEW)], None)
    await world.transport.until(lambda texts: "lost?" in texts)
    said = await world.store.read(lambda c: rows.by_id(c, row))
    assert said is not None and said.conversation == NEW


async def test_a_room_that_is_used_already_keeps_what_it_has(world: World) -> None:
    first, second = await world.project("first"), await world.project("second")
    await world.activate(first)
    await world.activate(second, room="new")
    await world.inbox.accept("fake", [Move(OLD, NEW), Move(OLD, NEW)], None)
    assert (await found(world, NEW)).project_id == second
    third = Conversation("fake", "third")
    await world.store.write(lambda c: conversations.ensure(c, third, direct=True))
    await world.inbox.accept("fake", [Move(OLD, third), Move(Conversation("fake", "unknown"), third)], None)
    assert (await found(world, third)).project_id == first


async def test_rooms_that_name_each_other_go_round_in_no_circle(world: World) -> None:
    await world.activate(await world.project())
    await world.inbox.accept("fake", [Move(OLD, NEW)], None)
    await world.inbox.accept("fake", [Move(NEW, OLD)], None)
    here = await found(world, OLD)
    await world.outbox.say(Destination(NEW, here.id), "still here")  # whoever knew it by its last name
    await world.transport.until(lambda texts: "still here" in texts)


async def test_what_waits_for_a_room_that_keeps_its_own_is_still_tried_where_it_was(world: World) -> None:
    await world.activate(await world.project())
    here = await found(world, OLD)
    await world.store.write(lambda c: conversations.ensure(c, NEW, direct=True))
    await world.inbox.accept("fake", [Move(OLD, NEW)], None)
    await world.outbox.say(Destination(OLD, here.id), "tried")
    await world.transport.until(lambda texts: "tried" in texts)
