"""What we ask of Twilio is what its own description of the API has: paths, hosts, names and shapes of fields."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urljoin

import pytest

from gateway.chat import Conversation, Fate, MessageRef, OutgoingFile, Reply
from gateway.errors import DeliveryHeld
from tests.support.openapi import OpenApi
from tests.support.twilio_server import ACCOUNT, ANA, BOT, PUBLIC_URL, TOKEN, Answer, TwilioServer
from tests.support.whatsapp_bot import Nobody, WhatsAppBot
from transports.whatsapp import WhatsAppConfig, connection

pytestmark = pytest.mark.peers

REAL = WhatsAppConfig(ACCOUNT, TOKEN, BOT, PUBLIC_URL)
HERE = Conversation("whatsapp", ANA)
TEMPLATE, BUTTONS = "HX" + "c" * 32, "HX" + "d" * 32


@pytest.fixture(scope="module")
def documents(npm_packages: Path) -> tuple[OpenApi, OpenApi]:
    """Of the main API, and of the one that shows typing."""
    folder = npm_packages / "@twilio" / "cli-core" / "src" / "services" / "twilio-api"
    return OpenApi(folder / "twilio_api_v2010.json"), OpenApi(folder / "twilio_messaging_v2.json")


async def test_each_request_is_one_that_twilio_describes(documents: tuple[OpenApi, OpenApi], tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n")
    file = OutgoingFile(tmp_path / "table.csv", "table.csv", "text/csv", 4)
    buttons = {"allow, deny": BUTTONS}
    async with TwilioServer() as server, WhatsAppBot(server, template_sid=TEMPLATE, quick_replies=buttons) as bot:
        await bot.start(Nobody())
        await bot.transport.send(HERE, Reply("hello"), "a key/with #?&")
        await bot.transport.send(HERE, Reply("May I?", choices=("allow", "deny")), "card")
        await bot.transport.send_file(HERE, file, Reply("a table"), "file")
        server.faults.append(Answer(400, 63016))
        with pytest.raises(DeliveryHeld):
            await bot.transport.send(HERE, Reply("too late"), "held")
        await bot.transport.mark(MessageRef(HERE, server.sid()), Fate.RUNNING)
        await server.until(lambda server: server.typing)
        requests = list(server.requests)

    named = {name for _, _, fields in requests for name, _ in fields}
    assert {"Body", "ContentSid", "ContentVariables", "MediaUrl", "StatusCallback", "messageId"} <= named
    main, typing = documents
    looked = {"main": 0, "typing": 0}
    for method, path, fields in requests:
        if urljoin(REAL.typing_url, path) == REAL.typing_url:
            looked["typing"] += 1
            assert typing.complaints(method, REAL.typing_url, fields) == []
        else:
            looked["main"] += 1
            assert main.complaints(method, urljoin(REAL.account_url, path), fields) == []
    assert looked == {"main": 6, "typing": 1}, "the account, four messages, the template; typing"


def test_the_statuses_that_mean_something_are_twilios(documents: tuple[OpenApi, OpenApi]) -> None:
    main, _ = documents
    assert set(main.words("message_enum_status")) >= connection._ARRIVED | connection._LOST
    assert "active" in main.words("account_enum_status")


def test_what_is_not_described_is_complained_of(documents: tuple[OpenApi, OpenApi]) -> None:
    main, typing = documents
    messages = f"{REAL.account_url}/Messages.json"
    assert main.complaints("POST", messages, [("Body", "x")]) == ["To is missing"]
    assert main.complaints("POST", messages, [("To", ANA), ("Text", "x")]) == ["Text is unknown"]
    assert main.complaints("POST", messages, [("To", ANA), ("ContentSid", "HX1")]) == ["ContentSid cannot be 'HX1'"]
    assert main.complaints("POST", messages, [("To", ANA), ("StatusCallback", "/status")])
    assert main.complaints("POST", messages.replace(ACCOUNT, "AC1"), [("To", ANA)])
    assert main.complaints("DELETE", messages)
    assert main.complaints("GET", REAL.account_url.replace("api.", "messaging.") + ".json")
    assert typing.complaints("POST", REAL.typing_url, [("channel", "sms"), ("messageId", "SM" + "0" * 32)])
