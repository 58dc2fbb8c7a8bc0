"""What holds for every transport (`gateway.chat.Transport`). A new one is proven by adding a line to `GROUNDS`."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.chat import Reply
from gateway.store import Store
from tests.support.grounds import (
    CliGround,
    FakeGround,
    Ground,
    MatrixGround,
    PipeGround,
    SlackGround,
    WhatsAppGround,
    until,
)

Make = Callable[[Store, Path, pytest.FixtureRequest], Ground]


def matrix(*, encrypted: bool) -> Make:
    return lambda store, folder, request: MatrixGround(
        store, folder, request.getfixturevalue("synapse"), encrypted=encrypted
    )


GROUNDS: list[tuple[str, Make, bool]] = [
    ("fake", lambda store, *_: FakeGround(store), False),
    ("console", lambda store, folder, _: PipeGround(store, folder), False),
    ("cli", lambda store, *_: CliGround(store), False),
    ("matrix", matrix(encrypted=False), True),
    ("matrix-encrypted", matrix(encrypted=True), True),
    ("slack-socket", lambda store, *_: SlackGround(store, "socket"), False),
    ("slack-http", lambda store, *_: SlackGround(store, "http"), False),
    ("whatsapp", lambda store, *_: WhatsAppGround(store), False),
]


@pytest_asyncio.fixture(
    params=[
        pytest.param(make, id=name, marks=[pytest.mark.synapse] if homeserver else [])
        for name, make, homeserver in GROUNDS
    ]
)
async def ground(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> AsyncIterator[Ground]:
    """A platform with the transport running, in front of a real inbox."""
    shutil.copy(empty_database, tmp_path / "huskies.db")
    store = await Store.open(tmp_path / "huskies.db")
    async with request.param(store, tmp_path, request) as made:
        yield made
    await store.close()


async def test_a_message_comes_in_with_the_right_names(ground: Ground) -> None:
    external_id = await ground.say("hello wörld")
    message = await ground.message("hello wörld")
    assert message.conversation == ground.conversation
    assert message.conversation.transport == ground.transport.name
    assert message.sender == ground.person
    assert message.sender.startswith(f"{ground.transport.name}:")
    assert message.sender_name == ground.person_name
    assert message.direct
    assert not message.problem
    assert message.external_id
    assert external_id in (None, message.external_id)


async def test_messages_come_in_in_order(ground: Ground) -> None:
    said = [f"number {n}" for n in range(10)]
    for text in said:
        await ground.say(text)
    await ground.message(said[-1])
    assert [item.text for item in ground.recorder.offered] == said
    ids = [item.external_id for item in ground.recorder.offered]
    assert await stored(ground, 10) == ids


async def test_what_could_not_be_committed_is_handed_in_again(ground: Ground) -> None:
    """The platform hears nothing before the commit: a transport that advanced would never come back with the event."""
    ground.recorder.failures = 2
    await ground.say("keep me")
    message = await ground.message("keep me")
    assert await stored(ground, 1) == [message.external_id]
    assert ground.recorder.times_offered(message.external_id) == 3
    first, second = ground.recorder.while_failing
    assert first == second, "nothing moved"
    assert first[0] == []
    if first[1] is not None:
        assert await ground.recorder.cursor(ground.transport.name) != first[1], "the cursor moved with the message"
    assert ground.task is not None
    assert not ground.task.done(), "a full disk does not end a transport"
    await ground.say("and me")
    assert len(await stored(ground, 2)) == 2


async def test_the_same_event_again_is_one_row(ground: Ground) -> None:
    ground.recorder.lost_answers = 1
    await ground.say("once")
    message = await ground.message("once")
    await until(lambda: ground.recorder.times_offered(message.external_id) == 2, lambda: "it never came again")
    await ground.say("the next")
    assert (await stored(ground, 2))[0] == message.external_id


async def test_who_is_not_listed_is_not_stored(ground: Ground) -> None:
    ground.recorder.know([])
    await ground.say("let me in")
    stranger = await ground.message("let me in")
    ground.recorder.know([ground.person])
    await ground.say("it is me")
    known = await ground.message("it is me")
    assert await stored(ground, 1) == [known.external_id]
    assert stranger.external_id != known.external_id
    assert ground.visible() == []


async def test_a_reply_is_seen_and_has_a_reference(ground: Ground) -> None:
    ref = await ground.send("here I am", "key")
    assert ref.conversation == ground.conversation
    assert ref.external_id
    assert await ground.shows(lambda texts: "here I am" in texts) == ["here I am"]


async def test_an_edit_takes_the_place_of_the_message(ground: Ground) -> None:
    if not ground.transport.capabilities.edits:
        return  # nothing edits there: live progress asks first
    ref = await ground.send("before", "key")
    await ground.shows(lambda texts: texts == ["before"])
    await ground.transport.edit(ref, Reply("while", live=True), "key/1")
    await ground.transport.edit(ref, Reply("after"), "key/2")
    assert await ground.shows(lambda texts: "after" in texts) == ["after"]


async def test_the_same_key_is_one_message_where_that_is_promised(ground: Ground) -> None:
    first = await ground.send("answer", "key")
    again = await ground.send("answer", "key")
    await ground.send("the end", "other key")
    texts = await ground.shows(lambda texts: "the end" in texts)
    if ground.transport.capabilities.idempotent:
        assert first == again
        assert texts == ["answer", "the end"]
    else:
        assert texts == ["answer", "answer", "the end"], "so the outbox must not try twice"


async def test_the_longest_reply_arrives_whole(ground: Ground) -> None:
    longest = "𐍈" * (ground.transport.capabilities.max_text - 1) + "!"
    ref = await ground.send(longest, "key")
    await ground.shows(lambda texts: texts == [longest])
    if ground.transport.capabilities.edits:
        other = "𐎀" * ground.transport.capabilities.max_text
        await ground.transport.edit(ref, Reply(other), "key/1")
        await ground.shows(lambda texts: texts == [other])


HOSTILE = [
    "\x1b[2J\x1b]0;title\x07\x9b31m wiped",
    "\x1b]52;c;Y2FuYXJ5\x1b\\ clipboard",
    "user\u202egpj.exe \u2066x\u2069 \u200f",
    "nul \0 bell \a back \b\b\b form \f",
    "<!channel> <!here> <@U012> @room @everyone",
    "<script>alert(1)</script><img src=x onerror=alert(1)><b>bold</b>",
    "[pill](https://matrix.to/#/@ana:hs.test) ![](https://example.org/track.png)",
    "\rroot> overwritten",
]


async def test_hostile_text_is_inert(ground: Ground) -> None:
    for number, text in enumerate(HOSTILE):
        await ground.send(text, f"key {number}")
    await ground.send("the end", "last key")
    texts = await ground.shows(lambda texts: "the end" in texts)
    assert ground.dangers() == []
    for kept in ("<!channel> <!here> <@U012> @room @everyone", "wiped", "<script>alert(1)</script>", "matrix.to"):
        assert any(kept in text for text in texts), "what is only text is still there to read"


async def test_sends_keep_their_order(ground: Ground) -> None:
    said = [f"part {n}" for n in range(20)]
    for text in said:
        await ground.send(text, f"key {text}")
    assert await ground.shows(lambda texts: said[-1] in texts) == said


async def test_a_run_can_be_cancelled(ground: Ground, request: pytest.FixtureRequest) -> None:
    assert ground.transport.serving
    assert ground.task is not None
    began = time.monotonic()
    ground.task.cancel()
    await asyncio.wait([ground.task], timeout=10)
    assert time.monotonic() - began < 5
    assert ground.task.cancelled()
    assert not ground.transport.serving


async def stored(ground: Ground, count: int) -> list[str]:
    """The external ids in the inbox, once there are as many as that; more are never expected."""
    async with asyncio.timeout(30):
        while len(found := await ground.recorder.stored()) < count:
            await asyncio.sleep(0.02)
    return found
