"""A gateway as a process, with Twilio and a phone on loopback: messages in by webhook, answers out by REST."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.ports import take_port
from tests.support.twilio_server import ACCOUNT, ANA, BOT, PUBLIC_URL, TOKEN, Sent, TwilioServer

pytestmark = pytest.mark.timeout(120)

BUTTONS = "HX" + "a" * 32


@contextlib.asynccontextmanager
async def talking(tmp_path: Path) -> AsyncIterator[tuple[GatewayProcess, TwilioServer]]:
    """A gateway with the scripted agent and the project demo, and a person who texts it."""
    port = take_port()
    async with TwilioServer() as phone:
        phone.arrives_s = 0.02
        phone.target = f"http://127.0.0.1:{port}"
        config: dict[str, dict[str, Any]] = {
            "gateway": {
                "state_dir": str(tmp_path / "state"),
                "listen": f"127.0.0.1:{port}",
                "public_url": PUBLIC_URL,
                "log_level": "debug",
            },
            "access": {"operators": [f"whatsapp:{ANA}"]},
            "dispatcher": {"coalesce_window_ms": 100},
            "agent": {"kind": "scripted"},
            "transports": {
                "whatsapp": {
                    "account_sid": ACCOUNT,
                    "auth_token": TOKEN,
                    "from_number": BOT,
                    "api_base_url": phone.url,
                    "quick_replies": {"1, 2": BUTTONS},
                }
            },
        }
        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            await phone.say("new project demo")
            await phone.reads("is ready", 60)
            yield gateway, phone


async def test_a_conversation(tmp_path: Path) -> None:
    """Text, a question answered in words and by a button, a file in and out."""
    async with talking(tmp_path) as (gateway, phone):
        await phone.say("hello **there**")
        await phone.reads("You said:\nhello *there*")
        assert phone.typing, "typing was shown"

        asked = await _ask(phone, "@@ask Tea or coffee? | Tea | Coffee")
        assert "Tea or coffee?" in asked.text
        await phone.say("coffee")
        await phone.reads("Tea or coffee? -> Coffee")
        asked = await _ask(phone, "@@ask Red or blue? | Red | Blue")
        await phone.say("2", ButtonPayload="2", ButtonText="2", OriginalRepliedMessageSid=asked.sid)
        await phone.reads("Red or blue? -> Blue")

        data = b"\x89PNG" + bytes(50_000)
        await phone.say("look at this", **phone.offer(data, "image/png"))
        told = await phone.reads("look at this")
        assert ".huskies/inbox/image.png" in told.text
        assert (gateway.projects / "demo" / ".huskies" / "inbox" / "image.png").read_bytes() == data
        await phone.say("@@write result.csv a,b\n@@send result.csv\n@@say sent")
        await phone.until(lambda phone: any(sent.media for sent in phone.sent))
        sent = next(sent for sent in phone.sent if sent.media)
        assert sent.media == (b"a,b\n", "text/plain; charset=utf-8", 'inline; filename="result.csv"')

        await phone.say("", MessageType="location", Latitude="48.1", Longitude="11.5")
        await phone.reads("I can't read locations here")
        stranger = "+15550001111"
        await phone.say("let me in", sender=stranger)
        await phone.say("marker")
        await phone.reads("You said:\nmarker")
        assert phone.texts(stranger) == []
        assert "hello **there**" not in gateway.log.read_text()


@pytest.mark.slow
async def test_killed_after_a_send_before_it_was_recorded(tmp_path: Path) -> None:
    """FAULTS 5: sent once; the next process finds it with Twilio."""
    async with talking(tmp_path) as (gateway, phone):
        await gateway.stop()
        await gateway.start(kill_at="outbox.sent")
        await phone.say("hello")
        sent = await phone.reads("You said:\nhello")
        await gateway.died()
        await gateway.start()
        await phone.say("marker")
        await phone.reads("You said:\nmarker")
        assert phone.texts().count("You said:\nhello") == 1
        assert phone.list_looks == 1
        assert await phone.tell(sent, "delivered") == 200
        assert phone.texts().count("You said:\nhello") == 1


@pytest.mark.slow
async def test_killed_after_the_commit(tmp_path: Path) -> None:
    """FAULTS 1, 2 and 7: Twilio hears nothing, posts again, and one run comes of it."""
    async with talking(tmp_path) as (gateway, phone):
        await gateway.stop()
        await gateway.start(kill_at="inbox.committed")
        fields = phone.fields("just once")
        with pytest.raises(aiohttp.ClientError):
            await phone.post("/webhooks/whatsapp", fields)
        await gateway.died()
        await gateway.start()
        for _ in range(3):
            assert await phone.post("/webhooks/whatsapp", fields) == 200
        await phone.say("last words")
        await phone.reads("last words")
        said = "\n".join(phone.texts())
        assert said.count("just once") == 1


async def _ask(phone: TwilioServer, text: str) -> Sent:
    """Have the agent ask something; its card."""
    before = len(phone.sent)
    await phone.say(text)
    await phone.until(lambda phone: any(sent.content_sid == BUTTONS for sent in phone.sent[before:]))
    return next(sent for sent in phone.sent[before:] if sent.content_sid == BUTTONS)
