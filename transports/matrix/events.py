"""Matrix events as the nouns of chat. Pure: events are plain dictionaries, decrypted where they could be."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from gateway.chat import Conversation, Incoming, Message, Withdrawal
from transports.matrix import media, taps
from transports.matrix.config import NAME

NO_FILES = "I can't read this file: its message does not say where it is. Please send it again."
NO_KEY = (
    "I couldn't decrypt your message: its key did not reach me. Please send it again. "
    "If that keeps happening, log out of your client and back in."
)
NO_VERIFICATION = (
    "I'm a bot without a screen to compare emoji on, so I declined the verification. Your messages to me are encrypted "
    "all the same."
)
NO_SUCH_KIND = "I can't read this kind of message. Please send text."

#: What people send beside messages, and expect to be read.
_UNREAD = ("m.sticker", "m.poll.start", "org.matrix.msc3381.poll.start")
#: What bots and servers say, and how devices get to know each other.
_IGNORED = ("m.notice", "m.server_notice", "m.key.verification.")
_VERIFICATION = "m.key.verification.request"
_TEXTS = ("m.text", "m.emote")
_FILES = ("m.image", "m.file", "m.audio", "m.video")
#: Links as mentions are written: in HTML, and by some clients in Markdown.
_HTML_PILL = re.compile(
    r"<a\b[^>]{0,200}?\bhref=[\"']([^\"'<>]{1,500})[\"'][^>]{0,200}>([^<]{1,200})</a>", re.IGNORECASE
)
_MARKDOWN_PILL = re.compile(r"\[([^\[\]\n]{1,200})\]\(<?((?:https?://matrix\.to/#/|matrix:u/)[^()\s<>]{1,400})>?\)")
_PERSON = re.compile(r"(?:https?://)?(?:www\.)?matrix\.to/#/((?:@|%40)[^/\s]+)|matrix:u/([^/\s]+)", re.IGNORECASE)
#: Characters of HTML in which mentions are looked for.
_MOST_HTML = 100_000
_QUOTE = re.compile(r"> (?:\* )?<@[^>\n]+>[^\n]*(?:\n>[^\n]*)*\n\n?")


@dataclass(frozen=True, slots=True)
class Place:
    """The room of an event, as it was when the event came."""

    room_id: str
    direct: bool
    sender_name: str


@dataclass(frozen=True, slots=True)
class Me:
    """The bot, and what people call it."""

    user_id: str
    names: tuple[str, ...]

    def unaddressed(self, content: Mapping[str, Any], text: str) -> tuple[str, bool]:
        """A message's text without what names the bot at its beginning or end, and whether anything names it.

        Clients write a mention as a link (in HTML, some in Markdown), as a name with or without `@`, or as the user id.
        """
        shown = _pills(content, self.user_id)
        links = [link for link in _MARKDOWN_PILL.finditer(text) if _target(link[2]) == self.user_id]
        for link in reversed(links):
            text = text[: link.start()] + link[1] + text[link.end() :]
        shown += [link[1] for link in links]
        localpart = self.user_id[1:].partition(":")[0]
        plain = {name.removeprefix("@") for name in (self.user_id, *self.names, localpart, *shown)} - {""}
        either = "|".join(re.escape(name) for name in sorted(plain, key=len, reverse=True))
        one = rf"@?(?:{either})(?: \({re.escape(self.user_id)}\))?"
        named = bool(shown) or _mentions(content, self.user_id) or self.user_id in text
        if begins := re.match(rf"(?:\s*{one}(?:[:,]+(?=\s|$)|(?=\s|$)))+\s*", text, re.IGNORECASE):
            text, named = text[begins.end() :], True
        # At its end a name alone may be a word of the sentence.
        at = "@?" if named else "@"
        if ends := re.search(rf"[\s,]+{at}(?:{either})([.!?\s]*)$", text, re.IGNORECASE):
            text, named = text[: ends.start()] + ends[1].strip(), True
        return text, named


def mapping(value: object) -> Mapping[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def relation(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an event says about its relation to another, or an empty mapping."""
    return mapping(mapping(event.get("content")).get("m.relates_to"))


def replied_to(event: Mapping[str, Any]) -> str:
    """The id of the event that this one answers, or nothing. Threads also quote one, but only for old clients."""
    relates = relation(event)
    if relates.get("rel_type") == "m.thread" and relates.get("is_falling_back"):
        return ""
    return _string(mapping(relates.get("m.in_reply_to")).get("event_id"))


def tapped(event: Mapping[str, Any]) -> str:
    """The id of the event that this one answers with a tap, or nothing."""
    relates = relation(event)
    if event.get("type") != "m.reaction" or relates.get("rel_type") != "m.annotation":
        return ""
    return _string(relates.get("event_id")) if taps.meant(relates.get("key")) else ""


def predecessor(event: Mapping[str, Any]) -> str:
    """The room that this one replaces, as its `m.room.create` says; or nothing."""
    if event.get("type") != "m.room.create":
        return ""
    return _string(mapping(mapping(event.get("content")).get("predecessor")).get("room_id"))


def successor(event: Mapping[str, Any]) -> str:
    """The room that replaces this one, as its tombstone says; or nothing."""
    if event.get("type") != "m.room.tombstone" or event.get("state_key") != "":
        return ""
    return _string(mapping(event.get("content")).get("replacement_room"))


def undecryptable(event: Mapping[str, Any], place: Place) -> Message:
    """What stands in for an event whose key never came."""
    return _message(event, place, text="", problem=NO_KEY)


def words(event: Mapping[str, Any]) -> str:
    """What a message says now, without what it quotes itself; of a file its name."""
    content = mapping(event.get("content"))
    edit = mapping(mapping(mapping(event.get("unsigned")).get("m.relations")).get("m.replace"))
    newest = mapping(mapping(edit.get("content")).get("m.new_content"))
    body = (newest or content).get("body")
    if not isinstance(body, str):
        return ""
    quote = _QUOTE.match(body) if replied_to(event) else None
    return body[quote.end() :] if quote else body


def incoming(
    event: Mapping[str, Any],
    place: Place,
    me: Me,
    ours: Callable[[str], bool],
    quoted: Callable[[str], str] = lambda _: "",
) -> Incoming | None:
    """What a person did, or None for an event that does not concern us.

    Args:
        event: with its content in the clear.
        place: the room as it was.
        me: the bot.
        ours: whether an event id is a message of the bot's.
        quoted: what an event says that another one answers.
    """
    if event["sender"] == me.user_id or "state_key" in event:
        return None
    if "redacted_because" in mapping(event.get("unsigned")):
        return None
    kind = event.get("type")
    if kind == "m.room.encrypted":
        return undecryptable(event, place)
    if kind == "m.room.redaction":
        target = _string(event.get("redacts")) or _string(mapping(event.get("content")).get("redacts"))
        return Withdrawal(_conversation(event, place), target, _sender(event)) if target else None
    if kind in _UNREAD:
        return _message(event, place, text="", problem=NO_SUCH_KIND)
    if kind == "m.room.message":
        made = _from_message(event, place, me, ours)
        answered = replied_to(event)
        return replace(made, quoted=quoted(answered)) if made is not None and answered else made
    if (target := tapped(event)) and ours(target):
        word = taps.meant(relation(event).get("key"))
        return replace(_message(event, place, text=word, addressed=True), presses=target)
    return None


def asks_verification(event: Mapping[str, Any], user_id: str) -> bool:
    """Whether somebody asks in a room to verify `user_id`."""
    told = mapping(event.get("content"))
    return (event.get("type"), told.get("msgtype"), told.get("to")) == ("m.room.message", _VERIFICATION, user_id)


def _from_message(event: Mapping[str, Any], place: Place, me: Me, ours: Callable[[str], bool]) -> Message | None:
    content, edits = mapping(event.get("content")), None
    relates = relation(event)
    if relates.get("rel_type") == "m.replace":
        edits = _string(relates.get("event_id"))
        replaced = content.get("m.new_content")
        if not edits or not isinstance(replaced, dict):
            return None
        content = {"m.mentions": content.get("m.mentions"), **replaced}
    kind, body = content.get("msgtype"), content.get("body")
    if asks_verification(event, me.user_id):
        return _message(event, place, text="", problem=NO_VERIFICATION)
    if kind in _FILES and not edits:
        return _from_file(event, place, content, me, ours)
    if kind == "m.location" and not edits:
        return _message(event, place, text="", problem=NO_SUCH_KIND)
    if kind not in _TEXTS or not isinstance(body, str):
        strange = isinstance(kind, str) and not kind.startswith(_IGNORED) and kind not in _TEXTS and not edits
        return _message(event, place, text="", problem=NO_SUCH_KIND) if strange else None
    answered = replied_to(event)
    quote = _QUOTE.match(body) if answered else None
    if quote:
        body = body[quote.end() :]
    text, named = me.unaddressed(content, body)
    addressed = named or bool(answered and ours(answered))
    return _message(event, place, text=text, addressed=addressed, edits=edits)


def _from_file(
    event: Mapping[str, Any], place: Place, content: Mapping[str, Any], me: Me, ours: Callable[[str], bool]
) -> Message:
    file = media.found(content)
    if file is None:
        return _message(event, place, text="", problem=NO_FILES)
    # A body beside a file's name is its caption; otherwise it is the name.
    body = content.get("body") if content.get("filename") not in (None, content.get("body")) else ""
    text, named = me.unaddressed(content, body if isinstance(body, str) else "")
    answered = replied_to(event)
    addressed = named or bool(answered and ours(answered))
    return replace(_message(event, place, text=text, addressed=addressed), files=(file,))


def _message(
    event: Mapping[str, Any],
    place: Place,
    *,
    text: str,
    problem: str = "",
    addressed: bool = False,
    edits: str | None = None,
) -> Message:
    return Message(
        conversation=_conversation(event, place),
        external_id=event["event_id"],
        sender=_sender(event),
        text=text,
        sender_name=place.sender_name,
        direct=place.direct,
        addressed=addressed,
        edits=edits,
        problem=problem,
    )


def _pills(content: Mapping[str, Any], user_id: str) -> list[str]:
    """How a message's HTML shows the links to somebody."""
    formatted = content.get("formatted_body")
    if not isinstance(formatted, str) or len(formatted) > _MOST_HTML:
        return []
    links = _HTML_PILL.finditer(formatted)
    return [html.unescape(link[2]).strip() for link in links if _target(html.unescape(link[1])) == user_id]


def _target(address: str) -> str:
    """Whom a link means, if it is one to a person."""
    found = _PERSON.match(address)
    if found is None:
        return ""
    person = unquote(found[1] or found[2]).partition("?")[0]
    return person if person.startswith("@") else f"@{person}"


def _mentions(content: Mapping[str, Any], user_id: str) -> bool:
    users = mapping(content.get("m.mentions")).get("user_ids")
    return isinstance(users, list) and user_id in users


def _conversation(event: Mapping[str, Any], place: Place) -> Conversation:
    relates = relation(event)
    thread = _string(relates.get("event_id")) if relates.get("rel_type") == "m.thread" else ""
    return Conversation(NAME, place.room_id, thread)


def _sender(event: Mapping[str, Any]) -> str:
    return f"{NAME}:{event['sender']}"


def _string(value: object) -> str:
    """A text as an id; halves of surrogate pairs, which no database takes, are replaced."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""
