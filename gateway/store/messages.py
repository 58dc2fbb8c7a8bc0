"""Messages: what came in, each with its fate."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Select, func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from gateway.chat import Conversation, Fate, Message, MessageRef
from gateway.store.tables import conversations, messages

#: A message may be edited or withdrawn while it has one of these fates.
_WAITING = (Fate.RECEIVED, Fate.QUEUED)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A committed message."""

    id: int
    conversation_id: int
    conversation: Conversation
    direct: bool
    project_id: int | None
    external_id: str
    sender: str
    sender_name: str
    text: str
    problem: str
    fate: Fate
    turn_id: int | None
    received_at: float

    @property
    def ref(self) -> MessageRef:
        """Where it stands on its platform."""
        return MessageRef(self.conversation, self.external_id)


def add(connection: Connection, message: Message, conversation_id: int, project_id: int | None) -> int | None:
    """Store a new message, bound to a project; None when the platform sent it before."""
    statement = (
        upsert(messages)
        .values(
            transport=message.conversation.transport,
            external_id=message.external_id,
            conversation_id=conversation_id,
            project_id=project_id,
            sender=message.sender,
            sender_name=message.sender_name,
            text=message.text,
            problem=message.problem,
            fate=Fate.RECEIVED,
            received_at=time.time(),
        )
        .on_conflict_do_nothing(index_elements=["transport", "external_id"])
        .returning(messages.c.id)
    )
    message_id: int | None = connection.scalar(statement)
    return message_id


def replace_text(connection: Connection, message: Message) -> bool:
    """Take an edit into a message that still waits; False when it is too late, or not the sender's own."""
    result = connection.execute(
        update(messages)
        .where(
            messages.c.transport == message.conversation.transport,
            messages.c.external_id == message.edits,
            messages.c.sender == message.sender,
            messages.c.fate.in_(_WAITING),
        )
        .values(text=message.text)
    )
    return result.rowcount == 1


def withdraw(connection: Connection, transport: str, external_id: str) -> StoredMessage | None:
    """Discard a message that still waits; None when there is none such."""
    message_id = connection.scalar(
        update(messages)
        .where(
            messages.c.transport == transport,
            messages.c.external_id == external_id,
            messages.c.fate.in_(_WAITING),
        )
        .values(fate=Fate.DISCARDED, settled_at=time.time())
        .returning(messages.c.id)
    )
    return None if message_id is None else by_id(connection, message_id)


def by_id(connection: Connection, message_id: int) -> StoredMessage:
    """The message with this id."""
    return _message(connection.execute(_select().where(messages.c.id == message_id)).one())


def with_fate(connection: Connection, fate: Fate) -> list[StoredMessage]:
    """Every message that has a fate which is not final, oldest first."""
    where = messages.c.settled_at.is_(None)
    return _all(connection, _select().where(messages.c.fate == fate, where))


def queued(connection: Connection, project_id: int, conversation_id: int) -> list[StoredMessage]:
    """The messages of one session that wait for a turn, oldest first."""
    return _all(
        connection,
        _select().where(
            messages.c.project_id == project_id,
            messages.c.conversation_id == conversation_id,
            messages.c.fate == Fate.QUEUED,
        ),
    )


def count_queued(connection: Connection, project_id: int, conversation_id: int) -> int:
    """How many messages of one session wait for a turn."""
    return (
        connection.scalar(
            select(func.count())
            .select_from(messages)
            .where(
                messages.c.project_id == project_id,
                messages.c.conversation_id == conversation_id,
                messages.c.fate == Fate.QUEUED,
            )
        )
        or 0
    )


def of_turn(connection: Connection, turn_id: int) -> list[StoredMessage]:
    """The batch of a turn, oldest first."""
    return _all(connection, _select().where(messages.c.turn_id == turn_id))


def set_fate(connection: Connection, ids: Collection[int], fate: Fate, *, turn_id: int | None = None) -> None:
    """Give messages a fate, and the turn that takes them when there is one."""
    values: dict[str, object] = {"fate": fate, "settled_at": time.time() if fate.final else None}
    if turn_id is not None:
        values["turn_id"] = turn_id
    connection.execute(update(messages).where(messages.c.id.in_(ids)).values(**values))


def set_text(connection: Connection, message_id: int, text: str) -> None:
    """Change what a message says."""
    connection.execute(update(messages).where(messages.c.id == message_id).values(text=text))


def bind(connection: Connection, message_id: int, project_id: int) -> None:
    """Tie a message to the project whose agent shall answer it."""
    connection.execute(update(messages).where(messages.c.id == message_id).values(project_id=project_id))


def last_from_people(connection: Connection, conversation_id: int) -> float | None:
    """When somebody last wrote in a conversation."""
    latest: float | None = connection.scalar(
        select(func.max(messages.c.received_at)).where(messages.c.conversation_id == conversation_id)
    )
    return latest


def _select() -> Select[tuple[object, ...]]:
    return select(
        messages,
        conversations.c.room,
        conversations.c.thread,
        conversations.c.direct,
    ).join_from(messages, conversations, messages.c.conversation_id == conversations.c.id)


def _all(connection: Connection, statement: Select[tuple[object, ...]]) -> list[StoredMessage]:
    rows: Sequence[Row[tuple[object, ...]]] = connection.execute(statement.order_by(messages.c.id)).all()
    return [_message(row) for row in rows]


def _message(row: Row[tuple[object, ...]]) -> StoredMessage:
    return StoredMessage(
        id=row.id,
        conversation_id=row.conversation_id,
        conversation=Conversation(row.transport, row.room, row.thread),
        direct=bool(row.direct),
        project_id=row.project_id,
        external_id=row.external_id,
        sender=row.sender,
        sender_name=row.sender_name,
        text=row.text,
        problem=row.problem,
        fate=Fate(row.fate),
        turn_id=row.turn_id,
        received_at=row.received_at,
    )
