"""Logins, devices and keys of the Matrix transport, on a real homeserver."""

from __future__ import annotations

import logging
import stat
import time
from typing import TYPE_CHECKING

import pytest

from gateway.chat import Conversation, Reply
from gateway.errors import DeliveryRefused, TransportRefused
from tests.support.matrix_bot import Bot
from tests.support.matrix_user import body_is, edits
from transports.matrix.config import MAX_TEXT
from transports.matrix.events import NO_KEY

if TYPE_CHECKING:
    from tests.support.synapse import Synapse
    from tests.transports.conftest import World

pytestmark = pytest.mark.synapse


def device_keys(synapse: Synapse, bot: Bot) -> dict[str, dict[str, object]]:
    """The bot's devices as the homeserver shows them, with the signing identity under `master`."""
    answer = synapse.api(
        "POST", "/_matrix/client/v3/keys/query", {"device_keys": {bot.user_id: []}}, bot.account.access_token
    )
    master = answer.get("master_keys", {}).get(bot.user_id, {})
    return {**answer["device_keys"][bot.user_id], "master": master}


async def test_the_password_is_used_once_and_the_device_stays(world: World, synapse: Synapse) -> None:
    ana, bot = await world.user(), await world.bot(password="a password for tests")
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "one")
    await bot.receiver.gets_text("one")
    session = bot.session()
    await bot.stop()
    await ana.say(room, "two, while away")

    bot.reborn(password="no longer right")
    await bot.start()
    await bot.receiver.gets_text("two, while away")
    await bot.send(room, "still me", "key")

    assert bot.session() == session
    assert (await ana.sees(body_is("still me")))["encrypted"]
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [bot.config.store, *bot.config.store.rglob("*")]}
    assert {mode for name, mode in modes.items() if name in (bot.config.store.name, "crypto")} == {0o700}
    assert {mode for name, mode in modes.items() if name not in (bot.config.store.name, "crypto")} == {0o600}
    assert {"session.json", "pickle.key", "signing.json", "lock"} <= set(modes)


async def test_the_device_is_signed(world: World, synapse: Synapse) -> None:
    ana, bot = await world.user(), await world.bot(password="a password for tests")
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "one")
    await bot.receiver.gets_text("one")
    first = bot.session()["device_id"]
    answer = synapse.api(
        "POST", "/_matrix/client/v3/keys/query", {"device_keys": {bot.user_id: []}}, bot.account.access_token
    )
    signer = next(iter(answer["self_signing_keys"][bot.user_id]["keys"]))
    signatures = answer["device_keys"][bot.user_id][first]["signatures"][bot.user_id]
    assert set(signatures) == {f"ed25519:{first}", signer}

    identity = device_keys(synapse, bot)["master"]
    await bot.stop()
    (bot.config.store / "session.json").unlink()
    bot.reborn()
    await bot.start()
    await ana.trusts_keys_of(bot.user_id, bot.session()["device_id"])
    await ana.say(room, "two")
    await bot.receiver.gets_text("two")

    second = bot.session()["device_id"]
    assert second != first
    assert device_keys(synapse, bot)["master"] == identity
    assert signer in device_keys(synapse, bot)[second]["signatures"][bot.user_id]  # type: ignore[index]


async def test_an_identity_made_elsewhere_is_left_alone(
    world: World, synapse: Synapse, caplog: pytest.LogCaptureFixture
) -> None:
    bot = await world.bot(password="a password for tests")
    ana = await world.user()
    await world.room(ana, bot, encrypted=True)
    identity = device_keys(synapse, bot)["master"]
    await bot.stop()
    for name in ("signing.json", "session.json"):
        (bot.config.store / name).unlink()

    bot.reborn()
    await bot.start()
    room = await world.room(ana, bot, encrypted=True)
    await ana.trusts_keys_of(bot.user_id, bot.session()["device_id"])
    await ana.say(room, "works all the same")
    await bot.receiver.gets_text("works all the same")
    assert device_keys(synapse, bot)["master"] == identity
    assert "made elsewhere" in caplog.text


async def test_a_token_that_was_revoked_is_replaced_with_the_password(world: World, synapse: Synapse) -> None:
    ana, bot = await world.user(), await world.bot(password="a password for tests")
    room = await world.room(ana, bot, encrypted=True)
    old = bot.session()
    synapse.api("POST", "/_matrix/client/v3/logout", {}, old["access_token"])

    await bot.serves(False)
    await bot.serves()
    assert bot.session()["device_id"] != old["device_id"]
    await ana.trusts_keys_of(bot.user_id, bot.session()["device_id"])
    await ana.say(room, "who are you?")
    await bot.receiver.gets_text("who are you?")


async def test_lost_keys_make_a_new_device_where_there_is_a_password(world: World) -> None:
    ana, bot = await world.user(), await world.bot(password="a password for tests")
    room = await world.room(ana, bot, encrypted=True)
    old = bot.session()["device_id"]
    await bot.stop()
    for database in (bot.config.store / "crypto").glob("*.db*"):
        database.unlink()

    bot.reborn()
    await bot.start()
    assert bot.session()["device_id"] != old
    await ana.trusts_keys_of(bot.user_id, bot.session()["device_id"])
    await ana.say(room, "and now?")
    await bot.receiver.gets_text("and now?")


@pytest.mark.parametrize("lost", ["crypto", "pickle.key"])
async def test_lost_keys_are_refused_where_there_is_no_password(world: World, lost: str) -> None:
    ana, bot = await world.user(), await world.bot()
    await world.room(ana, bot, encrypted=True)
    await bot.stop()
    if lost == "crypto":
        for database in (bot.config.store / "crypto").glob("*.db*"):
            database.unlink()
    else:
        (bot.config.store / lost).unlink()

    bot.reborn()
    bot.launch()
    error = await bot.fails()
    assert isinstance(error, TransportRefused)
    assert "transports.matrix.password" in str(error)


async def test_a_message_without_its_key_is_reported_after_a_while(world: World) -> None:
    ana, bot = await world.user("ana"), await world.bot(hold_s=3)
    room = await world.room(ana, bot, encrypted=True)
    other = await world.room(ana, bot)
    began = time.monotonic()
    await ana.say_without_key(room, "sealed", bot.user_id)
    await ana.say(room, "open, but later")
    await ana.say(other, "in another room")

    await bot.receiver.gets_text("open, but later")
    assert time.monotonic() - began >= 3
    assert [(m.text, m.problem) for m in bot.receiver.messages] == [
        ("in another room", ""),
        ("", NO_KEY),
        ("open, but later", ""),
    ]


async def test_a_message_whose_key_comes_late_runs_in_order(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=True)
    key = await ana.say_without_key(room, "first", bot.user_id)
    await ana.say(room, "second")
    other = await world.room(ana, bot)
    await ana.say(other, "elsewhere")
    await bot.receiver.gets_text("elsewhere")

    await ana.hand_over(bot.user_id, key)
    await bot.receiver.gets_text("second")
    assert bot.receiver.texts == ["elsewhere", "first", "second"]
    assert not any(m.problem for m in bot.receiver.messages)


async def test_a_held_message_survives_a_kill(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=True)
    key = await ana.say_without_key(room, "first", bot.user_id)
    await ana.say(room, "second")
    other = await world.room(ana, bot)
    await ana.say(other, "elsewhere")
    await bot.receiver.gets_text("elsewhere")
    await bot.stop()

    bot.reborn()
    await bot.start()
    await ana.hand_over(bot.user_id, key)
    await bot.receiver.gets_text("second")
    assert bot.receiver.texts == ["elsewhere", "first", "second"]


async def test_a_held_message_can_be_taken_back(world: World) -> None:
    ana, bot = await world.user(), await world.bot(hold_s=2)
    room = await world.room(ana, bot, encrypted=True)
    await ana.say_without_key(room, "sealed", bot.user_id)
    event = await ana.sees(body_is("sealed"))
    await ana.redact(room, event["event_id"])
    await bot.receiver.gets_withdrawal(event["event_id"])
    await ana.say(room, "never mind")
    await bot.receiver.gets_text("never mind")
    assert [m.problem for m in bot.receiver.messages] == [""]


async def test_without_encryption_nothing_leaks_and_people_are_told(world: World) -> None:
    ana, bot = await world.user(), await world.bot(encryption=False)
    room = await ana.create_room(invite=[bot.user_id], encrypted=True)
    await ana.sees_member(room, bot.user_id)
    await ana.say(room, "secret")
    await bot.receiver.gets(lambda message: message.problem == NO_KEY)
    with pytest.raises(DeliveryRefused, match="encryption = true"):
        await bot.send(room, "in the clear", "key")
    plain = await world.room(ana, bot)
    await ana.say(plain, "hello")
    await bot.receiver.gets_text("hello")
    await bot.send(plain, "hello too", "key 2")
    await ana.sees(body_is("hello too"))


async def test_a_malformed_message_stops_nothing(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=True)
    olm = ana.client.olm
    await ana.say(room, "one")
    await ana.pause()  # her own client would not survive it
    if olm.should_share_group_session(room):
        await ana.client.share_group_session(room, ignore_unverified_devices=True)
    evil = [
        {"type": "m.room.message", "content": {"msgtype": "m.text", "body": "x"}, "unsigned": 5},
        {"type": "m.room.message", "content": {"msgtype": "m.text", "body": ["x"], "m.relates_to": 7}},
        {"type": "m.room.member", "state_key": ana.user_id, "content": {"membership": "leave"}},
        {"type": "m.room.message", "content": {"msgtype": "m.text", "body": "m", "m.mentions": [1]}},
        {"type": 7, "content": {}},
    ]
    for inner in evil:
        sealed = olm.group_encrypt(room, inner)
        path = f"/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/{time.monotonic_ns()}"
        assert "event_id" in await ana.raw("PUT", path, sealed)
    await ana.put(room, {"msgtype": "m.text", "body": "two"})

    await bot.receiver.gets_text("two")
    assert bot.receiver.texts[0] == "one"
    assert (await bot.receiver.gets_text("two")).direct


@pytest.mark.parametrize("character", ["🐺", "狼", "`", "&", '"'])
async def test_the_longest_text_fits_an_encrypted_event(world: World, character: str) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=True)
    text = character * MAX_TEXT
    ref = await bot.send(room, text, "key")
    await bot.transport.edit(ref, Reply(text), "key/1")
    await ana.sees(edits(ref.external_id, text))


async def test_the_log_has_no_secrets(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ana, bot = await world.user(), await world.bot(password="a password for tests", hold_s=0.2)
    logging.getLogger("nio").handlers.clear()
    caplog.clear()
    await bot.stop()
    bot.reborn()
    await bot.start()
    room = await world.room(ana, bot, encrypted=True)
    await ana.say(room, "canary in a message")
    await bot.receiver.gets_text("canary in a message")
    await ana.say_without_key(room, "canary without a key", bot.user_id)
    await bot.receiver.gets(lambda message: bool(message.problem))
    await ana.put(room, {"msgtype": "m.text", "body": 5, "canary": 1})
    await bot.send(room, "canary in a reply", "key")
    await bot.transport.send(Conversation("matrix", room), Reply("canary again"), "key2")

    assert "canary" not in caplog.text
    assert "password for tests" not in caplog.text
    assert bot.session()["access_token"] not in caplog.text
    assert (bot.config.store / "pickle.key").read_text() not in caplog.text
