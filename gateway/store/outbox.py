"""Outgoing messages: committed before they are sent."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, bindparam, func, insert, select, text, update

from gateway import clock
from gateway.chat import Conversation
from gateway.store.prepared import Prepared
from gateway.store.tables import conversations, messages, outbox

# Spelled out as in the partial indexes: with bound parameters SQLite could not use these.
_UNSENT = text("outbox.state IN ('pending', 'sending')")
_UNDELIVERED = text("outbox.state IN ('failed', 'unknown')")

_PLACE = func.coalesce(outbox.c.place, outbox.c.id)
_BEFORE = select(func.max(_PLACE)).where(
    outbox.c.conversation_id == bindparam("conversation"), bindparam("place") > _PLACE
)

#: reply: an answer, sent once. progress: a live message that a reply replaces when the turn ends. question: what an
#: agent asks, and the outcome in its place.
Kind = Literal["reply", "progress", "question"]
#: sending: handed to a platform that cannot recognise a second try. dropped: no longer needed.
State = Literal["pending", "sending", "sent", "failed", "unknown", "dropped"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of the outbox."""

    id: int
    conversation: Conversation
    conversation_id: int
    kind: Kind
    text: str
    choices: str
    file: str
    reply_to: str
    replaces: int | None
    state: State
    external_id: str
    created_at: float
    held: bool  # until something about the room has changed
    error: str
    place: float  # among the ids of others
    notifies: bool
    mentions: tuple[str, ...]

    @property
    def key(self) -> str:
        """The same for every try: what makes a resend recognisable."""
        return f"huskies-{self.id}-{int(self.created_at)}"


def add(
    connection: Connection,
    conversation_id: int,
    parts: Sequence[str],
    *,
    reply_to: str = "",
    message_id: int | None = None,
    turn_id: int | None = None,
    replaces: int | None = None,
    kind: Kind = "reply",
    choices: str = "",
    file: str = "",
    notifies: bool = False,
    mentions: Sequence[str] = (),
    state: State = "pending",
) -> list[int]:
    """Store what shall be sent; the first part takes the place of row `replaces`, the last offers the `choices`.

    `notifies`: it is to reach people at once; `mentions`: these accounts by name. Both are the first part's.
    """
    ids: list[int] = []
    for number, part in enumerate(parts):
        first = number == 0
        values = {
            "conversation_id": conversation_id,
            "message_id": message_id,
            "turn_id": turn_id,
            "kind": kind,
            "text": part,
            "choices": choices if number == len(parts) - 1 else "",
            "file": file,
            "reply_to": reply_to if first else "",
            "replaces": replaces if first else None,
            "notifies": notifies and first,
            "mentions": " ".join(mentions) if first else "",
            "state": state,
            "created_at": clock.now(),
        }
        ids.append(int(_ADD.scalar(connection, values) or 0))
    if replaces is not None:
        drop_unsent(connection, replaces)
    return ids


def cut(connection: Connection, row: Outgoing, parts: Sequence[str]) -> None:
    """A row becomes several, in its place: itself the last, which has its choices, and which others know by its id."""
    *earlier, last = parts
    first: dict[str, Any] = {"replaces": row.replaces, "reply_to": row.reply_to, "notifies": row.notifies}
    first["mentions"] = " ".join(row.mentions)
    same = select(outbox.c.message_id, outbox.c.turn_id, outbox.c.kind).where(outbox.c.id == row.id)
    known = connection.execute(same).one()._asdict()
    before = connection.scalar(_BEFORE, {"conversation": row.conversation_id, "place": row.place})
    gap = row.place - (row.place - 1 if before is None else max(before, row.place - 1))
    for number, part in enumerate(earlier):
        place = row.place - gap * (len(earlier) - number) / (len(earlier) + 1)
        values = {"conversation_id": row.conversation_id, "text": part, "state": "pending", "place": place, **known}
        connection.execute(insert(outbox).values(**values, created_at=clock.now(), **first))
        first = {}
    emptied: dict[str, Any] = {"replaces": None, "reply_to": "", "notifies": False, "mentions": ""}
    connection.execute(update(outbox).where(outbox.c.id == row.id).values(text=last, state="pending", **emptied))


def encode_choices(words: Sequence[str]) -> str:
    """The answers that a row offers, for its column."""
    return json.dumps(list(words)) if words else ""


def decode_choices(stored: str) -> tuple[str, ...]:
    """What `encode_choices` made."""
    return tuple(str(word) for word in json.loads(stored)) if stored else ()


def drop_unsent(connection: Connection, row_id: int) -> None:
    """A progress message that was never sent need not be sent any more."""
    connection.execute(update(outbox).where(outbox.c.id == row_id, outbox.c.state == "pending").values(state="dropped"))


def next_pending(connection: Connection, conversation: Conversation) -> Outgoing | None:
    """The oldest row of a conversation that is not sent yet."""
    values = {"transport": conversation.transport, "room": conversation.room, "thread": conversation.thread}
    row = _NEXT.first(connection, values)
    return None if row is None else _outgoing(row)


def by_id(connection: Connection, row_id: int) -> Outgoing | None:
    """The row with this id; None when it was swept."""
    row = connection.execute(_select().where(outbox.c.id == row_id)).one_or_none()
    return None if row is None else _outgoing(row)


def reply_to(connection: Connection, message_id: int) -> int | None:
    """The newest row that answers a message."""
    newest: int | None = connection.scalar(select(func.max(outbox.c.id)).where(outbox.c.message_id == message_id))
    return newest


def by_key(connection: Connection, transport: str, key: str) -> Outgoing | None:
    """The row that is sent with this key."""
    found = re.fullmatch(r"huskies-(\d{1,18})-\d+", key)
    row = by_id(connection, int(found[1])) if found is not None else None
    return row if row is not None and row.key == key and row.conversation.transport == transport else None


def sent_since(connection: Connection, conversation: Conversation, since: float) -> list[str]:
    """The platform's ids of what was sent to a conversation since then."""
    where = (
        conversations.c.transport == conversation.transport,
        conversations.c.room == conversation.room,
        conversations.c.thread == conversation.thread,
        outbox.c.sent_at >= since,
        outbox.c.external_id != "",
    )
    joined = select(outbox.c.external_id).join_from(
        outbox, conversations, outbox.c.conversation_id == conversations.c.id
    )
    return list(connection.scalars(joined.where(*where)))


def said(connection: Connection, transport: str, external_id: str) -> tuple[str, str] | None:
    """Who said a message on its platform, and what: the bot (an empty name), or a person; None for an unknown one."""
    ours = (
        select(outbox.c.text)
        .join_from(outbox, conversations, outbox.c.conversation_id == conversations.c.id)
        .where(conversations.c.transport == transport, outbox.c.external_id == external_id)
        .order_by(outbox.c.id.desc())
    )
    if (text_ := connection.scalar(ours.limit(1))) is not None:
        return "", str(text_)
    theirs = (messages.c.transport == transport, messages.c.external_id == external_id)
    found = connection.execute(select(messages.c.sender_name, messages.c.text).where(*theirs)).one_or_none()
    return None if found is None else (found.sender_name, found.text)


def waiting(connection: Connection) -> list[Conversation]:
    """The conversations that have something to send."""
    rows = connection.execute(
        select(conversations.c.transport, conversations.c.room, conversations.c.thread)
        .join_from(outbox, conversations, outbox.c.conversation_id == conversations.c.id)
        .where(_UNSENT)
        .distinct()
    ).all()
    return [Conversation(*row) for row in rows]


def set_state(
    connection: Connection, row_id: int, state: State, *, external_id: str | None = None, error: str = ""
) -> None:
    """Record how a delivery stands."""
    sent_at = clock.now() if state == "sent" else None
    values = {"row": row_id, "how": state, "why": error, "at": sent_at, "theirs": external_id}
    _SET_STATE.run(connection, values)


def hold(connection: Connection, row_id: int, error: str) -> None:
    """A delivery has to wait until a person writes there."""
    values = {"state": "pending", "error": error, "held": True}
    connection.execute(update(outbox).where(outbox.c.id == row_id).values(**values))


def asked_by(connection: Connection, row_id: int) -> tuple[str, str] | None:
    """Who wrote what a row answers, and what that was; None for what answers nobody."""
    row = connection.execute(select(outbox.c.message_id, outbox.c.turn_id).where(outbox.c.id == row_id)).one()
    if row.message_id is None and row.turn_id is None:
        return None  # of the bot's own accord
    theirs = messages.c.id == row.message_id if row.message_id else messages.c.turn_id == row.turn_id
    found = connection.execute(
        select(messages.c.sender, messages.c.text).where(theirs).order_by(messages.c.id).limit(1)
    ).one_or_none()
    return None if found is None else (found.sender, found.text)


def unsent_answer(connection: Connection, row: Outgoing) -> list[str]:
    """What a row says, and the rest of the answer that it begins, as far as that waits; empty for what is no answer."""
    if row.kind != "reply" or row.file:
        return []
    same = select(outbox.c.message_id, outbox.c.turn_id).where(outbox.c.id == row.id)
    of = connection.execute(same).one()
    mine = (outbox.c.turn_id == of.turn_id) if of.turn_id is not None else (outbox.c.message_id == of.message_id)
    waits = (outbox.c.conversation_id == row.conversation_id, _UNSENT, outbox.c.kind == "reply", outbox.c.file == "")
    return list(connection.scalars(select(outbox.c.text).where(mine, *waits, row.place <= _PLACE).order_by(_PLACE)))


def held(connection: Connection) -> list[tuple[Conversation, str, int]]:
    """The conversations that take nothing now: why, and how much waits for them."""
    first = func.min(outbox.c.id)
    found = connection.execute(
        select(outbox.c.conversation_id, first.label("first"))
        .where(_UNSENT, outbox.c.held)
        .group_by(outbox.c.conversation_id)
    ).all()
    told = []
    for row in found:
        oldest = by_id(connection, row.first)
        waits = select(func.count()).select_from(outbox).where(outbox.c.conversation_id == row.conversation_id, _UNSENT)
        if oldest is not None:
            told.append((oldest.conversation, oldest.error, connection.scalar(waits) or 0))
    return told


def texts_for(connection: Connection, message_id: int, turn_id: int | None) -> list[str]:
    """The replies to a message, in order: its own, and those of the turn that took it."""
    matches = outbox.c.message_id == message_id
    if turn_id is not None:
        matches = matches | (outbox.c.turn_id == turn_id)
    where = (matches, outbox.c.kind == "reply")
    return list(connection.scalars(select(outbox.c.text).where(*where).order_by(_PLACE)))


def notices(connection: Connection, conversation_id: int, after: int) -> list[tuple[int, str]]:
    """What a conversation was told of the bot's own accord since row `after`: questions, and why something waits."""
    own = (outbox.c.kind == "question") | (outbox.c.message_id.is_(None) & outbox.c.turn_id.is_(None))
    where = (outbox.c.conversation_id == conversation_id, outbox.c.id > after, own)
    return [(row.id, row.text) for row in connection.execute(select(outbox).where(*where).order_by(outbox.c.id))]


def has_file(connection: Connection, turn_id: int, file_id: str) -> bool:
    """Whether a turn's file is sent already, or named where none can be."""
    named = outbox.c.file.contains(file_id, autoescape=True) | outbox.c.text.contains(file_id, autoescape=True)
    return connection.scalar(select(outbox.c.id).where(outbox.c.turn_id == turn_id, named).limit(1)) is not None


def newest(connection: Connection) -> int:
    """The newest row's id; 0 if there is none."""
    return connection.scalar(select(func.max(outbox.c.id))) or 0


def undelivered(connection: Connection, conversation_id: int) -> int:
    """How many replies of a conversation never arrived, or may not have."""
    return (
        connection.scalar(
            select(func.count()).select_from(outbox).where(outbox.c.conversation_id == conversation_id, _UNDELIVERED)
        )
        or 0
    )


def _select() -> Select[tuple[object, ...]]:
    return select(outbox, conversations.c.transport, conversations.c.room, conversations.c.thread).join_from(
        outbox, conversations, outbox.c.conversation_id == conversations.c.id
    )


def _outgoing(row: Any) -> Outgoing:
    return Outgoing(
        id=row.id,
        conversation=Conversation(row.transport, row.room, row.thread),
        conversation_id=row.conversation_id,
        kind=row.kind,
        text=row.text,
        choices=row.choices,
        file=row.file,
        reply_to=row.reply_to,
        replaces=row.replaces,
        state=row.state,
        external_id=row.external_id,
        created_at=row.created_at,
        held=bool(row.held),
        error=row.error,
        place=row.id if row.place is None else row.place,
        notifies=bool(row.notifies),
        mentions=tuple(row.mentions.split()),
    )


# What every reply runs is built once: building a statement costs as much as running it.
_ADD = Prepared(
    insert(outbox).returning(outbox.c.id),
    *("conversation_id", "message_id", "turn_id", "kind", "text", "choices", "file", "reply_to", "replaces", "state"),
    *("created_at", "notifies", "mentions"),
)
_NEXT = Prepared(
    _select()
    .where(
        conversations.c.transport == bindparam("transport"),
        conversations.c.room == bindparam("room"),
        conversations.c.thread == bindparam("thread"),
        _UNSENT,
    )
    .order_by(_PLACE)
    .limit(1)
)
_SET_STATE = Prepared(
    update(outbox)
    .where(outbox.c.id == bindparam("row"))
    .values(
        state=bindparam("how"),
        error=bindparam("why"),
        sent_at=func.coalesce(bindparam("at"), outbox.c.sent_at),
        external_id=func.coalesce(bindparam("theirs"), outbox.c.external_id),
    )
)
