"""The 24 hours in which WhatsApp lets us write, and what Twilio says later of what it took: FAULTS 5 and 18."""

from __future__ import annotations

import asyncio
import mimetypes
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from gateway.chat import Conversation, Noted, OutgoingFile, Transport
from gateway.config import Access
from gateway.delivery import Outbox
from gateway.delivery.worker import GIVE_UP_S
from gateway.intake import Inbox
from gateway.store import Store, conversations
from gateway.store.conversations import Destination
from gateway.store.tables import messages, outbox
from gateway.testing import patience
from tests.support.databases import place
from tests.support.twilio_server import ANA, Answer, TwilioServer
from tests.support.whatsapp_bot import WhatsAppBot
from transports.whatsapp import window

TEMPLATE, BUTTONS = "HX" + "c" * 32, "HX" + "d" * 32
HERE = Conversation("whatsapp", ANA)
BEN = "+491711111111"


class Desk:
    """An inbox and an outbox with the transport between them; `restart` is another process's."""

    def __init__(self, store: Store, server: TwilioServer, **settings: Any) -> None:
        self.store, self.server = store, server
        self._settings = {"calm_s": 0.2, "template_sid": TEMPLATE, "quick_replies": {"allow,deny": BUTTONS}, **settings}

    async def start(self) -> None:
        transports: dict[str, Transport] = {}
        self.outbox = Outbox(self.store, transports)
        self.bot = WhatsAppBot(self.server, self.outbox, **self._settings)
        transports["whatsapp"] = self.bot.transport
        access = Access([f"whatsapp:{ANA}", f"whatsapp:{BEN}"], [])
        self.inbox = Inbox(self.store, access, on_accepted=lambda _: None, on_withdrawn=lambda _: None)
        await self.bot.__aenter__()
        await self.bot.start(self.inbox.of("whatsapp"))
        await self.outbox.recover()

    async def stop(self) -> None:
        await self.outbox.close()
        await self.bot.__aexit__()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def reply(self, text: str, *, here: Conversation = HERE, choices: str = "") -> None:
        """The gateway says something."""

        def unit(c: Any) -> None:
            known = conversations.ensure(c, here, direct=True)
            self.outbox.add(c, Destination(here, known.id), text, choices=choices)

        await self.store.write(unit)
        self.outbox.wake(here)

    async def wrote_ago(self, seconds: float) -> None:
        """All that people wrote is that old."""
        await self.store.write(lambda c: c.execute(update(messages).values(received_at=time.time() - seconds)).close())
        self.bot.transport._made()._window.wrote(ANA)

    async def states(self) -> list[tuple[str, str]]:
        """Text and state of what went out, or shall, oldest first."""
        rows = select(outbox.c.text, outbox.c.state).order_by(outbox.c.id)
        return [(row.text, row.state) for row in await self.store.read(lambda c: c.execute(rows).all())]

    async def settled(self) -> None:
        """Nothing is under way; what is held stays."""
        assert await self.outbox.drain(10)

    def bodies(self) -> list[str]:
        """What a person got: texts, and the template."""
        return ["(template)" if sent.content_sid == TEMPLATE else sent.text for sent in self.server.sent]


@pytest.fixture
async def desk(tmp_path: Path, empty_database: Path) -> AsyncIterator[Desk]:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    store = await Store.open(place(tmp_path))
    async with TwilioServer() as server:
        made = Desk(store, server)
        await made.start()
        await server.say("hello")
        yield made
        await made.stop()
    await store.close()


async def test_a_reply_within_the_day_is_sent(desk: Desk) -> None:
    await desk.wrote_ago(window.OPEN_S - 5)
    await desk.reply("in time")
    await desk.settled()
    assert desk.bodies() == ["in time"]


async def test_what_is_late_is_held_and_delivered_in_order(desk: Desk) -> None:
    await desk.wrote_ago(window.OPEN_S + 5)
    for text in ("one", "two", "three"):
        await desk.reply(text)
    await desk.settled()
    assert desk.bodies() == ["(template)"], "asked once, and nothing that WhatsApp would drop is even tried"
    assert await desk.states() == [("one", "pending"), ("two", "pending"), ("three", "pending")]
    await desk.server.say("I am here")
    await desk.server.reads("three")
    await desk.settled()
    assert desk.bodies() == ["(template)", "one", "two", "three"]
    await desk.wrote_ago(window.OPEN_S + 5)
    desk.bot.transport._made()._window._closed = {ANA: time.time() - 10**6}
    await desk.reply("four")
    await desk.settled()
    assert desk.bodies()[4:] == ["(template)"], "each time anew"


async def test_what_is_held_outlives_the_process_and_asks_nobody_twice(desk: Desk) -> None:
    await desk.wrote_ago(10**6)
    await desk.reply("one")
    await desk.settled()
    await desk.restart()
    await desk.reply("two")
    await desk.settled()
    assert desk.bodies() == ["(template)"]
    await desk.server.say("back")
    await desk.server.reads("two")
    await desk.settled()
    assert desk.bodies() == ["(template)", "one", "two"]


async def test_what_was_held_for_days_is_still_tried_again(desk: Desk) -> None:
    await desk.wrote_ago(10**6)
    await desk.reply("one")
    await desk.settled()
    old = time.time() - GIVE_UP_S - 100
    await desk.store.write(lambda c: c.execute(update(outbox).values(created_at=old)).close())
    desk.server.faults.append(Answer(429, 20429, {"Retry-After": "0.1"}))
    await desk.server.say("back")
    await desk.server.reads("one")
    assert len(desk.server.posts) == 3


async def test_a_replay_of_an_old_message_opens_nothing(desk: Desk) -> None:
    fields = desk.server.fields("long ago")
    assert await desk.server.post("/webhooks/whatsapp", fields) == 200
    await desk.wrote_ago(10**6)
    await desk.reply("secret")
    await desk.settled()
    assert await desk.server.post("/webhooks/whatsapp", fields) == 200
    await desk.settled()
    assert desk.bodies() == ["(template)"]


async def test_others_are_not_held_up(desk: Desk) -> None:
    await desk.wrote_ago(10**6)
    await desk.reply("held")
    await desk.settled()
    await desk.server.say("and I?", sender=BEN)
    await desk.reply("for Ben", here=Conversation("whatsapp", BEN))
    await desk.settled()
    assert desk.server.texts(BEN) == ["for Ben"]
    assert desk.bodies() == ["(template)", "for Ben"]


async def test_a_limit_in_one_conversation_is_not_the_others(desk: Desk) -> None:
    """FAULTS 12."""
    await desk.server.say("and I?", sender=BEN)
    desk.server.faults.append(Answer(429, 20429, {"Retry-After": "2"}))
    await desk.reply("for Ana")
    await desk.server.until(lambda server: server.posts)
    began = time.monotonic()
    await desk.reply("for Ben", here=Conversation("whatsapp", BEN))
    await desk.server.reads("for Ben")
    assert time.monotonic() - began < 1 * patience()
    await desk.server.reads("for Ana")
    assert time.monotonic() - began > 1.5, "it waited as told"
    await desk.settled()
    assert sorted(desk.bodies()) == ["for Ana", "for Ben"]


async def test_twilio_may_know_better_at_once(desk: Desk) -> None:
    desk.server.faults.append(Answer(400, 63016))
    await desk.reply("one")
    await desk.settled()
    assert desk.bodies() == ["(template)"]
    await desk.server.say("back")
    await desk.server.reads("one")
    await desk.settled()
    assert [state for _, state in await desk.states()] == ["sent"]


async def test_twilio_may_know_better_later(desk: Desk) -> None:
    """Mostly 63016 comes as a status, after a 201."""
    await desk.reply("one")
    await desk.reply("two")
    await desk.settled()
    one, two = desk.server.sent
    assert await desk.server.tell(one, "failed", "63016") == 200
    assert await desk.server.tell(two, "undelivered", "63016") == 200
    await desk.server.reads("")
    await desk.settled()
    assert desk.bodies() == ["one", "two", "(template)"]
    assert await desk.states() == [("one", "pending"), ("two", "pending")]
    await desk.server.say("back")
    await desk.server.until(lambda server: len(server.sent) == 5)
    await desk.settled()
    assert desk.bodies()[3:] == ["one", "two"]
    assert await desk.server.tell(one, "failed", "63016") == 200
    await desk.settled()
    assert len(desk.server.sent) == 5, "it speaks of an earlier try"


async def test_the_template_waits_for_a_limit(desk: Desk) -> None:
    await desk.wrote_ago(10**6)
    desk.server.faults.append(Answer(429, 20429, {"Retry-After": "0.05"}))
    await desk.reply("one")
    await desk.server.until(lambda server: server.sent)
    await desk.settled()
    assert desk.bodies() == ["(template)"]


async def test_without_a_template_it_is_held_all_the_same(desk: Desk) -> None:
    await desk.stop()
    plain = Desk(desk.store, desk.server, template_sid="")
    await plain.start()
    desk.bot, desk.outbox = plain.bot, plain.outbox
    await plain.wrote_ago(10**6)
    await plain.reply("one")
    await plain.settled()
    assert plain.server.posts == []
    await plain.server.say("back")
    await plain.server.reads("one")


# --- what became of it -----------------------------------------------------------------------------------------------


async def test_what_did_not_arrive_is_kept(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.reply("lost")
    await desk.settled()
    assert await desk.server.tell(desk.server.sent[0], "delivered") == 200
    assert await desk.states() == [("lost", "sent")]
    assert await desk.server.tell(desk.server.sent[0], "undelivered", "63024") == 200
    assert await desk.states() == [("lost", "failed")]
    assert "63024" in caplog.text
    assert "lost" not in caplog.text


async def test_a_file_that_did_not_arrive_is_told_of(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    file = OutgoingFile(tmp_path / "f", "a.zip", "application/zip", 1)

    def unit(c: Any) -> None:
        desk.outbox.add_file(c, Destination(HERE, conversations.ensure(c, HERE, direct=True).id), file, "")

    await desk.store.write(unit)
    desk.outbox.wake(HERE)
    await desk.settled()
    assert await desk.server.tell(desk.server.sent[0], "failed", "63019") == 200
    assert (await desk.server.reads("could not be sent")).text.startswith("📎 a.zip")


@pytest.mark.parametrize("name", ["answer.md", "notes.txt"])
async def test_a_text_that_does_not_arrive_as_a_file_does_as_messages(desk: Desk, tmp_path: Path, name: str) -> None:
    """Else the rest of a long answer could be read by nobody on a phone."""
    text = "".join(f"line {n}\n" for n in range(500))
    (tmp_path / "f").write_text(text)
    file = OutgoingFile(tmp_path / "f", name, mimetypes.guess_type(name)[0] or "", len(text))

    def unit(c: Any) -> None:
        desk.outbox.add_file(c, Destination(HERE, conversations.ensure(c, HERE, direct=True).id), file, "")

    await desk.store.write(unit)
    desk.outbox.wake(HERE)
    await desk.settled()
    assert await desk.server.tell(desk.server.sent[0], "failed", "63019") == 200
    await desk.server.reads("line 499")
    lines = [line for body in desk.bodies() for line in body.split("\n") if line.startswith("line ")]
    assert lines == text.splitlines()
    assert str(tmp_path) not in "".join(desk.bodies())


async def test_a_question_whose_buttons_failed_comes_as_text(desk: Desk) -> None:
    await desk.reply("May I?", choices='["allow", "deny"]')
    await desk.settled()
    assert desk.server.sent[0].content_sid == BUTTONS
    assert await desk.server.tell(desk.server.sent[0], "failed", "63013") == 200
    await desk.server.until(lambda server: len(server.sent) == 2)
    await desk.settled()
    assert (desk.server.sent[1].content_sid, desk.server.sent[1].text) == ("", "May I?")
    assert await desk.server.tell(desk.server.sent[1], "failed", "63013") == 200
    assert await desk.states() == [("May I?", "failed")]


async def test_an_unknown_outcome_is_cleared_up_by_its_status(desk: Desk) -> None:
    """FAULTS 5: never sent twice; what Twilio tells by itself need not be asked."""
    desk.server.faults.append("drop")
    await desk.reply("perhaps")
    await desk.server.reads("perhaps")
    assert await desk.server.tell(desk.server.sent[0], "delivered") == 200
    await desk.settled()
    assert await desk.states() == [("perhaps", "sent")]
    assert desk.bodies() == ["perhaps"]
    assert desk.server.list_looks == 0


async def test_a_reply_brings_what_it_answers(desk: Desk) -> None:
    await desk.reply("the deploy fails with exit 137")
    await desk.settled()
    theirs = await desk.server.say("and the tests, too")
    await desk.server.say("fix this", OriginalRepliedMessageSid=desk.server.sent[0].sid)
    await desk.server.say("and that", OriginalRepliedMessageSid=theirs)
    await desk.server.say("and what?", OriginalRepliedMessageSid=desk.server.sid())
    rows = select(messages.c.text, messages.c.quoted).order_by(messages.c.id.desc()).limit(3)
    found = {row.text: row.quoted for row in await desk.store.read(lambda c: c.execute(rows).all())}
    assert found == {
        "fix this": "> You wrote:\n> the deploy fails with exit 137",
        "and that": "> Ana wrote:\n> and the tests, too",
        "and what?": "",
    }


async def test_whoever_answers_before_it_is_recorded_as_sent_brings_it_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.reply("the deploy fails")
    await desk.settled()
    looks, said = [], desk.outbox.said

    async def late(transport: str, external_id: str) -> tuple[str, str] | None:
        looks.append(external_id)
        return await said(transport, external_id) if len(looks) > 1 else None

    monkeypatch.setattr(desk.outbox, "said", late)
    await desk.server.say("fix this", OriginalRepliedMessageSid=desk.server.sent[0].sid)
    rows = select(messages.c.quoted).where(messages.c.text == "fix this")
    assert await desk.store.read(lambda c: c.scalar(rows)) == "> You wrote:\n> the deploy fails"
    assert len(looks) == 2


async def test_what_is_told_to_be_lost_while_in_doubt_is_sent_again(desk: Desk) -> None:
    desk.server.faults.append("drop")
    await desk.reply("perhaps")
    first = await desk.server.reads("perhaps")
    assert await desk.server.tell(first, "failed", "63024") == 200
    await desk.settled()
    assert desk.bodies() == ["perhaps", "perhaps"]
    assert await desk.states() == [("perhaps", "sent")]


@pytest.mark.parametrize("processed", [True, False])
async def test_what_an_earlier_process_may_have_sent_is_looked_for(desk: Desk, processed: bool) -> None:
    """FAULTS 5: the process ended between the post and its record."""
    await desk.reply("again")
    await desk.settled()
    sent = desk.server.sent[0]
    await desk.store.write(lambda c: c.execute(update(outbox).values(state="pending", external_id="")).close())
    if not processed:
        desk.server.sent.clear()
    await desk.restart()
    await desk.settled()
    assert await desk.states() == [("again", "sent")]
    assert desk.bodies() == ["again"]
    assert (desk.server.sent[0] is sent) is processed
    await desk.reply("new")
    await desk.settled()
    assert desk.server.list_looks == 1, "of this process's own messages it knows"


async def test_another_message_that_reads_the_same_is_not_taken_for_it(desk: Desk) -> None:
    for _ in range(2):
        await desk.reply("Done.")
    await desk.settled()
    last = select(func.max(outbox.c.id)).scalar_subquery()
    lost = update(outbox).where(outbox.c.id == last).values(state="pending", external_id="")
    await desk.store.write(lambda c: c.execute(lost).close())
    del desk.server.sent[1]
    await desk.restart()
    await desk.settled()
    assert desk.bodies() == ["Done.", "Done."]


async def test_what_cannot_be_known_is_said(desk: Desk) -> None:
    desk.server.faults.append("drop")
    desk.server.list_answers.append(Answer(404, 20404))
    await desk.reply("perhaps")
    await desk.settled()
    assert desk.bodies() == ["perhaps", "It is not known whether this arrived: “perhaps”"]
    assert [state for _, state in await desk.states()] == ["unknown", "sent"]


async def test_a_message_that_is_too_long_for_twilio_arrives_in_parts_before_what_follows(desk: Desk) -> None:
    text = "\n\n".join(f"paragraph {number} " + "x" * 300 for number in range(4))
    desk.server.faults += [Answer(400, 21617), Answer(400, 21617)]
    await desk.reply(text, choices='["allow", "deny"]')
    await desk.reply("afterwards")
    await desk.settled()
    bodies = desk.bodies()
    assert "".join(bodies[:-1]).replace("\n", "") == text.replace("\n", "")
    assert bodies[-1] == "afterwards"
    assert len(bodies) >= 4
    assert [sent.content_sid for sent in desk.server.sent] == [""] * (len(bodies) - 2) + [BUTTONS, ""]


async def test_a_status_that_overtakes_its_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    early, report = asyncio.Event(), desk.outbox.report

    async def noted(*told: Any) -> Noted:
        found = await report(*told)
        if found == "early":
            early.set()
        return found

    monkeypatch.setattr(desk.outbox, "report", noted)
    await desk.reply("fast")
    await desk.settled()
    await desk.store.write(lambda c: c.execute(update(outbox).values(state="sending", external_id="")).close())
    telling = asyncio.create_task(desk.server.tell(desk.server.sent[0], "failed", "63024"))
    await asyncio.wait_for(early.wait(), 10 * patience())
    sid = desk.server.sent[0].sid
    await desk.store.write(lambda c: c.execute(update(outbox).values(state="sent", external_id=sid)).close())
    assert await telling == 200
    assert await desk.states() == [("fast", "failed")]


@pytest.mark.parametrize("key", ["", "huskies-1-1", "huskies-99999-1", "x", "huskies-²-1"])
async def test_a_status_of_something_else(desk: Desk, key: str) -> None:
    await desk.reply("mine")
    await desk.settled()
    sent = desk.server.sent[0]
    sent.callback = f"https://bot.example.org/webhooks/whatsapp/status?key={key}"
    if key.isascii():
        assert await desk.server.tell(sent, "failed", "63024") == 200
    assert await desk.states() == [("mine", "sent")]


async def test_a_window_that_was_stamped_in_the_future_is_open_again_when_they_write(desk: Desk) -> None:
    """The clock was two hours fast when they wrote and were told that they are too late; now it is right."""
    await desk.wrote_ago(-7200)
    desk.server.faults.append(Answer(400, 63016))
    await desk.reply("one")
    await desk.settled()
    await desk.server.say("here I am")
    desk.outbox.wake(HERE)
    await desk.settled()
    await desk.reply("two")
    await desk.settled()
    assert desk.bodies()[-2:] == ["one", "two"]
