"""The parts of an answer keep their order, which WhatsApp itself does not promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.chat import Conversation, Reply
from tests.support.twilio_server import ANA, TwilioServer
from tests.support.way_out import WayOut
from tests.support.whatsapp_bot import Nobody, WhatsAppBot

HERE, ELSEWHERE = Conversation("whatsapp", ANA), Conversation("whatsapp", "+491700000001")


@pytest.fixture
async def server() -> AsyncIterator[TwilioServer]:
    async with TwilioServer() as made:
        yield made


async def send(bot: WhatsAppBot, number: int, here: Conversation = HERE) -> None:
    await bot.transport.send(here, Reply(f"part {number}"), f"huskies-{number + 1}-1")


async def test_a_part_waits_for_the_arrival_of_the_one_before(server: TwilioServer) -> None:
    server.arrives_s = 0.05
    async with WhatsAppBot(server, order_s=60.0) as bot:
        await bot.start(Nobody())
        for number in range(4):
            await send(bot, number)
            assert [sent.status for sent in server.sent[:-1]] == ["delivered"] * number
    assert server.texts() == [f"part {number}" for number in range(4)]


async def test_a_part_that_fails_holds_up_nobody(server: TwilioServer) -> None:
    async with WhatsAppBot(server, order_s=60.0) as bot:
        await bot.start(Nobody())
        await send(bot, 0)
        await send(bot, 1, ELSEWHERE)
        second = asyncio.create_task(send(bot, 2))
        assert await server.tell(server.sent[0], "sent") == 200
        assert len(server.sent) == 2, "sent is not arrived"
        assert await server.tell(server.sent[0], "failed", "63024") == 200
        await second
        assert await server.tell(server.sent[2], "read") == 200
        await send(bot, 3)


async def test_no_status_ever_comes(server: TwilioServer, caplog: pytest.LogCaptureFixture) -> None:
    """Then two parts are late, and no others."""
    async with WhatsAppBot(server, order_s=0.1) as bot:
        await bot.start(Nobody())
        for number in range(3):
            await send(bot, number)
        bot.transport._made().outgoing.order._limit_s = 60.0
        for number in range(3, 6):
            await send(bot, number)
        assert caplog.text.count("posts no statuses") == 1
        assert await server.tell(server.sent[-1], "sent") == 200
        late = asyncio.create_task(send(bot, 6))
        assert await server.tell(server.sent[5], "delivered") == 200, "statuses come again, so they are waited for"
        await late


async def test_a_status_may_come_before_the_answer_to_its_post(server: TwilioServer) -> None:
    async with WhatsAppBot(server, order_s=60.0) as bot:
        await bot.start(Nobody())
        order = bot.transport._made().outgoing.order
        order.heard(HERE, "SM1", "delivered")
        order.posted(HERE, "SM1")
        await send(bot, 1)


async def test_twilio_is_reached_by_the_proxy_of_the_environment(
    server: TwilioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves nowhere: who does not ask the proxy reaches nothing."""
    async with WayOut() as way:
        way.hosts["api.twilio.invalid:80"] = server.port
        monkeypatch.setenv("HTTP_PROXY", way.url)
        monkeypatch.delenv("http_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with WhatsAppBot(server, api_base_url="http://api.twilio.invalid") as bot:
            await bot.start(Nobody())
            await send(bot, 0)
        assert way.asked["POST api.twilio.invalid"] == 1
    assert server.texts() == ["part 0"]
