"""Delivery: in order, once, again after trouble."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.chat import Conversation, Fate, MessageRef, OutgoingFile, Reply
from gateway.delivery import outbox as outbox_module
from gateway.delivery import worker as worker_module
from gateway.errors import DeliveryHeld, DeliveryRefused, OutcomeUnknown, TransportDown
from gateway.store import Connection, conversations
from gateway.store import outbox as rows
from gateway.store.conversations import Destination
from gateway.store.messages import StoredMessage
from gateway.store.tables import outbox
from gateway.testing import FakeTransport, patience
from tests.conftest import World, close_world, make_world
from tests.support.processes import until

ROOM = Conversation("fake", "room")


async def room_id(world: World, conversation: Conversation = ROOM) -> int:
    return (await world.store.write(lambda c: conversations.ensure(c, conversation, direct=True))).id


async def states(world: World) -> list[str]:
    return list(await world.store.read(lambda c: c.scalars(select(outbox.c.state).order_by(outbox.c.id)).all()))


async def test_replies_are_sent_in_order(world: World) -> None:
    here = await room_id(world)
    for number in range(20):
        await world.outbox.say(Destination(ROOM, here), str(number))
    assert await world.outbox.drain(5)
    assert world.transport.texts == [str(n) for n in range(20)]


async def test_an_outage_delays_and_keeps_the_order(world: World) -> None:
    here = await room_id(world)
    world.transport.faults = [TransportDown(), TransportDown(retry_after_s=0.05)]
    await world.outbox.say(Destination(ROOM, here), "one")
    await world.outbox.say(Destination(ROOM, here), "two")
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["one", "two"]
    assert world.transport.calls[0] == world.transport.calls[1] == world.transport.calls[2], "one key for all tries"


async def test_one_conversations_outage_does_not_hold_up_another(world: World) -> None:
    here = await room_id(world)
    other = Conversation("fake", "other")
    there = await room_id(world, other)
    world.transport.faults = [TransportDown(retry_after_s=3600)]
    await world.outbox.say(Destination(ROOM, here), "stuck")
    while world.transport.faults:
        await world.store.read(lambda c: None)
    await world.outbox.say(Destination(other, there), "free")
    assert await world.transport.until(lambda texts: bool(texts)) == ["free"]


async def test_a_refused_reply_fails_and_the_next_goes_on(world: World) -> None:
    here = await room_id(world)
    world.transport.faults = [DeliveryRefused("too odd")]
    await world.outbox.say(Destination(ROOM, here), "odd")
    await world.outbox.say(Destination(ROOM, here), "fine")
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["fine"]
    assert await states(world) == ["failed", "sent"]
    assert await world.store.read(lambda c: rows.undelivered(c, here)) == 1


async def test_an_unknown_outcome_is_not_repeated(world: World) -> None:
    here = await room_id(world)
    world.transport.faults = [OutcomeUnknown("hung")]
    await world.outbox.say(Destination(ROOM, here), "maybe")
    assert await world.outbox.drain(5)
    assert await states(world) == ["unknown", "sent"]
    assert world.transport.texts == ["It is not known whether this arrived: “maybe”"]


async def left_in_the_air(tmp_path: Path, *, idempotent: bool) -> World:
    """A gateway ended between handing a reply over and recording it; the next one takes up the same platform."""
    transport = FakeTransport(serving=True)
    transport.capabilities = replace(transport.capabilities, idempotent=idempotent)
    first = await make_world(tmp_path, transport=transport)
    here = await room_id(first)
    (row,) = await first.store.write(lambda c: first.outbox.add(c, Destination(ROOM, here), "hello"))
    stored = await first.store.read(lambda c: rows.by_id(c, row))
    if not idempotent:
        await first.store.write(lambda c: rows.set_state(c, row, "sending"))
    assert stored is not None
    await transport.send(ROOM, Reply("hello"), stored.key)
    await close_world(first)
    second = await make_world(tmp_path, transport=transport)
    await second.outbox.recover()
    assert await second.outbox.drain(5)
    return second


async def test_a_resend_is_recognised_by_an_idempotent_platform(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    world = await left_in_the_air(tmp_path, idempotent=True)
    assert len(world.transport.calls) == 2
    assert world.transport.texts == ["hello"]
    assert await states(world) == ["sent"]
    await close_world(world)


async def test_without_idempotence_it_is_reported_as_unknown(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    world = await left_in_the_air(tmp_path, idempotent=False)
    assert world.transport.texts == ["hello"]
    assert len(world.transport.calls) == 1
    assert await states(world) == ["unknown"]
    await close_world(world)


async def test_an_answer_takes_the_place_of_the_progress_message(world: World) -> None:
    here = await room_id(world)
    (progress,) = await world.store.write(
        lambda c: world.outbox.add(c, Destination(ROOM, here), "working", kind="progress")
    )
    world.outbox.wake(ROOM)
    await world.transport.until(lambda texts: texts == ["working"])
    world.outbox.show(ROOM, progress, "working harder")
    await world.transport.until(lambda texts: texts == ["working harder"])
    world.outbox.show(ROOM, progress, "late edit")
    await world.store.write(lambda c: world.outbox.add(c, Destination(ROOM, here), "the answer", replaces=progress))
    world.outbox.wake(ROOM)
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["the answer"]


async def test_a_progress_message_that_was_never_sent_is_dropped(world: World) -> None:
    here = await room_id(world)

    def unit(connection: Connection) -> None:
        (progress,) = world.outbox.add(connection, Destination(ROOM, here), "working", kind="progress")
        world.outbox.add(connection, Destination(ROOM, here), "the answer", replaces=progress)

    await world.store.write(unit)
    world.outbox.wake(ROOM)
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["the answer"]
    assert await states(world) == ["dropped", "sent"]


async def test_a_long_reply_goes_in_parts(world: World) -> None:
    here = await room_id(world)
    text = "\n\n".join(f"paragraph {n} " + "x" * 300 for n in range(20))
    await world.outbox.say(Destination(ROOM, here), text)
    assert await world.outbox.drain(5)
    assert len(world.transport.texts) > 2
    assert all(len(part) <= 2000 for part in world.transport.texts)
    assert "\n\n".join(world.transport.texts).split() == text.split()


async def test_an_answer_arrives_even_if_its_live_message_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await room_id(world)
    (progress,) = await world.store.write(
        lambda c: world.outbox.add(c, Destination(ROOM, here), "working", kind="progress")
    )
    world.outbox.wake(ROOM)
    await world.transport.until(lambda texts: texts == ["working"])

    async def refused(*_: object) -> None:
        raise DeliveryRefused("there is no such message")

    monkeypatch.setattr(world.transport, "edit", refused)
    await world.store.write(lambda c: world.outbox.add(c, Destination(ROOM, here), "the answer", replaces=progress))
    world.outbox.wake(ROOM)
    assert await world.transport.until(lambda texts: "the answer" in texts)


# --- one budget for live edits, answers first -------------------------------------------------------------------------


async def live(world: World, room: str) -> tuple[Conversation, int]:
    """A conversation with a progress message that stands there."""
    conversation = Conversation("fake", room)
    here = await room_id(world, conversation)
    (row,) = await world.store.write(
        lambda c: world.outbox.add(c, Destination(conversation, here), "at work", kind="progress")
    )
    world.outbox.wake(conversation)
    assert await world.outbox.drain(5)
    return conversation, row


async def test_live_edits_of_many_rooms_share_one_budget_of_an_account(tmp_path: Path, empty_database: Path) -> None:
    """Ten rooms at once, 20 edits/s for the account: each room in turn, none twice before all had one."""
    shutil.copy(empty_database, tmp_path / "huskies.db")
    account = replace(FakeTransport().capabilities, edit_interval_s=0.05, scope="account")
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=account))
    rooms = [await live(world, f"room{number}") for number in range(10)]
    began = asyncio.get_running_loop().time()
    for step in range(5):
        for conversation, row in rooms:
            world.outbox.show(conversation, row, f"step {step}")
    await world.transport.until(lambda _: len(world.transport.edits) >= 10)
    took = asyncio.get_running_loop().time() - began
    assert {room for room, _ in world.transport.edits[:10]} == {f"room{number}" for number in range(10)}
    assert all(text == "step 4" for _, text in world.transport.edits), "only the newest counts"
    assert took >= 9 * 0.05
    await close_world(world)


async def test_an_answer_goes_before_the_edits_of_its_account(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    account = replace(FakeTransport().capabilities, scope="account")
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=account))
    conversation, row = await live(world, "busy")
    begun, hold = asyncio.Event(), asyncio.Event()
    send = world.transport.send

    async def slow(conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        begun.set()
        await hold.wait()
        return await send(conversation, reply, key)

    monkeypatch.setattr(world.transport, "send", slow)
    here = await room_id(world)
    await world.outbox.say(Destination(ROOM, here), "the answer")
    await asyncio.wait_for(begun.wait(), 5 * patience())
    world.outbox.show(conversation, row, "progress")
    for _ in range(20):  # whatever could go by now has gone
        await world.store.read(lambda c: None)
    assert world.transport.edits == []
    hold.set()
    await world.transport.until(lambda _: bool(world.transport.edits))
    assert "the answer" in world.transport.texts
    await close_world(world)


async def test_a_room_that_is_down_does_not_hold_up_the_edits_of_others(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    account = replace(FakeTransport().capabilities, scope="account")
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=account))
    conversation, row = await live(world, "busy")
    here = await room_id(world)
    world.transport.faults = [TransportDown() for _ in range(100)]
    await world.outbox.say(Destination(ROOM, here), "stuck")
    while len(world.transport.faults) > 97:
        await world.store.read(lambda c: None)
    world.outbox.show(conversation, row, "progress")
    await world.transport.until(lambda _: bool(world.transport.edits))
    await close_world(world)


# --- files ------------------------------------------------------------------------------------------------------------


async def test_a_file_is_sent_in_order_and_once(world: World, tmp_path: Path) -> None:
    here = await room_id(world)
    path = tmp_path / "abc"
    path.write_bytes(b"a,b\n")
    file = OutgoingFile(path, "table.csv", "text/csv", 4)
    world.transport.faults = [TransportDown()]
    await world.store.write(lambda c: world.outbox.add_file(c, Destination(ROOM, here), file, "the table"))
    await world.outbox.say(Destination(ROOM, here), "after it")
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["[table.csv] the table", "after it"]
    assert world.transport.files["table.csv"] == b"a,b\n"


async def test_where_files_cannot_be_sent_people_read_where_they_lie(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    plain = replace(FakeTransport().capabilities, files=False)
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=plain))
    here = await room_id(world)
    file = OutgoingFile(tmp_path / "abc", "table.csv", "text/csv", 5000)
    await world.store.write(lambda c: world.outbox.add_file(c, Destination(ROOM, here), file, "the table"))
    world.outbox.wake(ROOM)
    assert await world.outbox.drain(5)
    assert world.transport.texts == [f"📎 table.csv (4 KiB) the table\nIt is on the gateway's host: `{file.path}`"]
    await close_world(world)


async def test_a_file_that_its_platform_refuses_is_told_of(world: World, tmp_path: Path) -> None:
    here = await room_id(world)
    path = tmp_path / "abc"
    path.write_bytes(b"a,b\n")
    world.transport.faults = [DeliveryRefused("it is too large")]
    file = OutgoingFile(path, "table.csv", "text/csv", 4)
    await world.store.write(lambda c: world.outbox.add_file(c, Destination(ROOM, here), file, "the table"))
    world.outbox.wake(ROOM)
    assert await world.outbox.drain(5)
    told = "📎 table.csv could not be sent: it is too large\nIt is on the gateway's host: "
    assert world.transport.texts == [f"{told}`{path}`"]


async def test_an_answer_arrives_after_its_live_message_was_swept(world: World) -> None:
    """A turn may be parked for longer than old rows are kept."""
    here = await room_id(world)
    await world.store.write(lambda c: world.outbox.add(c, Destination(ROOM, here), "the answer", replaces=4711))
    world.outbox.wake(ROOM)
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["the answer"]


async def test_a_file_that_hangs_is_given_up_however_much_people_write(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was held until somebody wrote is tried from then on."""
    monkeypatch.setattr(worker_module, "_BACK_OFF_S", (0.01, 0.02))
    monkeypatch.setattr(worker_module, "GIVE_UP_FILE_S", 0.2)
    here = await room_id(world)
    path = tmp_path / "abc"
    path.write_bytes(b"a,b\n")
    world.transport.faults = [TransportDown() for _ in range(10_000)]
    file = OutgoingFile(path, "table.csv", "text/csv", 4)
    await world.store.write(lambda c: world.outbox.add_file(c, Destination(ROOM, here), file, "the table"))
    await world.outbox.say(Destination(ROOM, here), "the answer behind it")
    tried, number = 0, 0
    async with asyncio.timeout(20 * patience()):
        while "the answer behind it" not in world.transport.texts:
            number += 1
            await world.inbox.accept("fake", [world.transport.message("hello?", f"w{number}")], None)
            if (await states(world))[0] == "failed":  # the platform is back; the file's time is over
                tried = tried or 10_000 - len(world.transport.faults)
                world.transport.faults.clear()
    assert tried > 1
    assert world.transport.texts[-1] != "[table.csv] the table"


async def test_a_defect_in_sending_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_BACK_OFF_S", (0.01, 0.02))
    here = await room_id(world)
    following, defects = rows.next_pending, [ValueError("odd")]

    def odd(*what: Any) -> Any:
        if defects:
            raise defects.pop()
        return following(*what)

    monkeypatch.setattr(rows, "next_pending", odd)
    await world.outbox.say(Destination(ROOM, here), "the answer")
    await world.transport.until(lambda texts: texts == ["the answer"])


async def test_the_paces_of_rooms_that_are_quiet_are_forgotten(world: World) -> None:
    for number in range(20):
        await live(world, f"room{number}")
    assert await world.outbox.drain(5)
    assert world.outbox._paces == {}


# --- a room that takes nothing now -----------------------------------------------------------------------------------


async def test_what_a_room_does_not_take_waits_and_goes_out_when_something_happens_there(world: World) -> None:
    here = await room_id(world)
    for text in ("first", "second"):
        world.transport.faults = [DeliveryHeld("invite the bot again")]
        await world.outbox.say(Destination(ROOM, here), text)
        assert await world.outbox.drain(5)
    assert world.transport.texts == []
    assert await world.outbox.held() == [(ROOM, "invite the bot again", 2)]
    world.outbox.written_in(replace(ROOM, room="another"))
    assert world.outbox._workers == {}
    world.outbox.written_in(replace(ROOM, thread="t1"))
    assert await world.transport.until(lambda texts: len(texts) == 2) == ["first", "second"]
    assert await world.outbox.drain(5)
    assert await world.outbox.held() == []
    assert world.outbox._held == {}


async def test_it_is_tried_again_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "HELD_S", (0.01, 0.02))
    here = await room_id(world)
    world.transport.faults = [DeliveryHeld("muted"), DeliveryHeld("muted"), DeliveryHeld("muted")]
    await world.outbox.say(Destination(ROOM, here), "in the end")
    await world.transport.until(lambda texts: texts == ["in the end"])


async def test_the_final_mark_follows_the_reply(world: World) -> None:
    stored = await accepted(world, "do it", "m1")
    world.transport.faults = [DeliveryHeld("muted")]
    await reply_to(world, stored, "done")
    world.fates.changed([stored], Fate.ANSWERED)
    assert await world.outbox.drain(5)
    assert world.transport.marks == [], "nobody could read it"
    world.outbox.written_in(ROOM)
    await world.transport.until(lambda texts: "done" in texts)
    await until(lambda: world.transport.marks == [("m1", Fate.ANSWERED)])


async def test_a_reply_that_is_refused_for_good_is_marked_as_failed(world: World) -> None:
    stored = await accepted(world, "do it", "m1")
    world.transport.faults = [DeliveryRefused("too odd")]
    await reply_to(world, stored, "done")
    world.fates.changed([stored], Fate.ANSWERED)
    await until(lambda: world.transport.marks == [("m1", Fate.FAILED)])


async def test_whoever_asked_in_such_a_room_is_told_where_they_write_alone(world: World) -> None:
    alone = world.transport.message("hi", "m0", room="alone")
    group = replace(world.transport.message("do it", "m1", room="group"), direct=False, addressed=True)
    await world.inbox.accept("fake", [alone, group], None)
    stored = world.accepted[-1]
    world.transport.faults = [DeliveryHeld("the bot is muted")]
    await reply_to(world, stored, "done")
    told = await world.transport.until(lambda texts: len(texts) == 2)
    assert told == [
        "My answer to “do it” waits for fake:group: the bot is muted. It goes out there once that has changed. "
        "Here it is for you:",
        "done",
    ]
    world.transport.faults = [DeliveryHeld("the bot is muted")]
    world.outbox.written_in(stored.conversation)
    assert await world.outbox.drain(5)
    assert len(world.transport.texts) == 2, "it is said once"
    world.outbox.written_in(stored.conversation)
    assert await world.transport.until(lambda texts: len(texts) == 3) == [*told, "done"]


async def test_what_a_room_refuses_for_good_goes_to_whoever_asked(world: World) -> None:
    alone = world.transport.message("hi", "m0", room="alone")
    group = replace(world.transport.message("do it", "m1", room="group"), direct=False, addressed=True)
    await world.inbox.accept("fake", [alone, group], None)
    world.transport.faults = [DeliveryRefused("the channel is archived")]
    await reply_to(world, world.accepted[-1], "done")
    told = await world.transport.until(lambda texts: len(texts) == 2)
    assert told == [
        "My answer to “do it” cannot be posted in fake:group: the channel is archived. Here it is for you:",
        "done",
    ]
    assert await world.outbox.drain(5)
    assert await states(world) == ["failed", "sent", "sent"]
    world.transport.faults = [DeliveryRefused("no")]
    await reply_to(world, world.accepted[0], "hello")
    assert await world.outbox.drain(5)
    assert len(world.transport.texts) == 2, "there is no third place"


async def test_of_what_answers_nobody_nobody_is_told(world: World) -> None:
    """A message without a turn must not be taken for the one that is answered."""
    alone = world.transport.message("hi", "m0", room="alone")
    group = replace(world.transport.message("hello", "m1", room="group"), direct=False, addressed=True)
    await world.inbox.accept("fake", [alone, group], None)
    stored = world.accepted[-1]
    world.transport.faults = [DeliveryHeld("the bot is muted")]
    await world.outbox.say(stored.destination, "the gateway restarted")
    assert await world.outbox.drain(5)
    assert world.transport.texts == []
    assert await states(world) == ["pending"]


async def accepted(world: World, text: str, external_id: str) -> StoredMessage:
    await world.inbox.accept("fake", [world.transport.message(text, external_id)], None)
    return world.accepted[-1]


async def reply_to(world: World, message: StoredMessage, text: str) -> None:
    await world.store.write(lambda c: world.outbox.reply(c, message, text))
    world.outbox.wake(message.conversation)
