"""What the Matrix transport does when things go wrong, with faults made for real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gateway.chat import Conversation, Fate, MessageRef, Reply
from gateway.errors import TransportDown, TransportRefused
from gateway.testing import patience
from tests.support.matrix_user import body_is
from tests.support.ports import take_port
from tests.support.synapse import Synapse

if TYPE_CHECKING:
    from tests.transports.conftest import World

pytestmark = [pytest.mark.synapse, pytest.mark.slow]

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


@both
async def test_everything_said_while_away_arrives_once_and_in_order(world: World, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    other = await world.room(ana, bot, encrypted=encrypted)
    await ana.say(room, "before")
    await bot.receiver.gets_text("before")
    await bot.stop()
    said = [f"number {n}" for n in range(45)]
    for text in said:
        await ana.say(room, text)
    await ana.say(other, "elsewhere")

    bot.reborn()
    await bot.start()
    await bot.receiver.gets_text("elsewhere")
    await ana.say(room, "after")
    await bot.receiver.gets_text("after")

    here = [m.text for m in bot.receiver.messages if m.conversation.room == room]
    assert here == ["before", *said, "after"]
    assert not any(m.problem for m in bot.receiver.messages)


async def test_the_token_advances_only_with_what_was_committed(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    await ana.say(room, "one")
    await bot.receiver.gets_text("one")
    committed, bot.receiver.failures = bot.receiver.committed, 3

    await ana.say(room, "two")
    await bot.serves(False)
    assert bot.receiver.committed == committed
    assert bot.receiver.texts == ["one"]

    await bot.receiver.gets_text("two")
    await bot.serves()
    assert bot.receiver.texts == ["one", "two"]


async def test_a_stop_before_the_commit_loses_nothing(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "one")
    await bot.receiver.gets_text("one")
    bot.receiver.failures = 10**6
    ana.forget_room_key(room)
    await ana.say(room, "two, with a new key")
    await bot.serves(False)
    await bot.stop()

    bot.receiver.failures = 0
    bot.reborn()
    await bot.start()
    await bot.receiver.gets_text("two, with a new key")
    assert bot.receiver.texts == ["one", "two, with a new key"]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_homeserver_that_is_killed_comes_back_and_nothing_is_lost(
    own_world: World, own_synapse: Callable[..., Synapse]
) -> None:
    server = await asyncio.to_thread(own_synapse().start)
    ana = await own_world.user(server=server)
    bot = await own_world.bot(server=server)
    plain = await own_world.room(ana, bot)
    sealed = await own_world.room(ana, bot, encrypted=True)
    await ana.say(sealed, "before")
    await bot.receiver.gets_text("before")

    server.stop(kill=True)
    await bot.serves(False)
    with pytest.raises(TransportDown):
        await bot.transport.send(Conversation("matrix", plain), Reply("in vain"), "key")
    await asyncio.to_thread(server.start)
    began = time.monotonic()
    await bot.serves()
    assert time.monotonic() - began < 15 * patience()

    await ana.say(sealed, "after")
    await bot.receiver.gets_text("after")
    ref = await bot.send(plain, "in vain", "key")
    assert (await ana.sees(body_is("in vain")))["event_id"] == ref.external_id
    assert bot.receiver.texts == ["before", "after"]


@pytest.mark.timeout(180)
async def test_a_homeserver_that_is_not_there_yet(own_world: World, own_synapse: Callable[..., Synapse]) -> None:
    server = own_synapse(port=take_port())
    await asyncio.to_thread(server.start)
    bot = await own_world.bot(server=server, start=False)
    await asyncio.to_thread(server.stop)

    bot.launch()
    await asyncio.sleep(1)
    assert not bot.transport.serving
    assert bot.task is not None
    assert not bot.task.done()
    with pytest.raises(TransportDown):
        await bot.transport.send(Conversation("matrix", "!room:hs.test"), Reply("hello"), "key")

    await asyncio.to_thread(server.start)
    await bot.serves(timeout_s=15)


async def test_a_bad_token_is_refused_with_the_setting_to_correct(world: World) -> None:
    bot = await world.bot(start=False, access_token="wrong")
    bot.launch()
    error = await bot.fails()
    assert isinstance(error, TransportRefused)
    assert "transports.matrix.access_token" in str(error)
    assert "wrong" not in repr(bot.config)


async def test_a_bad_password_is_refused_with_the_setting_to_correct(world: World) -> None:
    bot = await world.bot(start=False, password="wrong")
    bot.launch()
    error = await bot.fails()
    assert isinstance(error, TransportRefused)
    assert "password" in str(error)


async def test_the_token_of_somebody_else_is_refused(world: World) -> None:
    eve = await world.user("eve")
    bot = await world.bot(start=False, access_token=eve.account.access_token)
    bot.launch()
    error = await bot.fails()
    assert isinstance(error, TransportRefused)
    assert eve.user_id in str(error)


async def test_nothing_is_sent_while_it_does_not_run(world: World) -> None:
    bot = await world.bot(start=False)
    conversation = Conversation("matrix", "!room:hs.test")
    with pytest.raises(TransportDown):
        await bot.transport.send(conversation, Reply("hello"), "key")
    await bot.transport.mark(MessageRef(conversation, "$event"), Fate.QUEUED)
    assert not bot.transport.serving


async def test_a_run_can_be_cancelled_at_any_moment_and_run_again(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=True)
    for delay_s in (0, 0.001, 0.01, 0.03, 0.1, 0.2):
        await bot.stop()
        bot.launch()
        await asyncio.sleep(delay_s)
    await bot.stop()
    await bot.start()
    await ana.say(room, "still there?")
    await bot.receiver.gets_text("still there?")


async def test_two_processes_on_one_store(world: World) -> None:
    bot = await world.bot()
    twin = await world.bot(start=False, access_token=bot.config.access_token)
    twin.reborn(store=bot.config.store, user_id=bot.config.user_id)
    twin.launch()
    assert "another process" in str(await twin.fails())


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_rate_limits_pass_on_what_the_homeserver_asks_for(
    own_world: World, own_synapse: Callable[..., Synapse]
) -> None:
    server = await asyncio.to_thread(own_synapse(limits="").start)
    ana = await own_world.user(server=server)
    bot = await own_world.bot(server=server)
    room = await own_world.room(ana, bot)
    conversation = Conversation("matrix", room)
    ref = await bot.send(room, "live", "key")

    sent, limited = 0, None
    while limited is None:
        try:
            await bot.transport.send(conversation, Reply(f"burst {sent}"), f"burst {sent}")
            sent += 1
        except TransportDown as error:
            limited = error
    assert sent >= 5
    assert limited.retry_after_s is not None
    assert 0 < limited.retry_after_s <= 10

    with pytest.raises(TransportDown) as small:
        await bot.transport.edit(ref, Reply("progress", live=True), "key/1")
    with pytest.raises(TransportDown) as final:
        await bot.transport.edit(ref, Reply("the answer"), "key/2")
    assert final.value.retry_after_s is not None
    assert small.value.retry_after_s is not None
    assert final.value.retry_after_s < small.value.retry_after_s, "an answer is not held up like progress"
    assert small.value.retry_after_s is not None
    assert small.value.retry_after_s > limited.retry_after_s, "answers go before edits"
    await asyncio.sleep(limited.retry_after_s)
    await bot.send(room, "the answer", "answer")
    await ana.sees(body_is("the answer"))
