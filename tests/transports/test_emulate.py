"""Slack and WhatsApp in front of platforms that others made (npm's `emulate`): what the contract does not ask."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.chat import Conversation, Fate, MessageRef, Noted, Outcome, OutgoingFile, Reply
from gateway.errors import DeliveryHeld, DeliveryRefused, TransportDown, TransportRefused
from gateway.store import Store
from gateway.testing import patience
from tests.support.databases import place
from tests.support.emulate_grounds import EmulatedSlack, EmulatedWhatsApp
from tests.support.emulate_platforms import ANAS, DEAD_TOKEN, POOR_TOKEN
from tests.support.grounds import until
from tests.support.slack_server import BOT
from tests.support.twilio_server import ACCOUNT

pytestmark = pytest.mark.peers


@pytest_asyncio.fixture
async def store(tmp_path: Path, empty_database: Path) -> AsyncIterator[Store]:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    opened = await Store.open(place(tmp_path))
    yield opened
    await opened.close()


# --- Slack ------------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def slack(store: Store, npm_packages: Path) -> AsyncIterator[EmulatedSlack]:
    async with EmulatedSlack(store, npm_packages / "emulate") as ground:
        yield ground


async def test_slack_a_message_is_acknowledged_accepted_once_marked_and_answered(slack: EmulatedSlack) -> None:
    slack.space.postman.posts.clear()  # that a conversation was opened came before there was a bot
    external_id = await slack.say("what is new?")
    (post,) = slack.space.postman.posts
    assert post.statuses == [200]
    await slack.space.postman.deliver(post)
    assert post.statuses == [200, 200], "known, and acknowledged all the same"
    assert await slack.recorder.stored() == [external_id]

    theirs = MessageRef(slack.conversation, external_id)
    await slack.transport.mark(theirs, Fate.RUNNING)
    await until(lambda: slack.space.reactions(external_id) == ["eyes"], lambda: "no mark")
    live = await slack.send("…", "key")
    for step in range(3):
        await slack.transport.edit(live, Reply(f"step {step}", live=True), f"key/{step}")
    await slack.transport.edit(live, Reply("*Nothing* <!channel>"), "key/end")
    assert slack.visible() == ["_Nothing_ <!channel>"]
    assert slack.posts()[0]["edited"]["user"] == BOT
    await slack.transport.mark(theirs, Fate.ANSWERED)
    await until(lambda: "white_check_mark" in slack.space.reactions(external_id), lambda: "no mark")

    # All that the bot did came back to it as events, and is none of its business.
    assert sum(b"message_changed" in post.body for post in slack.space.postman.posts) == 4
    posts = slack.space.postman.posts
    await until(lambda: all(post.statuses for post in posts), lambda: "an event is still on its way")
    assert all(post.statuses[-1] == 200 for post in posts)
    assert len(slack.recorder.offered) == 2, "the message, and the message again"


async def test_slack_a_mention_opens_a_thread_which_is_the_session(slack: EmulatedSlack) -> None:
    head = await slack.space.says(slack.space.group, f"<@{BOT}> look")
    ts = head.split(":")[1]
    thread = Conversation("slack", slack.space.group, ts)
    assert (await slack.message("look")).conversation == thread
    await slack.transport.send(thread, Reply("I looked"), "key")
    await slack.space.says(slack.space.group, "and now?", thread_ts=ts)
    message = await slack.message("and now?")
    assert (message.conversation, message.addressed) == (thread, False)
    assert [post["text"] for post in slack.space.posts(slack.space.group, ts)] == ["I looked"]
    assert slack.visible() == [], "nothing of it is in the direct message"


@pytest.mark.parametrize("place", ["direct", "thread"])
async def test_slack_a_post_whose_answer_was_lost_is_found_and_not_repeated(slack: EmulatedSlack, place: str) -> None:
    ts = (await slack.space.says(slack.space.group, "hello")).split(":")[1] if place == "thread" else ""
    here = Conversation("slack", slack.space.group, ts) if ts else slack.conversation
    slack.space.front.lost.add("/chat.postMessage")
    with pytest.raises(TransportDown):
        await slack.transport.send(here, Reply("once"), "key")
    ref = await slack.transport.send(here, Reply("once"), "key")
    (posted,) = slack.space.posts(here.room, ts)
    assert ref.external_id == f"{here.room}:{posted['ts']}"
    assert ("GET", f"/api/conversations.{'replies' if ts else 'history'}") in slack.space.front.requests
    await slack.transport.send(here, Reply("once"), "another key")
    assert len(slack.space.posts(here.room, ts)) == 2, "the words are not what it is known by"


async def test_slack_a_file_whose_answer_was_lost_is_found_and_not_repeated(
    slack: EmulatedSlack, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_text("a,b\n")
    file = OutgoingFile(tmp_path / "table.csv", "table.csv", "text/csv", 4)
    slack.space.front.lost.add("/files.completeUploadExternal")
    with pytest.raises(TransportDown):
        await slack.transport.send_file(slack.conversation, file, Reply("a table"), "key")
    await slack.transport.send_file(slack.conversation, file, Reply("a table"), "key")
    assert slack.visible() == ["a table"]
    assert await slack.got("a table") == b"a,b\n"


async def test_slack_another_process_finds_what_the_one_before_posted(slack: EmulatedSlack) -> None:
    ref = await slack.send("once", "key")
    assert slack.task is not None
    slack.task.cancel()
    await asyncio.wait([slack.task])
    async with slack.bot() as other:
        assert await other.send(slack.conversation, "once", "key") == ref
    assert slack.visible() == ["once"]


async def test_slack_what_depends_on_the_room_is_held_and_the_rest_refused(slack: EmulatedSlack) -> None:
    private = (await slack.space.acts(ANAS, "conversations.create", name="secret", is_private="true"))["channel"]["id"]
    with pytest.raises(DeliveryHeld, match="invite the bot"):
        await slack.transport.send(Conversation("slack", private), Reply("hello"), "key")
    with pytest.raises(DeliveryHeld, match="channel_not_found"):
        await slack.transport.send(Conversation("slack", "C0NOWHERE"), Reply("hello"), "key")
    ref = await slack.transport.send(Conversation("slack", slack.space.group), Reply("hello"), "key")
    await slack.space.acts(ANAS, "conversations.archive", channel=slack.space.group)
    with pytest.raises(DeliveryHeld, match="archived"):
        await slack.transport.send(Conversation("slack", slack.space.group), Reply("hello"), "other key")
    with pytest.raises(DeliveryRefused, match="message_not_found"):
        await slack.transport.edit(replace(ref, external_id=f"{slack.space.group}:1.1"), Reply("hello"), "key/1")
    assert slack.transport.serving


async def test_slack_a_token_that_is_no_good_ends_the_transport(slack: EmulatedSlack) -> None:
    """Any unknown token is an administrator's to the emulator; one whose bot is gone is refused as Slack does."""
    dead = slack.bot(bot_token=DEAD_TOKEN)
    await dead.launch()
    try:
        error = await dead.fails()
    finally:
        await dead.stop()
    assert isinstance(error, TransportRefused)
    assert "invalid_auth" in str(error)


async def test_slack_a_scope_that_is_missing_is_named(slack: EmulatedSlack) -> None:
    """Slack tells the scopes with each answer, so that it is found at the log-in; the emulator only refuses."""
    async with slack.bot(bot_token=POOR_TOKEN) as poor:
        with pytest.raises(TransportRefused, match="lacks the scope chat:write"):
            await poor.transport.send(slack.conversation, Reply("hello"), "key")


# --- WhatsApp ---------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def whatsapp(store: Store, npm_packages: Path) -> AsyncIterator[EmulatedWhatsApp]:
    async with EmulatedWhatsApp(store, npm_packages / "emulate") as ground:
        yield ground


async def test_whatsapp_a_message_that_others_signed_is_taken_once_and_answered(whatsapp: EmulatedWhatsApp) -> None:
    external_id = await whatsapp.say("what is new? & 1+1=2, ä 𐍈")
    (post,) = whatsapp.account.postman.posts
    assert post.statuses == [200]
    await whatsapp.account.postman.deliver(post)
    assert post.statuses == [200, 200], "known, and acknowledged all the same"
    assert await whatsapp.recorder.stored() == [external_id]

    for forged in (
        replace(post, body=post.body.replace(b"new", b"old")),
        replace(post, path=f"{post.path}?to=others"),
        replace(post, headers={**post.headers, "X-Twilio-Signature": "A" * 27 + "="}),
    ):
        assert (await whatsapp.account.postman.deliver(forged)).status == 403
    await whatsapp.send("*Nothing*", "key")
    assert whatsapp.visible() == ["_Nothing_"]
    (sent,) = whatsapp.account.sent()
    assert (sent["status"], sent["num_segments"], sent["error_code"]) == ("queued", "1", None)


class Notes:
    """`Deliveries` of a person who wrote just now."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str, Outcome]] = []

    def wake(self, conversation: Conversation) -> None:
        """Nothing is held."""

    async def heard(self, conversation: Conversation) -> float:
        return time.time()

    async def said(self, transport: str, external_id: str) -> None:
        return None

    async def newest(self) -> int:
        return 0

    async def claimed(self, conversation: Conversation, since: float) -> list[str]:
        return []

    async def report(self, transport: str, key: str, external_id: str, outcome: Outcome, why: str) -> Noted:
        self.reports.append((key, external_id, outcome))
        return "kept"


async def test_whatsapp_what_became_of_a_message_is_learnt_from_callbacks_that_others_signed(
    whatsapp: EmulatedWhatsApp,
) -> None:
    notes = Notes()
    bot = whatsapp.bot(notes)
    async with bot:
        whatsapp.account.postman.target = f"http://127.0.0.1:{bot.port}"
        await bot.start(whatsapp.recorder)
        first = await bot.transport.send(whatsapp.conversation, Reply("one"), "a key/with #?&")
        second = await bot.transport.send(whatsapp.conversation, Reply("two"), "other key")
        assert notes.reports == [], "that it waits at Twilio means nothing yet"
        await whatsapp.account.tells(first.external_id, "delivered")
        await whatsapp.account.tells(second.external_id, "failed")
    assert notes.reports == [
        ("a key/with #?&", first.external_id, Outcome.ARRIVED),
        ("other key", second.external_id, Outcome.LOST),
    ]
    assert [post.statuses for post in whatsapp.account.postman.posts] == [[200]] * 4


async def test_whatsapp_an_account_that_is_no_good_ends_the_transport(whatsapp: EmulatedWhatsApp) -> None:
    for wrong in ({"auth_token": "wrong"}, {"account_sid": "AC" + "1" * 32}):
        async with whatsapp.bot(None, **wrong) as bot:
            with pytest.raises(TransportRefused, match="401 20003"):
                await bot.start(whatsapp.recorder)
    whatsapp.account.ask(f"/2010-04-01/Accounts/{ACCOUNT}.json", Status="suspended")
    assert whatsapp.task is not None
    with pytest.raises(TransportRefused, match="suspended"):
        await asyncio.wait_for(whatsapp.task, 20 * patience())


async def test_whatsapp_what_it_refuses_for_good_is_told(whatsapp: EmulatedWhatsApp) -> None:
    # Twilio itself says 21211 of such a number; to us both are a refusal of this one message.
    with pytest.raises(DeliveryRefused, match="400 21201"):
        await whatsapp.transport.send(Conversation("whatsapp", "+12"), Reply("hello"), "key")
    assert whatsapp.transport.serving
    async with whatsapp.bot(from_number="+15550000000") as bot:
        await bot.start(whatsapp.recorder)
        with pytest.raises(TransportRefused, match="21606"):
            await bot.transport.send(whatsapp.conversation, Reply("hello"), "key")
    assert whatsapp.visible() == []


async def test_whatsapp_a_post_whose_answer_was_lost_is_not_repeated(whatsapp: EmulatedWhatsApp) -> None:
    """Twilio took it, as it shows here, and as its list tells."""
    posted = whatsapp.transport._made().outgoing.posted  # type: ignore[attr-defined]
    whatsapp.account.front.lost.add("/Messages.json")
    with pytest.raises(TransportDown, match="perhaps sent"):
        await whatsapp.transport.send(whatsapp.conversation, Reply("once"), "huskies-1-0")
    posted._doubts = dict.fromkeys(posted._doubts, float("-inf"))
    await whatsapp.transport.send(whatsapp.conversation, Reply("once"), "huskies-1-0")
    assert whatsapp.visible() == ["once"]
    await whatsapp.transport.send(whatsapp.conversation, Reply("once"), "huskies-2-0")
    assert whatsapp.visible() == ["once", "once"]
