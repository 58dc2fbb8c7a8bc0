"""What Twilio, and whoever would like to be Twilio, may post: FAULTS 7, 10, 21-25."""

from __future__ import annotations

import asyncio
import gzip
import logging
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from gateway.chat import Message
from gateway.store import Store
from gateway.testing import patience
from tests.support.databases import place
from tests.support.grounds import Recorder
from tests.support.twilio_server import ANA, BOT, PUBLIC_URL, TOKEN, TwilioServer, sign
from tests.support.whatsapp_bot import WhatsAppBot
from transports.whatsapp import webhook
from transports.whatsapp.config import WhatsAppConfig

PATH = "/webhooks/whatsapp"


class Post:
    """A bot that listens, the Twilio in front of it, and what its inbox got."""

    def __init__(self, server: TwilioServer, bot: WhatsAppBot, recorder: Recorder) -> None:
        self.server, self.bot, self.recorder = server, bot, recorder

    @property
    def texts(self) -> list[str]:
        return [item.text for item in self.recorder.offered if isinstance(item, Message)]


@pytest.fixture
async def post(tmp_path: Path, empty_database: Path) -> AsyncIterator[Post]:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    store = await Store.open(place(tmp_path))
    recorder = Recorder(store)
    recorder.know([f"whatsapp:{ANA}"])
    async with TwilioServer() as server, WhatsAppBot(server, body_s=0.5) as bot:
        await bot.start(recorder)
        yield Post(server, bot, recorder)
    await store.close()


def test_the_signature_that_twilio_published() -> None:
    """The validator's own example is the oracle."""
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
        "Caller": "+14158675309",
    }
    published = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    assert RequestValidator(TOKEN).compute_signature("https://mycompany.com/myapp.php?foo=1&bar=2", fields) == published
    config = WhatsAppConfig("AC", TOKEN, BOT, "https://mycompany.com/")
    door = webhook.Doorkeeper(config)
    assert door.is_signed("/myapp.php", "foo=1&bar=2", MultiDict(fields), published)
    assert not door.is_signed("/myapp.php", "foo=1&bar=3", MultiDict(fields), published)


@pytest.mark.parametrize(
    "signature",
    ["", "x", "é" * 28, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", "A" * 27 + "=", "=" * 28, "A" * 5000, "\udcff" * 28],
    ids=["absent", "short", "non-ascii", "of another request", "forged", "no base64", "long", "surrogates"],
)
async def test_what_is_not_signed_is_refused(post: Post, signature: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "transports")
    caplog.set_level(logging.DEBUG, "gateway")
    fields = post.server.fields("canary in the body")
    body = urlencode(fields).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", post.bot.port)
    header = f"X-Twilio-Signature: {signature}\r\n" if signature else ""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {len(body)}\r\n"
    kind = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    writer.write((head + kind).encode("utf-8", "surrogateescape") + body)
    status = (await asyncio.wait_for(reader.readline(), 5 * patience())).split()[1]
    writer.close()
    assert status == b"403"
    assert post.recorder.offered == []
    assert "canary" not in caplog.text


async def test_a_signature_with_another_token_or_for_other_fields(post: Post) -> None:
    fields = post.server.fields("pay 1")
    assert await post.server.post(PATH, fields, signature=sign(PATH, fields, token="other")) == 403
    assert await post.server.post(PATH, fields | {"Body": "pay 100"}, signature=sign(PATH, fields)) == 403
    assert await post.server.post(f"{PATH}?x=1", fields, signature=sign(PATH, fields)) == 403
    assert await post.server.post(f"{PATH}/status", fields, signature=sign(PATH, fields)) == 403
    assert await post.server.post(PATH, fields | {"AccountSid": "AC" + "9" * 32}) == 403
    assert post.texts == []
    assert await post.server.post(PATH, fields) == 200
    assert post.texts == ["pay 1"]


async def test_what_a_request_says_of_its_host_is_ignored(post: Post) -> None:
    """FAULTS 23: only the configured address counts."""
    fields = post.server.fields("hello")
    spoofed = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    there = sign(PATH, fields, public_url="https://evil.example")
    assert await post.server.post(PATH, fields, signature=there, headers=spoofed) == 403
    odd = {"Host": "bot.example.org:99999999", "X-Forwarded-Port": "nine"}
    assert await post.server.post(PATH, fields, headers=odd) == 200
    assert await post.server.post(PATH, post.server.fields("again"), headers=spoofed) == 200
    assert post.texts == ["hello", "again"]


async def test_an_odd_configured_port_is_no_error_of_ours(post: Post) -> None:
    door = webhook.Doorkeeper(WhatsAppConfig("AC", TOKEN, BOT, "https://bot.example.org:port"))
    assert not door.is_signed(PATH, "", MultiDict(a="b"), "A" * 27 + "=")


async def test_what_is_too_much_is_refused(post: Post) -> None:
    """FAULTS 24: within bounds, and without believing any of it."""
    signed = {"X-Twilio-Signature": "A" * 27 + "="}
    for body, headers, status in [
        (b"a" * 2**21, {}, 413),
        (gzip.compress(b"a=" + b"b" * 10**7), {"Content-Encoding": "gzip"}, 415),
        (b"&".join(b"a%d=1" % n for n in range(5_000)), {}, 400),
        (b"a&" * 30_000, {}, 400),
        (b'{"a":' * 10_000, {"Content-Type": "application/json"}, 403),
        (b"Body=%ff%fe", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"", {}, 403),
    ]:
        began = time.monotonic()
        assert (await post.server.raw(PATH, body, signed | headers))[0] == status, body[:20]
        assert time.monotonic() - began < 1 * patience()
    assert post.recorder.offered == []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a" * 10_000

    async with post.server._http.post(post.server.target + PATH, data=chunks(), headers=signed) as answer:
        assert answer.status == 413


@pytest.mark.waits
async def test_slow_bodies_and_headers_are_cut_off(post: Post) -> None:
    """FAULTS 25: a slow crowd, and real webhooks are taken all the while."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode()
    body = head + b"X-Twilio-Signature: " + b"A" * 27 + b"=\r\nContent-Length: 100\r\n\r\nBody="
    slow = [await asyncio.open_connection("127.0.0.1", post.bot.port) for _ in range(200)]
    for number, (_, writer) in enumerate(slow):
        writer.write(head if number % 2 else body)
    began = time.monotonic()
    await post.server.say("a real one")
    assert time.monotonic() - began < 3 * patience()
    ends = [asyncio.create_task(reader.read()) for reader, _ in slow]
    try:
        async with asyncio.timeout(12 * patience()):
            await asyncio.gather(*ends, return_exceptions=True)
        assert time.monotonic() - began < 12 * patience()
    finally:
        for task in ends:
            task.cancel()
        for _, writer in slow:
            writer.close()
    assert post.texts == ["a real one"]


async def test_nothing_is_answered_before_the_commit(post: Post) -> None:
    post.recorder.failures = 1
    fields = post.server.fields("keep me")
    assert await post.server.post(PATH, fields) == 503
    assert await post.recorder.stored() == []
    assert await post.server.post(PATH, fields) == 200
    assert await post.recorder.stored() == [fields["MessageSid"]]


async def test_a_replay_is_taken_and_nothing_runs(post: Post, tmp_path: Path) -> None:
    """FAULTS 7 and 22: also after a restart."""
    fields = post.server.fields("once")
    for _ in range(4):
        assert await post.server.post(PATH, fields) == 200
    await post.bot.stop()
    async with WhatsAppBot(post.server) as bot:
        await bot.start(post.recorder)
        assert await post.server.post(PATH, fields) == 200
    assert await post.recorder.stored() == [fields["MessageSid"]]


async def test_a_transport_that_does_not_run_takes_nothing(post: Post) -> None:
    await post.bot.stop()
    assert await post.server.post(PATH, post.server.fields("too early")) == 503
    await post.bot.start(post.recorder)
    await post.server.say("now")
    assert post.texts == ["now"]


async def test_what_is_written_while_the_account_is_refused_is_kept(post: Post) -> None:
    await post.bot.stop()
    from tests.support.twilio_server import Answer

    post.server.account_answers.append(Answer(401, 20003))
    with pytest.raises(Exception, match="20003"):
        await post.bot.start(post.recorder)
    await post.server.say("hello?")
    assert post.texts == ["hello?"]


async def test_what_is_no_message_to_the_bot_is_answered_and_ignored(post: Post) -> None:
    """FAULTS 20: own echoes; and an SMS, or a message to another number, on the same address."""
    server = post.server
    for fields in [
        server.fields("own echo", sender=BOT),
        server.fields("an sms") | {"From": ANA},
        server.fields("to another") | {"To": "whatsapp:+15550001111"},
        server.fields("no id") | {"MessageSid": ""},
        server.fields("no sender") | {"From": "whatsapp:"},
    ]:
        assert await server.post(PATH, fields) == 200
    assert post.recorder.offered == []


async def test_the_address_may_say_how_to_try_again(post: Post) -> None:
    fields = post.server.fields("with overrides")
    assert await post.server.post(PATH, fields, signature=sign(f"{PATH}#rc=5&rp=all", fields)) == 200
    assert await post.server.post(PATH, fields, signature=sign(f"{PATH}#rc=5&rp=none", fields)) == 403


async def test_the_address_may_have_a_path(tmp_path: Path, post: Post) -> None:
    async with WhatsAppBot(post.server, public_url=f"{PUBLIC_URL}/huskies") as bot:
        await bot.start(post.recorder)
        fields = post.server.fields("behind a proxy")
        made = sign(PATH, fields, public_url=f"{PUBLIC_URL}/huskies")
        assert await post.server.post(PATH, fields, signature=made) == 200
        assert await post.server.post(PATH, fields) == 403
    assert post.texts == ["behind a proxy"]
