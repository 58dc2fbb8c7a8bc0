"""A conversation as it reads: what people wrote and what they were told, in the order of time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, false, func, select, true

from gateway.chat import Attachment, Conversation, Fate
from gateway.store.messages import decode_files
from gateway.store.outbox import decode_choices
from gateway.store.tables import conversations, messages, outbox, sessions, turns


@dataclass(frozen=True, slots=True)
class Said:
    """What a person wrote. `at`: seconds since the epoch."""

    id: int
    conversation_id: int
    at: float
    sender: str
    name: str
    text: str
    fate: Fate
    files: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What people read. `key`: of what was sent first, in whose place `text` stands now; `state`: of its delivery."""

    id: int
    conversation_id: int
    at: float
    kind: str
    key: str
    text: str
    choices: tuple[str, ...]
    state: str
    #: As the outbox has it; empty: none.
    file: str = ""


Entry = Said | Told


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands among all of a conversation."""

    at: float
    is_told: bool
    id: int

    @classmethod
    def of(cls, entry: Entry) -> Place:
        """An entry's own."""
        return cls(entry.at, isinstance(entry, Told), entry.id)


_SAID = select(
    messages.c.id,
    messages.c.conversation_id,
    messages.c.received_at,
    messages.c.sender,
    messages.c.sender_name,
    messages.c.text,
    messages.c.fate,
    messages.c.files,
).where(messages.c.presses == "")
_TOLD = select(
    outbox.c.id,
    outbox.c.conversation_id,
    outbox.c.created_at,
    outbox.c.kind,
    outbox.c.text,
    outbox.c.choices,
    outbox.c.state,
    outbox.c.file,
).where(outbox.c.replaces.is_(None))


@dataclass(frozen=True, slots=True)
class Worked:
    """A turn, as it reads.

    Attributes:
        seconds: how long it took, without waiting for people; None while it is under way.
        text: of the first message that it was about; empty if that is not kept any more. `more`: how many others.
        usd: what it cost.
    """

    id: int
    project_id: int
    run: str
    began_at: float
    seconds: float | None
    sender: str
    name: str
    text: str
    more: int
    room: Conversation
    agent: str
    model: str
    tools: dict[str, int]
    usd: float
    ending: str
    error: str


def turns_of(connection: Connection, project_id: int, limit: int, before: int | None = None) -> list[Worked]:
    """A project's newest turns, or those before one, newest first."""
    newest = select(turns.c.id).where(turns.c.project_id == project_id).order_by(turns.c.id.desc()).limit(limit)
    if before is not None:
        newest = newest.where(turns.c.id < before)
    return _turns(connection, list(connection.scalars(newest)))


def failed(connection: Connection, since: float) -> list[Worked]:
    """The newest turn of each project, if it began after that, and failed or was cut off; not if it was stopped."""
    newest = select(func.max(turns.c.id)).where(turns.c.started_at > since).group_by(turns.c.project_id)
    wanted = select(turns.c.id).where(
        turns.c.id.in_(newest), turns.c.ending.in_(("failed", "interrupted")), turns.c.reason != "stopped"
    )
    return _turns(connection, list(connection.scalars(wanted)))


def _turns(connection: Connection, ids: Sequence[int]) -> list[Worked]:
    first = (
        select(func.min(messages.c.id).label("id"), func.count().label("size"), messages.c.turn_id.label("turn_id"))
        .where(messages.c.turn_id.is_not(None))
        .group_by(messages.c.turn_id)
    )
    batch = first.where(messages.c.turn_id.in_(ids)).subquery()
    wanted = (
        select(
            *(turns, batch.c.size, messages.c.sender_name, messages.c.text.label("said")),
            *(conversations.c.transport, conversations.c.room, conversations.c.thread),
        )
        .join_from(turns, sessions, turns.c.session_id == sessions.c.id)
        .join(conversations, sessions.c.conversation_id == conversations.c.id)
        .outerjoin(batch, batch.c.turn_id == turns.c.id)
        .outerjoin(messages, messages.c.id == batch.c.id)
        .where(turns.c.id.in_(ids))
        .order_by(turns.c.id.desc())
    )
    return [_worked(row) for row in connection.execute(wanted)]


def _worked(row: Row[Any]) -> Worked:
    took = None if row.ended_at is None else max(0.0, row.ended_at - row.started_at - row.waited_s)
    return Worked(
        id=row.id,
        project_id=row.project_id,
        run=row.run,
        began_at=row.started_at,
        seconds=took,
        sender=row.requested_by,
        name=row.sender_name or "",
        text=row.said or "",
        more=max(0, (row.size or 0) - 1),
        room=Conversation(row.transport, row.room, row.thread),
        agent=row.agent,
        model=row.model,
        tools=json.loads(row.tools or "{}"),
        usd=max(row.cost_usd, row.metered_usd),
        ending=row.ending,
        error=row.error,
    )


def newest(connection: Connection, conversation_id: int, limit: int, before: Place | None = None) -> list[Entry]:
    """The newest entries, or those before one, oldest first."""
    said = _SAID.where(messages.c.conversation_id == conversation_id).order_by(messages.c.id.desc()).limit(limit)
    told = _TOLD.where(outbox.c.conversation_id == conversation_id).order_by(outbox.c.id.desc()).limit(limit)
    if before is not None:
        # Of one moment what people said is first, and then by number.
        earlier = true() if before.is_told else messages.c.id < before.id
        said = said.where(_before(messages.c.received_at, before.at, earlier))
        told = told.where(
            _before(outbox.c.created_at, before.at, outbox.c.id < before.id if before.is_told else false())
        )
    found: list[Entry] = [*_said(connection, said), *_told(connection, told)]
    return sorted(found, key=lambda entry: astuple(Place.of(entry)))[-limit:]


def everywhere(connection: Connection, limit: int) -> list[tuple[Conversation, Entry]]:
    """The newest entries of all conversations, newest first, each with where it was said."""
    said = _said(connection, _SAID.order_by(messages.c.id.desc()).limit(limit))
    told = _told(connection, _TOLD.order_by(outbox.c.id.desc()).limit(limit))
    found: list[Entry] = [*said, *told]
    newest = sorted(found, key=lambda entry: astuple(Place.of(entry)), reverse=True)[:limit]
    ids = {entry.conversation_id for entry in newest}
    rows = connection.execute(select(conversations).where(conversations.c.id.in_(ids)))
    rooms = {row.id: Conversation(row.transport, row.room, row.thread) for row in rows}
    return [(rooms[entry.conversation_id], entry) for entry in newest]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A conversation in which somebody wrote. `direct`: with the bot alone; `at`: when they last did."""

    id: int
    room: Conversation
    direct: bool
    project_id: int | None
    at: float


def spoken_in(connection: Connection, sender: str, limit: int, conversation_id: int | None = None) -> list[Spoken]:
    """The conversations in which a person wrote, those of last first; of one of them alone, if it is named."""
    at = func.max(messages.c.received_at).label("at")
    mine = select(messages.c.conversation_id, at).where(messages.c.sender == sender)
    if conversation_id is not None:
        mine = mine.where(messages.c.conversation_id == conversation_id)
    there = mine.group_by(messages.c.conversation_id).subquery()
    wanted = (
        select(conversations, there.c.at)
        .join(there, there.c.conversation_id == conversations.c.id)
        .order_by(there.c.at.desc())
        .limit(limit)
    )
    return [
        Spoken(row.id, Conversation(row.transport, row.room, row.thread), row.direct, row.project_id, row.at)
        for row in connection.execute(wanted)
    ]


def _before(time: Column[float], at: float, earlier: ColumnElement[bool]) -> ColumnElement[bool]:
    return (time < at) | ((time == at) & earlier)


def said(connection: Connection, here: Conversation, external_id: str) -> Said | None:
    """One of the first kind; None for one that is not there."""
    of = messages.c.conversation_id == conversations.c.id
    there = (conversations.c.room == here.room, messages.c.transport == here.transport)
    wanted = _SAID.join(conversations, of).where(messages.c.external_id == external_id, *there)
    return next(iter(_said(connection, wanted)), None)


def told(connection: Connection, here: Conversation, row_id: int) -> Told | None:
    """One of the second kind, by the id of any row in its place; None for one that is not there."""
    of = outbox.c.conversation_id == conversations.c.id
    there = (conversations.c.transport == here.transport, conversations.c.room == here.room)
    first = connection.scalar(
        select(func.coalesce(outbox.c.replaces, outbox.c.id))
        .join(conversations, of)
        .where(outbox.c.id == row_id, *there)
    )
    return None if first is None else next(iter(_told(connection, _TOLD.where(outbox.c.id == first))), None)


def attached(connection: Connection, message_id: int, number: int) -> tuple[Conversation, Attachment] | None:
    """A file that came with a message, and where; None if there is none."""
    of = messages.c.conversation_id == conversations.c.id
    wanted = select(messages.c.files, conversations.c.transport, conversations.c.room).join(conversations, of)
    row = connection.execute(wanted.where(messages.c.id == message_id)).one_or_none()
    files = () if row is None else decode_files(row.files)
    return None if row is None or number >= len(files) else (Conversation(row.transport, row.room), files[number])


def handed_out(connection: Connection, row_id: int) -> tuple[Conversation, str] | None:
    """The file of an outbox row, as it is stored, and where it was sent; None if there is none."""
    of = outbox.c.conversation_id == conversations.c.id
    wanted = select(outbox.c.file, conversations.c.transport, conversations.c.room).join(conversations, of)
    row = connection.execute(wanted.where(outbox.c.id == row_id)).one_or_none()
    return None if row is None or not row.file else (Conversation(row.transport, row.room), row.file)


def _said(connection: Connection, wanted: Select[Any]) -> list[Said]:
    return [
        Said(
            row.id,
            row.conversation_id,
            row.received_at,
            row.sender,
            row.sender_name,
            row.text,
            Fate(row.fate),
            decode_files(row.files),
        )
        for row in connection.execute(wanted)
    ]


def _told(connection: Connection, wanted: Select[Any]) -> list[Told]:
    first = connection.execute(wanted).all()
    last = _replacing(connection, first)
    found = []
    for row in first:
        now = last.get(row.id, row)
        if (now.text or row.file) and (now is not row or row.state != "dropped"):
            key = f"huskies-{row.id}-{int(row.created_at)}"
            choices = decode_choices(now.choices)
            found.append(
                Told(row.id, row.conversation_id, row.created_at, now.kind, key, now.text, choices, now.state, row.file)
            )
    return found


def _replacing(connection: Connection, first: Sequence[Row[Any]]) -> dict[int, Row[Any]]:
    """By what it stands in for: the newest row that replaced it."""
    if not first:
        return {}
    there, ids = {row.conversation_id for row in first}, [row.id for row in first]
    wanted = select(outbox).where(outbox.c.conversation_id.in_(there), outbox.c.replaces.in_(ids)).order_by(outbox.c.id)
    return {row.replaces: row for row in connection.execute(wanted)}
