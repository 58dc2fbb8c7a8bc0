"""One message that reads what is going on now; where the platform cannot edit, a message for each step and no more."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace

import pytest

from gateway.chat import Conversation, MessageRef, Reply
from gateway.delivery.notice import Notice
from gateway.errors import UserError
from gateway.store import conversations
from gateway.testing import patience
from tests.conftest import World

ROOM = Conversation("fake", "room")


async def make_notice(world: World) -> Notice:
    here = await world.store.write(lambda c: conversations.ensure(c, ROOM, direct=True))
    return Notice(world.store, world.outbox, here.destination)


def no_edits(world: World) -> None:
    world.transport.capabilities = replace(world.transport.capabilities, edits=False)


async def test_one_message_is_edited_as_the_work_goes_on(world: World) -> None:
    notice = await make_notice(world)
    await notice.say("Creating demo …")
    await world.transport.until(lambda texts: texts == ["Creating demo …"])
    notice.show("Building base: step 1 of 9\n\n---> Running in 1234")
    await world.transport.until(
        lambda texts: texts == ["Creating demo …\n› `Building base: step 1 of 9`\n› `---> Running in 1234`"]
    )
    notice.show("")
    await world.transport.until(lambda texts: texts == ["Creating demo …"])
    notice.show("Cloning: 50 %")
    await notice.say("Building demo …")
    await world.transport.until(lambda texts: texts == ["Building demo …"])


async def test_only_the_newest_detail_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform takes a moment for each edit; what is old by then is not sent."""
    edits: list[str] = []
    goes_on = asyncio.Event()
    edit = world.transport.edit

    async def slow(ref: MessageRef, reply: Reply, key: str) -> None:
        edits.append(reply.text)
        await goes_on.wait()
        await edit(ref, reply, key)

    monkeypatch.setattr(world.transport, "edit", slow)
    notice = await make_notice(world)
    await notice.say("Creating")
    await world.transport.until(lambda texts: texts == ["Creating"])
    notice.show("line 0")
    async with asyncio.timeout(5 * patience()):
        while not edits:
            await asyncio.sleep(0)
    for number in range(1, 500):
        notice.show(f"line {number}")
    goes_on.set()
    await world.transport.until(lambda texts: texts == ["Creating\n› `line 499`"])
    assert edits == ["Creating\n› `line 0`", "Creating\n› `line 499`"]


async def test_the_same_detail_again_is_no_edit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(world.outbox, "show", lambda conversation, row, text: shown.append(text))
    notice = await make_notice(world)
    await notice.say("Creating")
    for detail in ("", "a", "a", " \na\n", "b"):
        notice.show(detail)
    assert shown == ["Creating\n› `a`", "Creating\n› `b`"]


async def test_long_lines_are_cut(world: World) -> None:
    notice = await make_notice(world)
    await notice.say("Creating")
    notice.show("x" * 5000)
    (text,) = await world.transport.until(lambda texts: "x" in "".join(texts))
    assert 250 < len(text) < 350


async def test_where_nothing_can_be_edited_steps_are_messages_and_details_nothing(world: World) -> None:
    no_edits(world)
    notice = await make_notice(world)
    notice.show("too early")
    await notice.say("Creating demo …")
    notice.show("Building base: step 1 of 9")
    await notice.say("Building demo …")
    notice.show("")
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["Creating demo …", "Building demo …"]


async def test_a_detail_before_the_first_word_is_nothing(world: World) -> None:
    notice = await make_notice(world)
    notice.show("too early")
    await notice.say("Creating")
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["Creating"]


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, "Creating demo: done after … s."),
        (UserError("no room"), "Creating demo: failed after … s."),
        (asyncio.CancelledError(), "Creating demo …"),  # the gateway ends; the next one goes on
    ],
    ids=["done", "failed", "cancelled"],
)
async def test_at_the_end_it_says_how_it_went(world: World, error: BaseException | None, left: str) -> None:
    with contextlib.suppress(UserError, asyncio.CancelledError):
        async with await make_notice(world) as notice:
            await notice.say("Creating demo …")
            await world.transport.until(lambda texts: texts == ["Creating demo …"])
            if error is not None:
                raise error
    assert await world.outbox.drain(5)
    assert [re.sub(r"\d+ s", "… s", text) for text in world.transport.texts] == [left]
    shown = list(world.transport.texts)
    notice.show("late news of a build")
    assert await world.outbox.drain(5)
    if error is None:
        assert world.transport.texts == shown, "it is live no more"


async def test_at_the_end_of_what_was_not_shown_nothing_is_said(world: World) -> None:
    async with await make_notice(world):
        pass
    no_edits(world)
    async with await make_notice(world) as notice:
        await notice.say("Creating demo …")
    assert await world.outbox.drain(5)
    assert world.transport.texts == ["Creating demo …"]
