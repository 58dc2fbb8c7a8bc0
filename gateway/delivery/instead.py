"""What people get in place of what cannot arrive, or not now: never nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from gateway.chat import Conversation
from gateway.chat.cutting import split
from gateway.chat.text import fenced, quote
from gateway.store import Connection, conversations
from gateway.store import outbox as rows
from gateway.store.outbox import Outgoing

#: Bytes of a text file that is sent as messages where the platform does not take it as a file.
_READABLE = 32 * 2**10


def hold(connection: Connection, row: Outgoing, why: str) -> Conversation | None:
    """A row waits until its room has changed. Whoever asked there gets the answer where they write to the bot alone.

    Returns where that goes out; None where nothing does.
    """
    rows.hold(connection, row.id, why)
    if row.held:
        return None
    head = "My answer to {asked} waits for {room}: {why}. It goes out there once that has changed. Here it is for you:"
    return _to_the_person(connection, row, why, head, rows.unsent_answer(connection, row))


def fail(connection: Connection, row: Outgoing, why: str, most: int) -> Conversation | None:
    """A row will never arrive. Of a file people get what can be told instead, in parts of at most `most` characters;
    of an answer in a room whoever asked gets it where they write to the bot alone.

    Returns where that goes out, if it is another conversation.
    """
    rows.set_state(connection, row.id, "failed", error=why)
    if row.file:
        rows.add(connection, row.conversation_id, split(_instead(json.loads(row.file), why), most))
        return None
    head = "My answer to {asked} cannot be posted in {room}: {why}. Here it is for you:"
    return _to_the_person(connection, row, why, head, [row.text] if row.kind == "reply" else [])


def _to_the_person(connection: Connection, row: Outgoing, why: str, head: str, texts: list[str]) -> Conversation | None:
    here = conversations.by_id(connection, row.conversation_id)
    asked = rows.asked_by(connection, row.id)
    if here.direct or asked is None or not texts:
        return None
    there = conversations.direct_with(connection, row.conversation.transport, asked[0])
    if there is None:
        return None
    said = head.format(asked=quote(asked[1]), room=row.conversation, why=why)
    rows.add(connection, there.id, [said, *texts])
    return there.conversation


def _instead(told: dict[str, Any], why: str) -> str:
    """What stands for a file: a short text itself, of others where they are."""
    head, path = f"📎 {told['name']} could not be sent: {why}", Path(told["path"])
    if told["mime"] in ("text/markdown", "text/plain") and told["size"] <= _READABLE:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = path.read_text(encoding="utf-8")
            return f"{head}\nIts content:\n\n" + (text if told["name"].endswith(".md") else fenced(text.rstrip("\n")))
    return f"{head}\nIt is on the gateway's host: `{path}`"
