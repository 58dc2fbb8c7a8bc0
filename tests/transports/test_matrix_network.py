"""The Matrix transport behind a network that cuts, delays and lies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from nio import RoomPutStateResponse

from gateway.chat import Conversation, Reply
from gateway.errors import DeliveryHeld, TransportDown, TransportRefused
from gateway.testing import patience
from tests.support.matrix_proxy import How, Proxy
from tests.support.matrix_user import MatrixUser, body_is
from transports.matrix import client as matrix_client

if TYPE_CHECKING:
    from tests.support.synapse import Synapse
    from tests.transports.conftest import World

pytestmark = pytest.mark.synapse

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


@pytest.fixture
async def proxy(synapse: Synapse) -> AsyncIterator[Proxy]:
    """Stands between the bot and the homeserver."""
    async with Proxy(synapse.url) as running:
        yield running


@both
@pytest.mark.parametrize("how", ["lose", pytest.param("hang", marks=pytest.mark.waits), "502", "429", "drop"])
async def test_a_send_that_failed_is_sent_once(
    world: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, how: How, encrypted: bool
) -> None:
    ana, bot = await world.user(), await world.bot(homeserver=proxy.url)
    room = await world.room(ana, bot, encrypted=encrypted)
    await bot.send(room, "before", "key 0")
    # The HTTP library repeats a PUT once by itself when the connection breaks.
    proxy.fail("/send/", how, times=2 if how in ("lose", "drop") else 1)
    monkeypatch.setattr(matrix_client, "DEADLINE_S", 0.5)

    with pytest.raises(TransportDown) as caught:
        await bot.transport.send(Conversation("matrix", room), Reply("answer"), "key")
    assert caught.value.retry_after_s == (0.7 if how == "429" else None)
    monkeypatch.undo()
    await bot.send(room, "answer", "key")
    await bot.send(room, "the end", "key 2")

    await ana.sees(body_is("the end"))
    assert ana.count(body_is("answer"), room) == 1


@pytest.mark.parametrize("part", ["/sendToDevice/", "/keys/claim", "/joined_members"])
async def test_a_room_key_that_did_not_arrive_is_given_again(world: World, proxy: Proxy, part: str) -> None:
    ana, bot = await world.user(), await world.bot(homeserver=proxy.url)
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "hello")
    await bot.receiver.gets_text("hello")
    fault = proxy.fail(part, "500")

    if part == "/keys/claim":  # ana's message brought a session already
        bea = await world.user("bea")
        await ana.invite(room, bea.user_id)
        await bea.join(room)
        reader = bea
    else:
        reader = ana
    with pytest.raises(TransportDown):
        while True:
            await bot.transport.send(Conversation("matrix", room), Reply("once more"), "key")
            assert not fault.hit.is_set(), "the failure was ignored"
            await asyncio.sleep(0.05)
    await bot.send(room, "readable", "key 2")
    assert (await reader.sees(body_is("readable")))["encrypted"]


@pytest.mark.parametrize("how", ["502", "500", "429", "truncate", "drop"])
async def test_a_sync_that_fails_is_repeated_calmly(world: World, proxy: Proxy, how: How) -> None:
    ana, bot = await world.user(), await world.bot(homeserver=proxy.url)
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "one")
    await bot.receiver.gets_text("one")
    fault = proxy.fail("/sync", how, times=4)

    before = proxy.count("/sync")
    await ana.say(room, "two")
    await fault.hit.wait()
    await bot.serves(False)
    await ana.say(room, "three")
    await bot.receiver.gets_text("three")
    await bot.serves()

    assert bot.receiver.texts == ["one", "two", "three"]
    assert proxy.count("/sync") - before < 15


@pytest.mark.parametrize("how", ["500", "truncate", "429"])
async def test_history_that_fails_is_fetched_again(world: World, proxy: Proxy, how: How) -> None:
    ana, bot = await world.user(), await world.bot(homeserver=proxy.url)
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "before")
    await bot.receiver.gets_text("before")
    await bot.stop()
    said = [f"number {n}" for n in range(30)]
    for text in said:
        await ana.say(room, text)

    fault = proxy.fail("/messages", how, times=2)
    bot.reborn()
    await bot.start()
    await bot.receiver.gets_text(said[-1])
    assert fault.times == 0
    assert bot.receiver.texts == ["before", *said]


async def test_a_join_that_fails_is_tried_again(world: World, proxy: Proxy) -> None:
    ana, bot = await world.user(), await world.bot(homeserver=proxy.url)
    fault = proxy.fail("/join/", "500")
    room = await ana.create_room(invite=[bot.user_id])
    await ana.sees_member(room, bot.user_id)
    assert fault.hit.is_set()


async def test_an_invitation_that_was_left_open_is_accepted_on_the_next_start(world: World, proxy: Proxy) -> None:
    ana, bot = await world.user(), await world.bot(homeserver=proxy.url)
    fault = proxy.fail("/join/", "500", times=100)
    room = await ana.create_room(invite=[bot.user_id])
    await fault.hit.wait()
    await bot.stop()
    fault.times = 0
    await ana.say(room, "are you coming?")
    bot.reborn()
    await bot.start()
    await bot.receiver.gets_text("are you coming?")


async def test_keys_are_looked_after_again_when_that_failed(world: World, proxy: Proxy) -> None:
    proxy.fail("/keys/upload", "500", times=2)
    proxy.fail("/signatures/upload", "429", times=1)
    ana, bot = await world.user(), await world.bot(homeserver=proxy.url)
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "hello")
    await bot.receiver.gets_text("hello")


async def test_what_is_no_homeserver_is_said_so(world: World) -> None:
    bot = await world.bot(start=False, homeserver="not an address")
    bot.launch()
    error = await bot.fails()
    assert isinstance(error, TransportRefused)
    assert "transports.matrix.homeserver" in str(error)


async def test_what_a_room_does_not_let_the_bot_say_is_held(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    await bot.send(room, "here", "key")
    await mute(ana, room, 50)
    with pytest.raises(DeliveryHeld, match="may not write"):
        await bot.transport.send(Conversation("matrix", room), Reply("muted"), "key 2")
    await mute(ana, room, 0)
    await bot.send(room, "muted", "key 2")
    await ana.client.room_kick(room, bot.user_id)
    with pytest.raises(DeliveryHeld, match="invite it again"):
        await bot.transport.send(Conversation("matrix", room), Reply("gone"), "key 3")
    await ana.invite(room, bot.user_id)
    async with asyncio.timeout(20 * patience()):  # nothing tells when the bot knows the room again
        while True:
            with contextlib.suppress(DeliveryHeld, TransportDown):
                await bot.transport.send(Conversation("matrix", room), Reply("gone"), "key 3")
                break
            await asyncio.sleep(0.1)
    await ana.sees(body_is("gone"), room=room)


async def mute(ana: MatrixUser, room: str, needed: int) -> None:
    """Let only people with so much power write."""
    levels = await ana.client.room_get_state_event(room, "m.room.power_levels")
    content = {**levels.content, "events_default": needed}
    assert isinstance(await ana.client.room_put_state(room, "m.room.power_levels", content), RoomPutStateResponse)
