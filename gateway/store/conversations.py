"""Conversations: where people write, and which project each has active."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from gateway.chat import Conversation
from gateway.store.portable import upsert
from gateway.store.prepared import Prepared
from gateway.store.tables import conversations, cursors, messages, projects, sessions, turns


class Destination(NamedTuple):
    """Where something is to be said: a conversation, and its row."""

    conversation: Conversation
    id: int


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation as the gateway knows it. `project_id` is the active one, the room's for a thread without."""

    id: int
    conversation: Conversation
    direct: bool
    ambient: bool
    project_id: int | None

    @property
    def destination(self) -> Destination:
        """Where it is spoken to."""
        return Destination(self.conversation, self.id)


def find(connection: Connection, conversation: Conversation) -> StoredConversation | None:
    """The stored form of `conversation`; None when the bot never took part in it."""
    own = _row(connection, conversation)
    return None if own is None else _stored(connection, conversation, own)


def are_none(connection: Connection) -> bool:
    """Whether nobody has ever written."""
    return connection.scalar(select(conversations.c.id).limit(1)) is None


def ensure(connection: Connection, conversation: Conversation, *, direct: bool) -> StoredConversation:
    """The stored form of `conversation`, made if need be."""
    own = _row(connection, conversation)
    if own is None:
        connection.execute(
            insert(conversations).values(
                transport=conversation.transport,
                room=conversation.room,
                thread=conversation.thread,
                direct=direct,
                ambient=False,
            )
        )
        own = _row(connection, conversation)
        assert own is not None
    elif own.direct != direct:
        connection.execute(update(conversations).where(conversations.c.id == own.id).values(direct=direct))
    return _stored(connection, conversation, own)


def by_id(connection: Connection, conversation_id: int) -> StoredConversation:
    """The conversation with this id."""
    row = connection.execute(select(conversations).where(conversations.c.id == conversation_id)).one()
    own = _Row(row.id, row.direct, row.ambient, row.project_id)
    return _stored(connection, Conversation(row.transport, row.room, row.thread), own)


def direct_with(connection: Connection, transport: str, sender: str) -> StoredConversation | None:
    """Where somebody last wrote to the bot alone."""
    newest: int | None = connection.scalar(
        select(messages.c.conversation_id)
        .join_from(messages, conversations, messages.c.conversation_id == conversations.c.id)
        .where(messages.c.transport == transport, messages.c.sender == sender, conversations.c.direct)
        .order_by(messages.c.id.desc())
        .limit(1)
    )
    return None if newest is None else by_id(connection, newest)


def last_of_project(connection: Connection, project_id: int, but_not: str) -> StoredConversation | None:
    """Where people last talked to a project's agent; on any transport but one."""
    newest: int | None = connection.scalar(
        select(sessions.c.conversation_id)
        .join_from(turns, sessions, turns.c.session_id == sessions.c.id)
        .join(conversations, sessions.c.conversation_id == conversations.c.id)
        .where(turns.c.project_id == project_id, conversations.c.transport != but_not)
        .order_by(turns.c.id.desc())
        .limit(1)
    )
    return None if newest is None else by_id(connection, newest)


def in_room(connection: Connection, conversation: Conversation) -> list[int]:
    """The ids of a room and of all its threads."""
    return list(
        connection.scalars(
            select(conversations.c.id).where(
                conversations.c.transport == conversation.transport, conversations.c.room == conversation.room
            )
        )
    )


def switch(connection: Connection, conversation_id: int, project_id: int | None) -> None:
    """Make a project the active one; that of the room, too, if a thread chooses and the room has none yet."""
    connection.execute(update(conversations).where(conversations.c.id == conversation_id).values(project_id=project_id))
    here = connection.execute(select(conversations).where(conversations.c.id == conversation_id)).one()
    if here.thread and project_id is not None:
        room = ensure(connection, Conversation(here.transport, here.room), direct=bool(here.direct))
        without = (conversations.c.id == room.id, conversations.c.project_id.is_(None))
        connection.execute(update(conversations).where(*without).values(project_id=project_id))


def leave(connection: Connection, project_id: int) -> None:
    """No conversation has this project active any more."""
    connection.execute(update(conversations).where(conversations.c.project_id == project_id).values(project_id=None))


def set_ambient(connection: Connection, conversation: Conversation, *, direct: bool, on: bool) -> None:
    """Whether every message of a room counts, not only those that mention the bot."""
    ensure(connection, Conversation(conversation.transport, conversation.room), direct=direct)
    connection.execute(
        update(conversations)
        .where(conversations.c.transport == conversation.transport, conversations.c.room == conversation.room)
        .values(ambient=on)
    )


def cursor(connection: Connection, transport: str) -> str | None:
    """How far `transport` has read."""
    return connection.scalar(select(cursors.c.value).where(cursors.c.transport == transport))


def set_cursor(connection: Connection, transport: str, value: str) -> None:
    """Remember how far `transport` has read."""
    statement = upsert(cursors).values(transport=transport, value=value)
    connection.execute(statement.on_conflict_do_update(index_elements=["transport"], set_={"value": value}))


class _Row(NamedTuple):
    id: int
    direct: bool
    ambient: bool
    project_id: int | None


def _row(connection: Connection, conversation: Conversation) -> _Row | None:
    values = {"transport": conversation.transport, "room": conversation.room, "thread": conversation.thread}
    found = _FIND.first(connection, values)
    return None if found is None else _Row(*found)


def _stored(connection: Connection, conversation: Conversation, own: _Row) -> StoredConversation:
    project_id, ambient = own.project_id, own.ambient
    if conversation.thread:
        room = _row(connection, Conversation(conversation.transport, conversation.room))
        project_id = project_id or (room.project_id if room else None)
        ambient = ambient or bool(room and room.ambient)
    if project_id is None:  # then the lead's agent answers, if there is one
        project_id = _LEAD.scalar(connection, {})
    return StoredConversation(own.id, conversation, bool(own.direct), bool(ambient), project_id)


_LEAD = Prepared(select(projects.c.id).where(projects.c.leads).limit(1))
_FIND = Prepared(
    select(*(conversations.c[name] for name in _Row._fields)).where(
        conversations.c.transport == bindparam("transport"),
        conversations.c.room == bindparam("room"),
        conversations.c.thread == bindparam("thread"),
    )
)
