"""What goes out: every answer of Twilio's has a meaning, and none makes a second message. FAULTS 12, 13, 31."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.chat import Conversation, Fate, MessageRef, OutgoingFile, Reply
from gateway.errors import (
    DeliveryHeld,
    DeliveryRefused,
    HuskiesError,
    OutcomeUnknown,
    TooLong,
    TransportDown,
    TransportError,
    TransportRefused,
)
from gateway.testing import patience
from tests.support.twilio_server import ACCOUNT, ANA, Answer, Fault, Sent, TwilioServer
from tests.support.whatsapp_bot import Nobody, WhatsAppBot
from transports.whatsapp import WhatsAppConfig, WhatsAppTransport, errors
from transports.whatsapp.typing import Typing

HERE = Conversation("whatsapp", ANA)
ALLOW, SESSION = "HX" + "a" * 32, "HX" + "b" * 32


@pytest.fixture
async def server() -> AsyncIterator[TwilioServer]:
    async with TwilioServer() as made:
        yield made


@pytest.fixture
async def bot(server: TwilioServer) -> AsyncIterator[WhatsAppBot]:
    words = {"allow, deny": ALLOW, "allow, allow session, deny": SESSION}
    async with WhatsAppBot(server, request_s=1.0, quick_replies=words) as made:
        await made.start(Nobody())
        yield made


async def send(bot: WhatsAppBot, text: str = "hi", key: str = "huskies-1-1", choices: tuple[str, ...] = ()) -> str:
    return (await bot.transport.send(HERE, Reply(text, choices=choices), key)).external_id


async def passed(bot: WhatsAppBot) -> None:
    """What is in doubt may be looked for by now."""
    posted = bot.transport._made().outgoing.posted
    posted._doubts = {key: since - bot.config.calm_s for key, since in posted._doubts.items()}


def test_importing_the_transport_does_not_import_the_sdk() -> None:
    code = (
        "import sys\n"
        "from transports.whatsapp import WhatsAppConfig, WhatsAppTransport\n"
        "config = WhatsAppConfig('AC', 'canary', '+1', 'https://x')\n"
        "print(WhatsAppTransport(config).name, config)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('twilio', 'aiohttp', 'markdown_it')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[1] == "[]"
    assert "canary" not in done.stdout


# --- errors ----------------------------------------------------------------------------------------------------------

MEANINGS = (
    TransportDown,
    TooLong,
    DeliveryRefused,
    DeliveryHeld,
    errors.WindowClosed,
    OutcomeUnknown,
    TransportRefused,
)


def test_every_answer_has_a_meaning() -> None:
    codes = (0, 20003, 20429, 21211, 21610, 21617, 63007, 63016, 63018, 99999)
    for status, code, posted in itertools.product(range(200, 600), codes, (True, False)):
        error = errors.from_answer(status, code, "words", retry_after_s=3, posted=posted)
        assert type(error) in MEANINGS
        if posted and code in (0, 99999) and status != 429:
            assert not isinstance(error, TransportDown), "it may have been processed, so it is not safe to repeat"


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (429, 20429, TransportDown),
        (429, 0, TransportDown),
        (400, 63018, TransportDown),
        (401, 20003, TransportRefused),
        (400, 63007, TransportRefused),
        (403, 20005, TransportRefused),
        (400, 63016, errors.WindowClosed),
        (400, 21610, DeliveryHeld),
        (400, 21211, DeliveryRefused),
        (400, 21617, TooLong),
        (404, 20404, DeliveryRefused),
        (500, 20500, OutcomeUnknown),
        (503, 0, OutcomeUnknown),
        (302, 0, OutcomeUnknown),
    ],
)
def test_what_an_answer_means(status: int, code: int, meaning: type[TransportError]) -> None:
    error = errors.from_answer(status, code, "words", retry_after_s=7, posted=True)
    assert type(error) is meaning
    if isinstance(error, TransportDown):
        assert error.retry_after_s == 7


def all_of(base: type[Exception]) -> set[type[Exception]]:
    return {base} | {kind for child in base.__subclasses__() for kind in all_of(child)}


BEFORE = all_of(aiohttp.ClientConnectorError) | {aiohttp.ConnectionTimeoutError}


@pytest.mark.parametrize(
    "kind",
    [*sorted(all_of(aiohttp.ClientError), key=str), TimeoutError, ConnectionResetError, OSError, ValueError, KeyError],
)
def test_every_exception_has_a_meaning(kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(HuskiesError) as caught, errors.translated(posted=True):
        raise kind.__new__(kind)
    if issubclass(kind, aiohttp.InvalidURL):
        assert type(caught.value) is TransportRefused
    else:
        assert type(caught.value) is (TransportDown if kind in BEFORE else OutcomeUnknown)
    assert ("unexpected" in caplog.text) is (kind is KeyError), "only a bug is unexpected"
    with pytest.raises(HuskiesError) as caught, errors.translated(posted=False):
        raise kind.__new__(kind)
    assert type(caught.value) in (TransportDown, TransportRefused)


# --- sending ---------------------------------------------------------------------------------------------------------


async def test_a_message_names_sender_person_and_where_to_report(bot: WhatsAppBot, server: TwilioServer) -> None:
    sid = await send(bot, "**hi**", "huskies-7-99")
    assert server.sent[0].sid == sid
    post = server.posts[0]
    assert post["To"] == f"whatsapp:{ANA}"
    assert post["Body"] == "*hi*"
    assert post["StatusCallback"] == "https://bot.example.org/webhooks/whatsapp/status?key=huskies-7-99"


async def test_a_limit_is_waited_for_and_nothing_was_sent(bot: WhatsAppBot, server: TwilioServer) -> None:
    server.faults.append(Answer(429, 20429, {"Retry-After": "2"}))
    with pytest.raises(TransportDown) as caught:
        await send(bot)
    assert caught.value.retry_after_s == 2
    assert server.texts() == []
    await send(bot)
    assert server.texts() == ["hi"]


@pytest.mark.parametrize("fault", ["hang", "drop", Answer(500, 20500, processed=True), Answer(201, processed=True)])
async def test_what_may_have_been_processed_is_looked_for(bot: WhatsAppBot, server: TwilioServer, fault: Fault) -> None:
    """FAULTS 13: a deadline, and one message."""
    server.faults.append(fault)
    began = time.monotonic()
    with pytest.raises(TransportDown, match="perhaps sent"):
        await send(bot, "number", "huskies-3-0")
    assert time.monotonic() - began < 3 * patience()
    with pytest.raises(TransportDown, match="not known yet") as early:
        await send(bot, "number", "huskies-3-0")
    assert early.value.retry_after_s is not None
    assert 0 < early.value.retry_after_s <= bot.config.calm_s
    assert server.list_looks == 0, "it may not be listed yet"
    await passed(bot)
    assert await send(bot, "number", "huskies-3-0") == server.sent[0].sid
    assert server.texts() == ["number"]
    assert await send(bot, "number", "huskies-4-0") == server.sent[1].sid, "the same words again are another message"
    assert server.list_looks == 1


async def test_what_was_not_processed_is_sent_again(bot: WhatsAppBot, server: TwilioServer) -> None:
    """What reads the same is another message: it was sent before, did not arrive, or is to somebody else."""
    earlier = await send(bot, "Done.", "huskies-1-0")
    server.faults.append(Answer(500, 20500))
    with pytest.raises(TransportDown):
        await send(bot, "Done.", "huskies-2-0")
    failed = Sent(server.sid(), f"whatsapp:{ANA}", "Done.", status="undelivered")
    other = Sent(server.sid(), "whatsapp:+1999", "Done.")
    server.sent += [failed, other]
    await passed(bot)
    assert await send(bot, "Done.", "huskies-2-0") not in (earlier, failed.sid, other.sid)
    assert server.list_looks == 1


async def test_a_file_is_looked_for_among_files(bot: WhatsAppBot, server: TwilioServer, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    file = OutgoingFile(tmp_path / "a.pdf", "a.pdf", "application/pdf", 4)
    server.faults.append("drop")
    with pytest.raises(TransportDown):
        await bot.transport.send_file(HERE, file, Reply("a page"), "huskies-1-0")
    server.sent.append(Sent(server.sid(), f"whatsapp:{ANA}", "a page"))
    await passed(bot)
    found = await bot.transport.send_file(HERE, file, Reply("a page"), "huskies-1-0")
    assert found.external_id == server.sent[0].sid
    assert len(server.posts) == 1


async def test_it_is_looked_for_on_every_page_but_not_among_what_is_older(
    bot: WhatsAppBot, server: TwilioServer
) -> None:
    server.faults.append("drop")
    created = int(time.time())
    with pytest.raises(TransportDown):
        await send(bot, "mine", f"huskies-1-{created}")
    server.sent += [Sent(server.sid(), f"whatsapp:{ANA}", f"other {number}") for number in range(60)]
    server.sent.insert(0, Sent(server.sid(), f"whatsapp:{ANA}", "mine", at=created - 600))
    await passed(bot)
    assert await send(bot, "mine", f"huskies-1-{created}") == server.sent[1].sid
    assert server.list_looks == 2


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [(Answer(404, 20404), OutcomeUnknown), (Answer(503), TransportDown), (Answer(200), TransportDown)],
)
async def test_a_list_that_cannot_be_had_settles_nothing(
    bot: WhatsAppBot, server: TwilioServer, answer: Answer, meaning: type[TransportError]
) -> None:
    server.faults.append("drop")
    with pytest.raises(TransportDown):
        await send(bot)
    await passed(bot)
    server.list_answers.append(answer)
    with pytest.raises(meaning):
        await send(bot)
    assert len(server.posts) == 1


async def test_nobody_listens(server: TwilioServer) -> None:
    async with WhatsAppBot(server) as bot:
        await bot.start(Nobody())
        await server._runner.cleanup()
        with pytest.raises(TransportDown):
            await send(bot)


async def test_a_transport_that_does_not_run_sends_nothing() -> None:
    transport = WhatsAppTransport(WhatsAppConfig(ACCOUNT, "12345", "+1", "https://x"))
    with pytest.raises(TransportDown):
        await transport.send(HERE, Reply("x"), "key")
    assert not transport.serving
    with pytest.raises(DeliveryRefused):
        await transport.edit(MessageRef(HERE, "SM1"), Reply("x"), "key")


async def test_buttons_where_a_template_has_them(bot: WhatsAppBot, server: TwilioServer) -> None:
    await send(bot, "**May I?**", choices=("allow", "deny"))
    await send(bot, "May I?", "huskies-2-2", choices=("allow", "allow session", "deny"))
    assert [(sent.content_sid, sent.text) for sent in server.sent] == [(ALLOW, "*May I?*"), (SESSION, "May I?")]
    await send(bot, "which?", "huskies-3-3", choices=("1", "2"))
    await send(bot, "x" * 1_100, "huskies-4-4", choices=("allow", "deny"))
    server.faults.append(Answer(400, 21656))
    await send(bot, "fallback", "huskies-5-5", choices=("allow", "deny"))
    assert [sent.content_sid for sent in server.sent[2:]] == ["", "", ""], "then as text, which names the words too"


# --- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [Answer(401, 20003), Answer(404, 20404), Answer(403, 20005)])
async def test_an_account_that_is_no_good(server: TwilioServer, answer: Answer) -> None:
    server.account_answers.append(answer)
    async with WhatsAppBot(server) as bot:
        with pytest.raises(TransportRefused, match=r"transports\.whatsapp"):
            await bot.start(Nobody())
        assert not bot.transport.serving
        assert server.account_looks == 1


async def test_an_outage_ends(server: TwilioServer) -> None:
    server.account_answers += [Answer(503), Answer(500)]
    async with WhatsAppBot(server) as bot:
        await bot.start(Nobody())
        assert server.account_looks == 3


async def test_a_failed_send_has_somebody_look_at_the_account(bot: WhatsAppBot, server: TwilioServer) -> None:
    server.faults.append(Answer(401, 20003))
    server.account_answers.append(Answer(401, 20003))
    with pytest.raises(TransportRefused):
        await send(bot)
    assert bot.task is not None
    with pytest.raises(TransportRefused):
        await asyncio.wait_for(asyncio.shield(bot.task), 5 * patience())
    assert not bot.transport.serving


# --- typing ----------------------------------------------------------------------------------------------------------


async def test_typing_while_a_run_is_under_way(bot: WhatsAppBot, server: TwilioServer) -> None:
    ref = MessageRef(HERE, server.sid())
    await bot.transport.mark(ref, Fate.QUEUED)
    await bot.transport.mark(ref, Fate.RUNNING)
    await server.until(lambda server: list(server.typing) == [ref.external_id])
    await bot.transport.mark(ref, Fate.ANSWERED)
    assert bot.transport._made()._typing._tasks == {}  # type: ignore[union-attr]


async def test_typing_goes_on_and_ends(server: TwilioServer) -> None:
    class Fast:
        def __init__(self) -> None:
            self.calls: asyncio.Queue[str] = asyncio.Queue()
            self.error: TransportError | None = TransportDown()

        async def type(self, sid: str) -> None:
            self.calls.put_nowait(sid)
            if self.error is not None:
                raise self.error

    api = Fast()
    typing = Typing(api, every_s=0.01)  # type: ignore[arg-type]
    ref, other = MessageRef(HERE, server.sid()), MessageRef(HERE, server.sid())
    typing.show(ref, Fate.RUNNING)
    async with asyncio.timeout(5 * patience()):
        assert [await api.calls.get() for _ in range(3)] == [ref.external_id] * 3, "also after a failure"
        typing.show(other, Fate.RUNNING)
        while await api.calls.get() != other.external_id:
            continue
        typing.show(ref, Fate.ANSWERED)
        assert await api.calls.get() == other.external_id, "a later message is still at work"
        api.error = DeliveryRefused("not offered")
        task = typing._tasks[ANA][1]
        await asyncio.wait([task])
    typing.show(ref, Fate.RUNNING)
    assert typing._tasks[ANA][1] is task, "what is not offered is not asked for again"
    await typing.aclose()
