"""Files both ways, and answers by a tap, on a real homeserver, in plain and in encrypted rooms."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.chat import Attachment, Conversation, OutgoingFile, Reply
from gateway.errors import DeliveryRefused
from tests.support.matrix_user import body_is, reacts

if TYPE_CHECKING:
    from tests.transports.conftest import World

pytestmark = pytest.mark.synapse

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


@both
async def test_a_file_comes_in_with_its_caption(world: World, tmp_path: Path, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    data = os.urandom(200_000)

    event_id = await ana.share(room, data, encrypted=encrypted, filename="photo.png", body="what is this?")
    message = await bot.receiver.gets_text("what is this?")

    (file,) = message.files
    assert (message.external_id, file.name, file.mime, file.size) == (event_id, "photo.png", "image/png", len(data))
    await bot.transport.fetch(file, tmp_path / "got", 10**6)
    assert (tmp_path / "got").read_bytes() == data
    with pytest.raises(DeliveryRefused, match="more than"):
        await bot.transport.fetch(file, tmp_path / "large", 1000)
    assert not (tmp_path / "large").exists()


async def test_a_file_without_a_caption_has_no_text(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    event_id = await ana.share(room, b"png", encrypted=False)
    message = await bot.receiver.gets(lambda message: message.external_id == event_id)
    assert (message.text, message.problem, len(message.files)) == ("", "", 1)


async def test_a_file_that_is_not_there_is_refused(world: World, tmp_path: Path) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    await ana.share(room, b"png", encrypted=False, url="mxc://hs.test/nosuchmedia", body="gone")
    message = await bot.receiver.gets(lambda message: bool(message.files))
    with pytest.raises(DeliveryRefused):
        await bot.transport.fetch(message.files[0], tmp_path / "got", 1000)


async def test_a_message_that_names_no_file_says_so(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    await ana.put(room, {"msgtype": "m.file", "body": "x", "url": "https://hs.test/elsewhere"})
    message = await bot.receiver.gets(lambda message: bool(message.problem))
    assert "does not say where it is" in message.problem


async def test_a_file_that_was_changed_on_its_way_is_refused(world: World, tmp_path: Path) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=True)
    await ana.share(room, b"png", encrypted=True)
    message = await bot.receiver.gets(lambda message: bool(message.files))
    told = json.loads(message.files[0].ref)
    forged = Attachment("a", "image/png", 3, json.dumps({**told, "hash": "A" * 43}))
    with pytest.raises(DeliveryRefused, match="decrypted"):
        await bot.transport.fetch(forged, tmp_path / "got", 1000)


@both
async def test_a_file_goes_out_once(world: World, tmp_path: Path, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    await ana.say(room, "hello")
    await bot.receiver.gets_text("hello")
    data = b"a,b\n1,2\n"
    (tmp_path / "abc").write_bytes(data)
    file = OutgoingFile(tmp_path / "abc", "tab le.csv", "text/csv", len(data))

    refs = [
        await bot.transport.send_file(Conversation("matrix", room), file, Reply("the table"), "key") for _ in range(2)
    ]
    seen = await ana.sees(body_is("the table"), room=room)
    content = seen["content"]

    assert refs[0] == refs[1]
    assert (content["msgtype"], content["filename"], content["m.mentions"]) == ("m.file", "tab le.csv", {})
    assert bool(seen.get("encrypted")) is encrypted
    assert ("url" in content) is not encrypted
    assert await ana.download(seen) == data


async def test_a_file_above_the_homeservers_limit_is_refused_at_once(world: World, tmp_path: Path) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    await ana.say(room, "hello")
    await bot.receiver.gets_text("hello")
    large = OutgoingFile(tmp_path / "none", "large.bin", "application/octet-stream", 10**12)
    with pytest.raises(DeliveryRefused, match="the homeserver takes"):
        await bot.transport.send_file(Conversation("matrix", room), large, Reply(""), "key")


@both
async def test_a_question_can_be_answered_by_a_tap(world: World, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    await ana.say(room, "hello")
    await bot.receiver.gets_text("hello")
    choices = ("allow", "allow session", "deny")
    ref = await bot.transport.send(Conversation("matrix", room), Reply("May I?", choices=choices), "key")
    for emoji in ("✅", "🔁", "❌"):
        await ana.sees(reacts(ref.external_id, emoji), room=room)

    await ana.react(room, ref.external_id, "🎉")
    event_id = await ana.react(room, ref.external_id, "👍\ufe0f")
    message = await bot.receiver.gets(lambda message: bool(message.presses))

    assert (message.external_id, message.presses, message.text) == (event_id, ref.external_id, "allow")
    assert message.addressed
    assert bot.receiver.texts == ["hello", "allow"]


async def test_a_tap_on_somebody_elses_message_means_nothing(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    own = await ana.say(room, "hello")
    await ana.react(room, own, "✅")
    await ana.say(room, "the end")
    await bot.receiver.gets_text("the end")
    assert bot.receiver.texts == ["hello", "the end"]
