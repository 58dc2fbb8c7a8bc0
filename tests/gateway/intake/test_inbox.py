"""What is accepted, once, and what is not even stored."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from gateway.chat import Attachment, Conversation, Fate, Withdrawal
from gateway.config import Access
from gateway.intake.inbox import MAX_MESSAGE, Inbox
from gateway.store import conversations
from gateway.store.tables import messages
from gateway.testing import patience
from tests.conftest import World


async def count(world: World) -> int:
    return await world.store.read(lambda c: c.scalars(select(func.count()).select_from(messages)).one())


async def test_the_same_event_is_accepted_once_also_within_one_batch(world: World) -> None:
    message = world.transport.message("hi", "m1")
    await world.inbox.accept("fake", [message, message], None)
    await world.inbox.accept("fake", [message], None)
    assert len(world.accepted) == 1
    assert (world.inbox.accepted, world.inbox.duplicates) == (1, 2)


async def test_strangers_are_not_even_stored(world: World) -> None:
    await world.inbox.accept("fake", [world.transport.message("hi", "m1", sender="fake:eve")], None)
    assert await count(world) == 0


async def test_messages_and_cursor_are_one_transaction(world: World) -> None:
    receiver = world.inbox.of("fake")
    await receiver.accept([world.transport.message("hi", "m1")], cursor="s1")
    assert await receiver.cursor("fake") == "s1"
    await receiver.accept([], cursor="s2")
    assert await receiver.cursor("fake") == "s2"
    assert await receiver.cursor("other") is None


async def test_a_group_wants_a_mention_but_its_threads_do_not(world: World) -> None:
    group = replace(world.transport.message("chatter", "m1"), direct=False)
    thread = Conversation("fake", "room", "t1")
    in_thread = replace(group, external_id="m2", conversation=thread)
    mention = replace(in_thread, external_id="m3", addressed=True)
    reply = replace(in_thread, external_id="m4")
    await world.inbox.accept("fake", [group, in_thread, mention, reply], None)
    assert [m.external_id for m in world.accepted] == ["m3", "m4"]


async def test_an_ambient_room_counts_every_message(world: World) -> None:
    mention = replace(world.transport.message("hi", "m1"), direct=False, addressed=True)
    await world.inbox.accept("fake", [mention], None)
    await world.store.write(lambda c: conversations.set_ambient(c, mention.conversation, direct=False, on=True))
    await world.inbox.accept("fake", [replace(mention, external_id="m2", addressed=False)], None)
    in_thread = replace(mention, external_id="m3", addressed=False, conversation=Conversation("fake", "room", "t9"))
    await world.inbox.accept("fake", [in_thread], None)
    assert len(world.accepted) == 3, "also in a thread that the bot has not seen"


async def test_taken_back_before_it_was_routed(world: World) -> None:
    """The message and its withdrawal come in one batch; or it waits for a command when it is taken back."""
    project = await world.project()
    await world.activate(project)
    message = world.transport.message("oops", "m1")
    gone = Withdrawal(message.conversation, "m1", "fake:ana")
    await world.inbox.accept("fake", [message, gone], None)
    assert world.accepted == []
    await world.inbox.accept("fake", [world.transport.message("wait", "m2")], None)
    await world.inbox.accept("fake", [Withdrawal(message.conversation, "m2", "fake:ana")], None)
    world.dispatcher.submit(world.accepted[0], project)
    await world.say("next", "m3")
    _, run = await world.next_run()
    assert run.prompt == "next"
    assert await world.fate("m2") is Fate.DISCARDED


async def test_what_has_no_encoding_does_not_stop_the_others(world: World) -> None:
    bad = replace(world.transport.message("fine", "m1"), sender_name="\udc80")
    edit = replace(world.transport.message("\udc80", "e1"), edits="m1")
    await world.inbox.accept("fake", [bad, edit, world.transport.message("other", "m2")], "cursor")
    assert [m.external_id for m in world.accepted] == ["m1", "m2"]


async def test_a_cancelled_accept_still_hands_on_what_it_committed(world: World) -> None:
    accepting = asyncio.create_task(world.inbox.accept("fake", [world.transport.message("hi", "m1")], None))
    await asyncio.sleep(0)  # it has begun
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    async with asyncio.timeout(5 * patience()):
        while not world.accepted:
            await world.store.read(lambda c: None)


async def test_a_defect_of_who_takes_a_message_is_told_to_who_brings_it(world: World) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a defect")

    inbox = Inbox(world.store, Access(["fake:ana"], []), on_accepted=broken, on_withdrawn=broken)
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(inbox.accept("fake", [world.transport.message("hello", "m1")], None), 5 * patience())


async def test_a_withdrawn_message_is_discarded_while_it_waits(world: World) -> None:
    project = await world.project()
    await world.activate(project)
    await world.say("oops", "m1")
    await world.inbox.accept("fake", [Withdrawal(Conversation("fake", "room"), "m1", "fake:ana")], None)
    assert await world.fate("m1") is Fate.DISCARDED
    await world.say("next", "m2")
    _, run = await world.next_run()
    assert run.prompt == "next"
    await world.inbox.accept("fake", [Withdrawal(Conversation("fake", "room"), "m2", "fake:ana")], None)
    assert await world.fate("m2") is Fate.RUNNING


async def test_a_megabyte_is_answered_with_the_limit(world: World) -> None:
    await world.inbox.accept("fake", [world.transport.message("x" * 2**20, "m1")], None)
    assert f"{MAX_MESSAGE:,}" in world.accepted[0].problem
    assert len(world.accepted[0].text) == 1000


@pytest.mark.parametrize("text", ["\udc80 lone surrogate", "\u202e bidi", "🐺" * 100])
async def test_odd_text_is_stored_and_comes_back(world: World, text: str) -> None:
    await world.inbox.accept("fake", [world.transport.message(text, "m1")], None)
    assert world.accepted[0].text == text.encode("utf-8", "replace").decode()


async def test_nul_is_refused_and_loses_nothing(world: World) -> None:
    """No database of text holds it, and whatever an agent got instead would not be what was sent."""
    await world.inbox.accept("fake", [world.transport.message("nul \x00 byte", "m1")], None)
    assert "NUL character" in world.accepted[0].problem
    assert world.accepted[0].text == "nul \ufffd byte"


async def test_only_the_sender_or_an_operator_withdraws_or_edits(world: World) -> None:
    world.inbox._access = Access(["fake:ana"], ["fake:ben", "fake:cat"])
    project = await world.project()
    await world.activate(project)
    await world.say("mine", "m1", sender="fake:ben")
    room = Conversation("fake", "room")
    await world.inbox.accept("fake", [Withdrawal(room, "m1", "fake:cat")], None)
    forged = replace(world.transport.message("forged", "e1", sender="fake:cat"), edits="m1")
    await world.inbox.accept("fake", [forged], None)
    assert await world.fate("m1") is not Fate.DISCARDED
    _, run = await world.next_run()
    assert run.prompt == "mine"
    await world.say("also mine", "m2", sender="fake:ben")
    await world.inbox.accept("fake", [Withdrawal(room, "m2", "fake:ana")], None)
    assert await world.fate("m2") is Fate.DISCARDED


async def test_a_file_with_a_name_that_has_no_encoding_holds_up_nothing(world: World) -> None:
    file = Attachment("a\ud800.png", "image/\udfff", 3, "ref")
    odd = replace(world.transport.message("look", "m1"), files=(file,))
    await world.inbox.accept("fake", [odd, world.transport.message("hi", "m2")], None)
    assert [message.external_id for message in world.accepted] == ["m1", "m2"]
    assert world.accepted[0].files[0].name == "a?.png"
