"""`POST /webhooks/slack`: what is authentic is committed before it is answered, anything else is nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import pytest
from aiohttp import web
from slack_sdk.signature import SignatureVerifier

from gateway.testing import patience
from gateway.web.webhooks import SERVER
from tests.support.slack_bot import SlackBot
from tests.support.slack_server import SECRET, SlackServer, signed
from transports.slack.webhook import Webhook

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def bot() -> AsyncIterator[SlackBot]:
    async with SlackServer("http") as server:
        server.channel("D0ANA")
        async with SlackBot(server) as bot:
            yield bot


def event(text: str = "hello", ts: str = "1700000000.000100") -> bytes:
    """An event callback, as its bytes."""
    message = {"type": "message", "user": "U0ANA", "text": text, "ts": ts, "channel": "D0ANA", "channel_type": "im"}
    return json.dumps({"type": "event_callback", "team_id": "T0TEAM", "event": message}).encode()


async def post(
    bot: SlackBot, body: bytes, headers: dict[str, str], kind: str = "application/json"
) -> tuple[int, bytes]:
    async with bot.server.client.post(
        bot.server.webhook, data=body, headers={"Content-Type": kind} | headers
    ) as answer:
        return answer.status, await answer.read()


async def test_our_signature_is_the_sdks(bot: SlackBot) -> None:
    body, stamp = event("ünï"), str(int(time.time()))
    made = SignatureVerifier(SECRET).generate_signature(timestamp=stamp, body=body)
    assert made is not None
    assert Webhook(SECRET).is_signed(stamp.encode(), made.encode(), body)
    assert await post(bot, body, {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": made}) == (200, b"")
    assert bot.memory.texts == ["ünï"]


STAMP, SIGNATURE = "X-Slack-Request-Timestamp", "X-Slack-Signature"


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in signed(event()).items() if key != name}


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: {}, id="absent"),
        pytest.param(lambda: without(SIGNATURE), id="no signature"),
        pytest.param(lambda: without(STAMP), id="no timestamp"),
        pytest.param(lambda: signed(event(), at=time.time() - 301), id="stale"),
        pytest.param(lambda: signed(event(), at=time.time() + 400), id="from the future"),
        pytest.param(lambda: signed(event(), secret="another"), id="forged"),
        pytest.param(lambda: signed(event("other")), id="of another body"),
        pytest.param(lambda: signed(event()) | {SIGNATURE: "v0=" + "ü" * 64}, id="non-ascii signature"),
        pytest.param(lambda: signed(event()) | {STAMP: "١٧٠٠٠٠٠٠٠٠"}, id="arabic digits"),
        pytest.param(lambda: signed(event()) | {STAMP: "1e9"}, id="no integer"),
        pytest.param(lambda: signed(event()) | {STAMP: "9" * 5000}, id="a huge number"),
        pytest.param(lambda: signed(event()) | {SIGNATURE: "v0="}, id="half a signature"),
    ],
)
async def test_who_is_not_slack_gets_401(
    bot: SlackBot, caplog: pytest.LogCaptureFixture, made: Callable[[], dict[str, str]]
) -> None:
    """FAULTS 21. Also a body that is no JSON, which must not even be looked at."""
    caplog.set_level(logging.DEBUG)
    for body in (event(), b'{"canary-body": ', b"\xff\xfe"):
        status, _ = await post(bot, body, made())
        assert status == 401
    assert bot.memory.accepted == []
    assert "hello" not in caplog.text
    assert "canary" not in caplog.text


async def test_a_clock_that_is_wrong_is_told(bot: SlackBot, caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute at most, as is any other refusal."""
    body = event()
    for _ in range(3):
        assert (await post(bot, body, signed(body, at=time.time() - 4000)))[0] == 401
    assert (await post(bot, body, signed(body, secret="another")))[0] == 401
    (told,) = [record.getMessage() for record in caplog.records if record.name == "transports.slack.webhook"]
    assert re.search(r"\b400\d s old", told)
    assert "clock" in told


async def test_spoofed_headers_change_nothing(bot: SlackBot) -> None:
    """FAULTS 23."""
    spoofed = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "1.2.3.4"}
    body = event()
    assert (await post(bot, body, signed(body) | spoofed))[0] == 200
    assert (await post(bot, body, spoofed))[0] == 401


async def test_the_url_is_verified_only_for_slack(bot: SlackBot) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "abc", "token": "t"}).encode()
    assert (await post(bot, body, {}))[0] == 401
    status, answer = await post(bot, body, signed(body))
    assert (status, json.loads(answer)) == (200, {"challenge": "abc"})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "application/json"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "application/json"),
        (b'"text"', "application/json"),
        (b"\xff", "application/json"),
        (b"&".join(b"f%d=1" % n for n in range(90_000)), FORM),
        (urlencode({"payload": "{"}).encode(), FORM),
        (b"payload=%ff%fe", FORM),
        (b"no=command", FORM),
    ],
)
async def test_signed_nonsense_is_400(bot: SlackBot, body: bytes, kind: str) -> None:
    """FAULTS 24."""
    assert (await post(bot, body, signed(body), kind))[0] == 400


async def test_a_body_that_is_too_long(bot: SlackBot) -> None:
    """FAULTS 24: by its header at once, and where that lies after as much as is allowed."""
    body = b" " * 2**21
    assert (await post(bot, body, signed(body)))[0] == 413

    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 2**16

    tracemalloc.start()
    headers = signed(body) | {"Content-Type": "application/json"}
    try:
        async with bot.server.client.post(bot.server.webhook, data=dripping(), headers=headers) as answer:
            assert answer.status == 413
    except aiohttp.ClientError:
        pass  # it hung up on us: as good
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**24


async def test_a_packed_body_is_not_unpacked(bot: SlackBot) -> None:
    bomb = gzip.compress(b" " * 2**26)
    status, _ = await post(bot, bomb, signed(bomb) | {"Content-Encoding": "gzip"})
    assert status == 415


async def test_nothing_is_acknowledged_before_it_is_committed(bot: SlackBot) -> None:
    """FAULTS 10, over HTTP: 503 while the store refuses, and Slack's next try is taken."""
    bot.memory.failures = 1
    body = event("keep me")
    assert (await post(bot, body, signed(body)))[0] == 503
    assert bot.memory.accepted == []
    assert bot.transport.serving
    retry = {"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_error"}
    assert (await post(bot, body, signed(body) | retry))[0] == 200
    assert bot.memory.texts == ["keep me"]


async def test_a_commit_that_takes_long_is_not_acknowledged(bot: SlackBot, monkeypatch: pytest.MonkeyPatch) -> None:
    go = asyncio.Event()
    accept = bot.memory.accept

    async def slowly(*args: Any) -> None:
        await go.wait()
        await accept(*args)

    monkeypatch.setattr(bot.memory, "accept", slowly)
    monkeypatch.setattr("transports.slack.webhook._COMMIT_S", 0.1)
    body = event("slow")
    assert (await post(bot, body, signed(body)))[0] == 503
    go.set()
    await bot.memory.gets_text("slow")


async def test_while_the_transport_does_not_run() -> None:
    async with SlackServer("http") as server:
        bot = SlackBot(server)
        await bot.listen()
        body = event()
        assert (await post(bot, body, signed(body)))[0] == 503
        assert (await post(bot, body, {}))[0] == 401
        challenge = json.dumps({"type": "url_verification", "challenge": "x"}).encode()
        assert (await post(bot, challenge, signed(challenge)))[0] == 200, "so that the URL can be set up first"
        await bot.stop()


async def test_a_form_of_each_kind(bot: SlackBot) -> None:
    await bot.server.command("D0ANA", "status &amp; more").done.wait()
    assert (await bot.memory.gets_text("status & more")).external_id.startswith("command:")
    check = urlencode({"ssl_check": "1", "token": "t"}).encode()
    assert (await post(bot, check, signed(check), FORM))[0] == 200


async def test_slow_bodies_and_headers_are_cut_off() -> None:
    """FAULTS 25, with the deadlines shortened: 500 who never finish hold nobody up."""
    webhook = Webhook(SECRET, body_s=0.5)
    app = web.Application()
    app.router.add_routes(webhook.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **(SERVER | {"keepalive_timeout": 0.5}))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = runner.addresses[0]
    body = json.dumps({"type": "url_verification", "challenge": "x"}).encode()
    head = b"POST /webhooks/slack HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for name, value in signed(body).items():
        head += f"{name}: {value}\r\n".encode()
    slow = []
    try:
        for number in range(500):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(head + (b"Content-Length: 999\r\n\r\n{" if number % 2 else b""))
            slow.append((reader, writer))
        began = time.monotonic()
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"http://127.0.0.1:{address[1]}/webhooks/slack", data=body, headers=signed(body)) as answer,
        ):
            assert answer.status == 200
        assert time.monotonic() - began < 3 * patience()
        async with asyncio.timeout(10 * patience()):
            for reader, _ in slow:
                try:
                    while await reader.read(1000):
                        continue
                except ConnectionError:
                    continue
    finally:
        for _, writer in slow:
            writer.close()
        await runner.cleanup()


def test_the_deadlines_are_short() -> None:
    """What the test above shortens."""
    assert Webhook(SECRET)._body_s <= 10
    assert SERVER["keepalive_timeout"] <= 10
    assert urlsplit("http://x/webhooks/slack").path == Webhook(SECRET).routes()[0].path
