"""The content of what we send: pure, and always within the size of an event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from transports.matrix import render

#: Bytes of JSON that, encrypted, still make an event of less than 65,536 bytes.
_ROOM = 46_000
#: Characters of an edited text that clients without edits see.
_FALLBACK = 300


def transaction(kind: str, room_id: str, key: str) -> str:
    """The id that makes a repeated request the same request; the same in each process."""
    return "hk" + hashlib.sha256("\0".join((kind, room_id, key)).encode()).hexdigest()[:40]


def message(
    text: str,
    *,
    thread: str = "",
    reply_to: str | None = None,
    notifies: bool = False,
    mentions: Sequence[str] = (),
) -> dict[str, Any]:
    """A message of ours. The HTML twin is left out where the event would not hold both.

    A notice never rings: `.m.rule.suppress_notices` comes before mentions. What is to ring is a text.
    """
    made = _text(text, _ROOM) | ({"msgtype": "m.text"} if notifies else {})
    if mentions:
        made["m.mentions"] = {"user_ids": list(mentions)}
    return related(made, thread=thread, reply_to=reply_to)


def related(content: dict[str, Any], *, thread: str = "", reply_to: str | None = None) -> dict[str, Any]:
    """The content of a message, put into its thread and below the message it answers."""
    relation: dict[str, Any] = {}
    if reply_to:
        relation["m.in_reply_to"] = {"event_id": reply_to}
    if thread:
        relation |= {"rel_type": "m.thread", "event_id": thread, "is_falling_back": not reply_to}
        relation.setdefault("m.in_reply_to", {"event_id": thread})
    if relation:
        content["m.relates_to"] = relation
    return content


def replacement(text: str, event_id: str) -> dict[str, Any]:
    """A message that replaces `event_id`."""
    shown = render.plain(text)
    short = shown if len(shown) <= _FALLBACK else shown[:_FALLBACK] + "…"
    return {
        "msgtype": "m.notice",
        "body": f"* {short}",
        "m.mentions": {},
        "m.new_content": _text(text, _ROOM - 4 * _FALLBACK),
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
    }


def reaction(event_id: str, emoji: str) -> dict[str, Any]:
    """An emoji on a message."""
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": emoji}}


def _text(text: str, limit: int) -> dict[str, Any]:
    # `m.notice` keeps bots from answering each other; empty mentions keep `@room` and names from ringing.
    body = render.plain(text)
    content = {"msgtype": "m.notice", "body": body, "m.mentions": {}}
    rich = content | {"format": "org.matrix.custom.html", "formatted_body": render.html(body)}
    return rich if len(json.dumps(rich, ensure_ascii=False).encode()) <= limit else content
