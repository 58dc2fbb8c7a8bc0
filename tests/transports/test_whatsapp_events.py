"""What Twilio posts about a message, and what it means."""

from __future__ import annotations

import pytest

from gateway.chat import Attachment, Conversation, Message
from gateway.config.sections import AccessSection
from tests.support.twilio_server import ACCOUNT, ANA, BOT, PUBLIC_URL, TOKEN, TwilioServer
from transports.whatsapp import WhatsAppConfig, events

CONFIG = WhatsAppConfig(ACCOUNT, TOKEN, BOT, PUBLIC_URL)
CARD = "MM" + "a" * 32
URL = f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/MM1/Media/ME1"


def read(text: str = "", **more: str) -> Message | None:
    return events.read(TwilioServer().fields(text, **more), CONFIG)


def message(text: str = "", **more: str) -> Message:
    found = read(text, **more)
    assert found is not None
    return found


def test_a_text() -> None:
    found = message("grüß Gott 🐕", ProfileName="Ana B.")
    assert (found.text, found.sender, found.sender_name) == ("grüß Gott 🐕", f"whatsapp:{ANA}", "Ana B.")
    assert found.conversation == Conversation("whatsapp", ANA)
    assert found.direct
    assert not found.problem
    assert found.external_id.startswith("SM")


def test_files() -> None:
    found = message(
        "look",
        NumMedia="3",
        MediaUrl0=URL,
        MediaContentType0="image/jpeg",
        MediaUrl1=URL,
        MediaContentType1="audio/ogg; codecs=opus",
        MediaUrl2=URL,
        MediaContentType2="application/pdf",
    )
    assert found.files == (
        Attachment("image.jpg", "image/jpeg", 0, URL),
        Attachment("audio2.ogg", "audio/ogg", 0, URL),
        Attachment("file3.pdf", "application/pdf", 0, URL),
    )
    assert not message(NumMedia="1", MediaUrl0=URL, MediaContentType0="image/png").problem, "a file needs no words"


@pytest.mark.parametrize("count", ["-1", "x", "", "9" * 10, "²", "1e3"])
def test_a_number_of_files_that_is_none(count: str) -> None:
    assert message("text", NumMedia=count, MediaUrl0=URL).files == ()


def test_no_more_files_than_twilio_sends() -> None:
    many = {f"MediaUrl{n}": URL for n in range(100)}
    assert len(message("text", NumMedia="100", **many).files) == 10


def test_a_button() -> None:
    pressed = {"ButtonPayload": "allow", "ButtonText": "Allow", "MessageType": "button"}
    found = message("Allow", **pressed, OriginalRepliedMessageSid=CARD)
    assert (found.text, found.presses) == ("allow", CARD)
    typed = message("Allow", **pressed)
    assert (typed.text, typed.presses) == ("allow", ""), "then it is as if it were typed"
    assert message("no", OriginalRepliedMessageSid=CARD).presses == "", "a quotation is no press"
    assert message("", ButtonText="deny", OriginalRepliedMessageSid="x" * 3).presses == ""


def test_what_cannot_be_read_is_said() -> None:
    assert message("", MessageType="location", Latitude="48.1", Longitude="11.5").problem == events.LOCATION
    assert message("", MessageType="unsupported").problem == events.OTHER_KIND
    assert message("here", MessageType="location", Latitude="48.1").problem == ""


@pytest.mark.parametrize(
    "more",
    [
        {"From": f"whatsapp:{BOT}"},
        {"From": ANA},
        {"From": "messenger:123"},
        {"From": "whatsapp:+49 170"},
        {"From": "whatsapp:" + "1" * 100},
        {"To": "whatsapp:+15550000000"},
        {"MessageSid": "../../x"},
        {"MessageSid": "SM123"},
    ],
)
def test_what_is_no_message_to_us(more: dict[str, str]) -> None:
    assert read("text", **more) is None


@pytest.mark.parametrize("number", ["+551187654321", "+5511987654321"])
def test_a_brazilian_number_is_the_same_with_and_without_its_ninth_digit(number: str) -> None:
    settings = AccessSection(operators=["whatsapp:+551187654321"], members=["whatsapp:+5511987654321"])
    assert {*settings.operators, *settings.members} == {"whatsapp:+5511987654321"}
    assert events.canonical(number) == "+5511987654321"
    said = message("hi", sender=number)
    assert (said.sender, said.conversation.room) == ("whatsapp:+5511987654321", number), "answered as it came"
    assert events.canonical("+551133334444") == "+551133334444", "a landline has eight"
    assert events.canonical("+491700000000") == "+491700000000"
