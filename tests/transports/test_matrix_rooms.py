"""What goes through a room and comes back, on a real homeserver, in plain and in encrypted rooms."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.chat import Conversation, Fate, Membership, MessageRef, Move, Reply
from gateway.errors import DeliveryHeld, TransportError
from gateway.testing import patience
from tests.support.matrix_user import body_is, edits, reacts

if TYPE_CHECKING:
    from tests.support.synapse import Synapse
    from tests.transports.conftest import World

pytestmark = pytest.mark.synapse

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


@both
async def test_a_message_comes_in_and_a_reply_goes_out(world: World, encrypted: bool) -> None:
    ana, bot = await world.user("ana"), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)

    event_id = await ana.say(room, "hello \0 \u202e wörld")
    message = await bot.receiver.gets_text("hello \0 \u202e wörld")

    assert message.external_id == event_id
    assert message.sender == f"matrix:{ana.user_id}"
    assert message.conversation == Conversation("matrix", room)
    assert message.direct
    assert not message.problem
    ref = await bot.send(room, "**hi** <b>@room</b>", "key-1", reply_to=event_id)
    seen = await ana.sees(body_is("**hi** <b>@room</b>"), room=room)
    assert seen["event_id"] == ref.external_id
    assert bool(seen.get("encrypted")) is encrypted
    assert seen["content"]["msgtype"] == "m.notice"
    assert seen["content"]["m.mentions"] == {}
    assert seen["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": event_id}}
    assert seen["content"]["formatted_body"] == "<p><strong>hi</strong> &lt;b&gt;@room&lt;/b&gt;</p>"


@both
async def test_the_same_key_is_sent_once_even_by_a_new_process(world: World, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)

    first = await bot.send(room, "answer", "key")
    again = await bot.send(room, "answer", "key")
    await bot.stop()
    bot.reborn()
    await bot.start()
    reborn = await bot.send(room, "answer", "key")
    await bot.send(room, "the end", "other key")

    assert first == again == reborn
    await ana.sees(body_is("the end"), room=room)
    assert ana.count(body_is("answer"), room) == 1


@both
async def test_edits_and_marks_are_seen(world: World, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    question = await ana.say(room, "question")
    await bot.receiver.gets_text("question")

    ref = await bot.send(room, "working", "key")
    await bot.transport.edit(ref, Reply("done"), "key/1")
    assert await ana.sees(edits(ref.external_id, "done"), room=room)

    mark = MessageRef(ref.conversation, question)
    await bot.transport.mark(mark, Fate.QUEUED)
    await ana.sees(reacts(question, "👀"))
    for fate in (Fate.RUNNING, Fate.ANSWERED, Fate.FAILED):
        await bot.transport.mark(mark, fate)
    await ana.sees(reacts(question, "✅"))
    await bot.transport.mark(MessageRef(ref.conversation, "$no-such-event"), Fate.ANSWERED)
    other = await ana.say(room, "another")
    await bot.transport.mark(MessageRef(ref.conversation, other), Fate.REFUSED)
    await ana.sees(reacts(other, "🚫"))
    assert ana.count(lambda e: e["type"] == "m.reaction" and e["sender"] == bot.user_id, room) == 3


@both
async def test_threads_are_conversations_of_their_own(world: World, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    root = await ana.say(room, "root")
    inside = await ana.say_in_thread(room, "inside", root)

    message = await bot.receiver.gets_text("inside")
    assert message.conversation == Conversation("matrix", room, root)
    await bot.send(room, "in thread", "k1", thread=root)
    await bot.send(room, "to you", "k2", thread=root, reply_to=inside)

    seen = await ana.sees(body_is("in thread"), room=room)
    assert seen["content"]["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": root,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": root},
    }
    seen = await ana.sees(body_is("to you"), room=room)
    assert seen["content"]["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": root,
        "is_falling_back": False,
        "m.in_reply_to": {"event_id": inside},
    }


@both
async def test_edits_redactions_files_and_notices_of_people(world: World, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    original = await ana.say(room, "run tests")
    edit = await ana.edit(room, original, "run all tests")
    await ana.put(room, {"msgtype": "m.notice", "body": "I am a bot"})
    await ana.put(room, {"msgtype": "m.emote", "body": "waves"})
    await ana.put(room, {"msgtype": "m.image", "body": "cat.png", "url": "mxc://hs.test/cat"})
    await ana.redact(room, original)

    withdrawal = await bot.receiver.gets_withdrawal(original)
    assert withdrawal.sender == f"matrix:{ana.user_id}"
    messages = bot.receiver.messages
    assert [m.text for m in messages] == ["run tests", "run all tests", "waves", ""]
    assert (messages[1].external_id, messages[1].edits) == (edit, original)
    assert (messages[3].problem, [file.name for file in messages[3].files]) == ("", ["cat.png"])


async def test_in_groups_only_what_is_meant_for_the_bot_is_addressed(world: World) -> None:
    ana, bob, bot = await world.user("ana"), await world.user("bob"), await world.bot()
    room = await world.room(ana, bot)
    await ana.say(room, "just us")
    assert (await bot.receiver.gets_text("just us")).direct
    await ana.invite(room, bob.user_id)
    await ana.sees_member(room, bob.user_id, "invite")
    localpart = bot.user_id[1:].split(":")[0]
    ours = (await bot.send(room, "I am here", "key")).external_id

    await ana.say(room, "for nobody")
    await ana.say(room, "huskies: status")
    await ana.say(room, f"@{localpart}, help")
    await ana.say(room, f"{bot.user_id} stacks")
    await ana.say(room, f"ask {bot.user_id} that")
    await ana.say(room, "mentioned", **{"m.mentions": {"user_ids": [bot.user_id]}})
    await ana.reply(room, "> <@x:y> I am here\n\nanswered", ours)
    other = await ana.say(room, "huskiesque")
    await ana.reply(room, "to another", other)
    await ana.say(room, "last")

    await bot.receiver.gets_text("last")
    got = {m.text: (m.direct, m.addressed) for m in bot.receiver.messages if m.text != "just us"}
    assert got == {
        "for nobody": (False, False),
        "status": (False, True),
        "help": (False, True),
        "stacks": (False, True),
        f"ask {bot.user_id} that": (False, True),
        "mentioned": (False, True),
        "answered": (False, True),
        "huskiesque": (False, False),
        "to another": (False, False),
        "last": (False, False),
    }


async def test_a_reply_to_the_bot_is_known_as_such_after_a_restart(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    ours = await bot.send(room, "question?", "key")
    await bot.stop()
    bot.reborn()
    await bot.start()

    await ana.reply(room, "yes", ours.external_id)

    assert (await bot.receiver.gets_text("yes")).addressed


@both
async def test_rooms_are_known_after_a_quiet_restart(world: World, encrypted: bool) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    await bot.send(room, "before", "key")
    for _ in range(3):  # nothing happens in between, so each start ends at the token where it began
        await bot.stop()
        bot.reborn()
        await bot.start()

    await bot.transport.send(Conversation("matrix", room), Reply("after"), "key 2")
    assert bool((await ana.sees(body_is("after"))).get("encrypted")) is encrypted


async def test_strangers_cannot_bring_the_bot_into_a_room(world: World) -> None:
    allowed: set[str] = set()
    ana, eve = await world.user("ana"), await world.user("eve")
    bot = await world.bot(may_invite=allowed.__contains__)
    allowed.add(f"matrix:{ana.user_id}")

    bad = await eve.create_room(invite=[bot.user_id])
    await eve.sees_member(bad, bot.user_id, "leave")
    good = await ana.create_room(invite=[bot.user_id])
    await ana.sees_member(good, bot.user_id)
    with pytest.raises(DeliveryHeld):
        await bot.transport.send(Conversation("matrix", bad), Reply("hello"), "key")


async def test_only_what_was_said_since_the_invitation_counts(world: World) -> None:
    ana, bot = await world.user(), await world.bot(start=False)
    room = await ana.create_room()
    await ana.say(room, "before")
    await ana.invite(room, bot.user_id)
    await ana.say(room, "after")
    for number in range(30):
        await ana.say(room, f"and {number}")

    await bot.start()
    await ana.sees_member(room, bot.user_id)
    await ana.say(room, "with the bot there")

    await bot.receiver.gets_text("with the bot there")
    assert bot.receiver.texts == ["after", *(f"and {n}" for n in range(30)), "with the bot there"]


async def test_the_first_start_runs_nothing_of_old_rooms(world: World, synapse: Synapse) -> None:
    ana, bot = await world.user(), await world.bot(start=False)
    room = await ana.create_room(invite=[bot.user_id])
    synapse.api("POST", f"/_matrix/client/v3/join/{room}", {}, bot.account.access_token)
    await ana.say(room, "old")

    await bot.start()
    await ana.say(room, "new")

    await bot.receiver.gets_text("new")
    assert bot.receiver.texts == ["new"]


@both
async def test_an_upgraded_room_is_followed(world: World, encrypted: bool) -> None:
    ana, bot = await world.user("ana"), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    await ana.say(room, "here")
    await bot.receiver.gets_text("here")
    new = await ana.upgrade(room)
    await ana.invite(new, bot.user_id)
    move = await bot.receiver.gets_move()
    assert (move.conversation, move.to) == (Conversation("matrix", room), Conversation("matrix", new))
    if encrypted:
        await ana.trusts_keys_of(bot.user_id)
    await ana.say(new, "and there")
    message = await bot.receiver.gets_text("and there")
    assert message.conversation.room == new
    await bot.send(new, "so am I", "key")
    await ana.sees(body_is("so am I"), room=new)


async def test_an_upgraded_room_that_anybody_may_join_needs_no_invitation(world: World) -> None:
    ana, bot = await world.user("ana"), await world.bot()
    room = await world.room(ana, bot)
    await ana.put_state(room, "m.room.join_rules", {"join_rule": "public"})
    new = await ana.upgrade(room)
    await ana.sees_member(new, bot.user_id)
    assert (await bot.receiver.gets_move()).to.room == new


async def test_a_room_cannot_say_by_itself_that_it_takes_the_place_of_another(world: World) -> None:
    """Who makes a room chooses its predecessor; only the old room's own tombstone makes that true."""
    ana, eve = await world.user("ana"), await world.user("eve")
    bot = await world.bot()
    room = await world.room(ana, bot)
    told = {"predecessor": {"room_id": room, "event_id": "$x"}}
    answer = await eve.raw(
        "POST",
        "/_matrix/client/v3/createRoom",
        {"creation_content": told, "invite": [bot.user_id], "room_version": "10"},
    )
    false = str(answer["room_id"])
    await eve.knows(false)
    await eve.sees_member(false, bot.user_id)
    await eve.say(false, "trust me")
    await bot.receiver.gets_text("trust me")
    assert not [item for item in bot.receiver.accepted if isinstance(item, Move)]


async def test_who_is_typing_is_told_and_commits_nothing(world: World) -> None:
    ana, bot = await world.user("ana"), await world.bot()
    room = await world.room(ana, bot, encrypted=False)
    await ana.say(room, "first")
    await bot.receiver.gets_text("first")
    offered, committed = bot.receiver.offered, bot.receiver.committed
    await ana.client.room_typing(room, True, timeout=30_000)
    assert await asyncio.wait_for(bot.receiver.typed.get(), 20 * patience()) == (room, [f"matrix:{ana.user_id}"])
    assert (bot.receiver.offered, bot.receiver.committed) == (offered, committed)
    await ana.say(room, "second")
    await ana.client.room_typing(room, False)
    assert await asyncio.wait_for(bot.receiver.typed.get(), 20 * patience()) == (room, [])
    await bot.receiver.gets_text("second")
    assert bot.receiver.committed != committed


@both
async def test_a_reply_brings_what_it_answers(world: World, encrypted: bool) -> None:
    """With and without the fallback that older clients add; also to the bot's own answers, as they read now."""
    ana, bot = await world.user("ana"), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    alert = await ana.say(room, "the deploy fails with exit 137")
    await bot.receiver.gets_text("the deploy fails with exit 137")
    fallback = f"> <{ana.user_id}> the deploy fails with exit 137\n\nfix this, please"
    for body, said in (("fix this", "fix this"), (fallback, "fix this, please")):
        relates = {"m.relates_to": {"m.in_reply_to": {"event_id": alert}}}
        await ana.put(room, {"msgtype": "m.text", "body": body, **relates})
        message = await bot.receiver.gets_text(said)
        assert message.quoted == f"> {message.sender_name} wrote:\n> the deploy fails with exit 137"
    answer = await bot.send(room, "all is well", "key 1")
    await ana.sees(body_is("all is well"), room=room)
    relates = {"m.relates_to": {"m.in_reply_to": {"event_id": answer.external_id}}}
    await ana.put(room, {"msgtype": "m.text", "body": "really?", **relates})
    assert (await bot.receiver.gets_text("really?")).quoted == "> You wrote:\n> all is well"


async def test_the_homeserver_says_who_is_in_a_room(world: World) -> None:
    ana, ben, bot = await world.user("ana"), await world.user("ben"), await world.bot()
    here, there = Conversation("matrix", await world.room(ana, bot)), bot.transport
    assert isinstance(there, Membership)
    assert await there.is_in(here, f"matrix:{ana.user_id}")
    assert not await there.is_in(here, f"matrix:{ben.user_id}")
    await ana.client.room_leave(here.room)
    assert not await there.is_in(here, f"matrix:{ana.user_id}")
    with pytest.raises(TransportError):
        await there.is_in(Conversation("matrix", "!nowhere:localhost"), f"matrix:{ana.user_id}")
