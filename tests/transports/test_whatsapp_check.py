"""Live checks of a Twilio account, against the stand-in of its API: each fault in its own words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.chat.finding import Finding, Verdict
from tests.support.twilio_server import ACCOUNT, BOT, PUBLIC_URL, TOKEN, Answer, TwilioServer, sender
from transports.whatsapp import WhatsAppConfig
from transports.whatsapp.check import SANDBOX, check

OURS = "+4915112345678"
HOOK = f"{PUBLIC_URL}/webhooks/whatsapp"
WHOLE = f"{HOOK}#rc=5&rp=all"
TEMPLATE = "HX" + "1" * 32
BUTTONS = "HX" + "2" * 32


@pytest.fixture
async def server() -> AsyncIterator[TwilioServer]:
    async with TwilioServer() as made:
        made.senders = [sender(OURS, WHOLE)]
        yield made


async def found(server: TwilioServer, **settings: Any) -> dict[str, Finding]:
    """What a check finds, by name."""
    defaults: dict[str, Any] = {
        **{"account_sid": ACCOUNT, "auth_token": TOKEN, "from_number": OURS, "public_url": PUBLIC_URL},
        "api_base_url": server.url,
    }
    return {finding.name: finding for finding in await check(WhatsAppConfig(**(defaults | settings)))}


async def test_an_account_that_is_well(server: TwilioServer) -> None:
    server.templates = {TEMPLATE: ("approved", "twilio/text"), BUTTONS: ("unsubmitted", "twilio/quick-reply")}
    told = await found(server, template_sid=TEMPLATE, quick_replies={"1, 2": BUTTONS})
    assert {name: finding.verdict for name, finding in told.items()} == dict.fromkeys(
        ["whatsapp.account", "whatsapp.clock", "whatsapp.sender", "whatsapp.template_sid", "whatsapp.quick_replies"],
        Verdict.OK,
    )


async def test_a_wrong_token(server: TwilioServer) -> None:
    told = await found(server, auth_token="canary")
    assert list(told) == ["whatsapp.account"], "one fault is told once"
    assert told["whatsapp.account"].broken
    assert "correct transports.whatsapp" in told["whatsapp.account"].text
    assert "canary" not in str(told)


async def test_a_trial_account_is_a_hint(server: TwilioServer) -> None:
    server.account_type = "Trial"
    told = (await found(server))["whatsapp.account"]
    assert told.verdict is Verdict.HINT
    assert "trial account" in told.text


async def test_a_clock_that_is_off(server: TwilioServer) -> None:
    server.skew_s = 600
    told = (await found(server))["whatsapp.clock"]
    assert told.verdict is Verdict.HINT
    assert "10 min behind Twilio's" in told.text


@pytest.mark.parametrize(
    ("callback", "verdict", "words"),
    [
        ("https://else.example.org/hook?key=canary", Verdict.BROKEN, "posts elsewhere: POST https://else.example.org"),
        ("", Verdict.BROKEN, "posts nowhere"),
        (HOOK, Verdict.HINT, "during a restart of the gateway are lost"),
    ],
)
async def test_a_sender_that_does_not_post_to_us(
    server: TwilioServer, callback: str, verdict: Verdict, words: str
) -> None:
    server.senders = [sender(OURS, callback)]
    told = (await found(server))["whatsapp.sender"]
    assert told.verdict is verdict
    assert words in told.text
    assert WHOLE in told.text, "what to enter"
    assert "canary" not in told.text


async def test_a_sender_that_gets_instead_of_posting(server: TwilioServer) -> None:
    server.senders = [sender(OURS, WHOLE, method="GET")]
    assert "posts elsewhere: GET" in (await found(server))["whatsapp.sender"].text


async def test_a_sender_that_is_offline(server: TwilioServer) -> None:
    server.senders = [sender(OURS, WHOLE, status="OFFLINE")]
    told = (await found(server))["whatsapp.sender"]
    assert told.broken
    assert "the sender is OFFLINE" in told.text


async def test_a_number_that_is_none_of_the_accounts(server: TwilioServer) -> None:
    server.senders = [sender("+4915199999999", WHOLE)]
    told = (await found(server))["whatsapp.sender"]
    assert told.broken
    assert f"{OURS} is not a WhatsApp sender of this account, which has: +4915199999999" in told.text


async def test_a_sender_on_the_third_page(server: TwilioServer) -> None:
    server.senders = [sender(f"+4915100000{number:03d}", HOOK) for number in range(50)] + server.senders
    assert (await found(server))["whatsapp.sender"].verdict is Verdict.OK


async def test_the_sandbox_cannot_be_checked(server: TwilioServer) -> None:
    assert BOT == SANDBOX
    told = (await found(server, from_number=SANDBOX))["whatsapp.sender"]
    assert told.verdict is Verdict.HINT
    assert "could not be checked" in told.text
    assert "Sandbox settings" in told.text


async def test_a_list_that_is_not_to_be_had(server: TwilioServer) -> None:
    server.senders_answer = Answer(404, 20404)
    told = (await found(server))["whatsapp.sender"]
    assert told.verdict is Verdict.HINT
    assert "could not be checked" in told.text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("unsubmitted", "never submitted to WhatsApp for approval"),
        ("pending", "has not approved it yet (pending)"),
        ("rejected", "is rejected (INVALID_FORMAT)"),
    ],
)
async def test_a_template_that_is_not_approved(server: TwilioServer, status: str, words: str) -> None:
    server.templates = {TEMPLATE: (status, "twilio/text")}
    told = (await found(server, template_sid=TEMPLATE))["whatsapp.template_sid"]
    assert told.broken
    assert words in told.text


async def test_templates_that_are_not_there_or_have_no_buttons(server: TwilioServer) -> None:
    told = await found(server, template_sid=TEMPLATE, quick_replies={"1, 2": BUTTONS})
    assert f"{TEMPLATE} does not exist (Twilio said: 404" in told["whatsapp.template_sid"].text
    assert f"{BUTTONS}: does not exist" in told["whatsapp.quick_replies"].text
    server.templates = {BUTTONS: ("approved", "twilio/text")}
    told = await found(server, quick_replies={"1, 2": BUTTONS})
    assert "has no buttons" in told["whatsapp.quick_replies"].text
