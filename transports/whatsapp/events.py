"""What Twilio posts about a message, as a `Message`. Pure."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping

from gateway.chat import Attachment, Conversation, Message
from gateway.chat.text import of_others
from transports.whatsapp.config import NAME, WhatsAppConfig

#: The id of a message, or of a media file.
SID = re.compile(r"[A-Z]{2}[0-9a-fA-F]{32}")
_PERSON = re.compile(r"whatsapp:(\+?[\w.-]{3,80})")
_BRAZIL = re.compile(r"\+55(\d\d)([6-9]\d{7})$")
_MOST_FILES = 10
#: What people call files of kinds that have several suffixes.
_SUFFIXES = {"audio/ogg": ".ogg", "image/jpeg": ".jpg"}

LOCATION = "I can't read locations here. Please write what you mean as text."
OTHER_KIND = "I can't read that kind of message here. Write it as text, or send a file."


def read(form: Mapping[str, str], config: WhatsAppConfig) -> Message | None:
    """A person's message to the bot; None for anything else: our own, from another channel, to another number."""
    person, sid = _PERSON.fullmatch(form.get("From", "")), form.get("MessageSid", "")
    if person is None or not SID.fullmatch(sid):
        return None
    number = person[1]
    if number == config.from_number or form.get("To") != f"whatsapp:{config.from_number}":
        return None
    text, presses = _words(form)
    if form.get("Forwarded") == "true" or form.get("FrequentlyForwarded") == "true":
        text = of_others(text)
    files = _files(form)
    problem = ""
    if not text.strip() and not files:
        problem = LOCATION if form.get("Latitude") else OTHER_KIND
    return Message(
        conversation=Conversation(NAME, number),
        external_id=sid,
        sender=f"{NAME}:{canonical(number)}",
        text=text,
        sender_name=form.get("ProfileName", "")[:200],
        direct=True,
        problem=problem,
        files=files,
        presses=presses,
    )


def canonical(number: str) -> str:
    """A number as people write it: WhatsApp leaves out the ninth digit of many Brazilian mobile numbers."""
    return _BRAZIL.sub(r"+55\g<1>9\g<2>", number)


def _words(form: Mapping[str, str]) -> tuple[str, str]:
    """What was written or pressed and, for a button, the message of ours that has it."""
    pressed = form.get("ButtonPayload") or form.get("ButtonText") or form.get("ListId")
    if not pressed:
        return form.get("Body", ""), ""
    card = form.get("OriginalRepliedMessageSid", "")
    return pressed, card if SID.fullmatch(card) else ""


def _files(form: Mapping[str, str]) -> tuple[Attachment, ...]:
    count = form.get("NumMedia", "0")
    if not count.isascii() or not count.isdigit() or len(count) > 3:
        return ()
    found = []
    for number in range(min(int(count), _MOST_FILES)):
        url = form.get(f"MediaUrl{number}", "")
        mime = form.get(f"MediaContentType{number}", "").partition(";")[0].strip().lower()
        if url:
            found.append(Attachment(_name(mime, number), mime or "application/octet-stream", 0, url))
    return tuple(found)


def _name(mime: str, number: int) -> str:
    """A name for a file: Twilio does not pass on the original."""
    kind = mime.partition("/")[0]
    kind = kind if kind in ("image", "audio", "video") else "file"
    suffix = _SUFFIXES.get(mime) or mimetypes.guess_extension(mime) or ""
    return f"{kind}{number + 1 if number else ''}{suffix}"
