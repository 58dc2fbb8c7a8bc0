"""Messages: what came in, each with its fate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, bindparam, func, select, true, update
from sqlalchemy.exc import NoResultFound

from gateway import clock
from gateway.chat import Attachment, Conversation, Fate, Message, MessageRef
from gateway.config import AGENT, EVENT, SCHEDULE
from gateway.store.conversations import Destination
from gateway.store.portable import upsert
from gateway.store.prepared import Prepared
from gateway.store.tables import conversations, messages

#: A message may be edited or withdrawn while it has one of these fates.
_WAITING = (Fate.RECEIVED, Fate.QUEUED)
#: Characters that may wait in one session: as one batch they must fit a frame of the wire.
MAX_QUEUED_TEXT = 500_000
#: What makes an agent shorten its dialogue; it must stand alone to be understood as that.
COMPACT = "/compact"


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
    files: tuple[Attachment, ...] = ()
    presses: str = ""
    quoted: str = ""
    word: str = ""
    room_id: int | None = None

    @property
    def at_the_word_of(self) -> str:
        """The person who wrote it, or at whose word an agent did."""
        return self.word or self.sender

    @property
    def reply_to(self) -> str:
        """What replies are attached to; empty where nobody wrote it, as with what a schedule sends."""
        here, by_nobody = self.conversation.transport, self.sender.startswith((AGENT, SCHEDULE, EVENT))
        wrote = not by_nobody or self.sender.partition(":")[0] == here  # in the page, people are those of elsewhere
        return self.external_id if self.room_id is None and wrote else ""

    @property
    def quiet(self) -> bool:
        """Whether people need not see that it was sent, nor that it is worked on."""
        return not self.reply_to and self.external_id.endswith("/quiet")

    @property
    def destination(self) -> Destination:
        """Where replies to it go."""
        return Destination(self.conversation, self.conversation_id)

    @property
    def ref(self) -> MessageRef:
        """Where it stands on its platform."""
        return MessageRef(self.conversation, self.external_id)


def add(
    connection: Connection,
    message: Message,
    conversation_id: int,
    project_id: int | None,
    *,
    direct: bool,
    room_id: int | None = None,
) -> StoredMessage | None:
    """Store a new message, bound to a project; None when the platform sent it before. `room_id`: see the table."""
    received_at = clock.now()
    added = _ADD.first(
        connection,
        {
            "transport": message.conversation.transport,
            "external_id": message.external_id,
            "conversation_id": conversation_id,
            "project_id": project_id,
            "sender": message.sender,
            "sender_name": message.sender_name,
            "text": message.text,
            "problem": message.problem,
            "files": msgspec.json.encode(message.files).decode() if message.files else "",
            "presses": message.presses,
            "quoted": message.quoted,
            "word": message.word,
            "room_id": room_id,
            "fate": Fate.RECEIVED,
            "received_at": received_at,
        },
    )
    if added is None:
        return None
    return StoredMessage(
        id=added[0],
        conversation_id=conversation_id,
        conversation=message.conversation,
        direct=direct,
        project_id=project_id,
        external_id=message.external_id,
        sender=message.sender,
        sender_name=message.sender_name,
        text=message.text,
        problem=message.problem,
        fate=Fate.RECEIVED,
        turn_id=None,
        received_at=received_at,
        files=message.files,
        presses=message.presses,
        quoted=message.quoted,
        word=message.word,
        room_id=room_id,
    )


def count_from(connection: Connection, sender: str, since: float) -> int:
    """How many messages a sender wrote since a time."""
    wanted = select(func.count()).where(messages.c.sender == sender, messages.c.received_at >= since)
    return connection.scalar(wanted) or 0


def replace_text(connection: Connection, message: Message, words: str | None) -> None:
    """Take an edit into a message that still waits, if it is the sender's own.

    One that was routed already has become what the agent gets, and becomes `words`; None: it reads like a command that
    the agent carries out, and one that is that already stays so.
    """
    own = (
        messages.c.transport == message.conversation.transport,
        messages.c.external_id == message.edits,
        messages.c.sender == message.sender,
    )
    connection.execute(update(messages).where(*own, messages.c.fate == Fate.RECEIVED).values(text=message.text))
    queued = update(messages).where(*own, messages.c.fate == Fate.QUEUED)
    if words is None:
        queued, words = queued.where(messages.c.text != COMPACT), message.text
    connection.execute(queued.values(text=words))


def withdraw(connection: Connection, transport: str, external_id: str, sender: str | None) -> StoredMessage | None:
    """Discard a message of `sender` (None: of anybody) that still waits; None if there is none."""
    ours = messages.c.sender == sender if sender is not None else true()
    message_id = connection.scalar(
        update(messages)
        .where(
            messages.c.transport == transport,
            messages.c.external_id == external_id,
            messages.c.fate.in_(_WAITING),
            ours,
        )
        .values(fate=Fate.DISCARDED, settled_at=clock.now())
        .returning(messages.c.id)
    )
    return None if message_id is None else by_id(connection, message_id)


def by_id(connection: Connection, message_id: int) -> StoredMessage:
    """The message with this id."""
    found = by_id_if_any(connection, message_id)
    if found is None:
        raise NoResultFound(f"message {message_id}")
    return found


def of_event(connection: Connection, event: Message) -> StoredMessage:
    """What was committed of an event of a platform."""
    ours = (messages.c.transport == event.conversation.transport, messages.c.external_id == event.external_id)
    return _message(connection.execute(_select().where(*ours)).one())


def by_external_id(connection: Connection, transport: str, external_id: str) -> StoredMessage | None:
    """The message that a platform calls that; None if there is none, or no longer."""
    where = (messages.c.transport == transport, messages.c.external_id == external_id)
    found = connection.execute(_select().where(*where)).one_or_none()
    return None if found is None else _message(found)


def by_id_if_any(connection: Connection, message_id: int) -> StoredMessage | None:
    """The message with this id; None if it was swept."""
    found = _BY_ID.first(connection, {"message": message_id})
    return None if found is None else _message(found)


def with_fate(connection: Connection, fate: Fate) -> list[StoredMessage]:
    """Every message whose fate is not final, oldest first."""
    where = messages.c.settled_at.is_(None)
    return _all(connection, _select().where(messages.c.fate == fate, where))


def queued(
    connection: Connection, project_id: int, conversation_id: int
) -> tuple[list[StoredMessage], list[StoredMessage]]:
    """The messages of one session that go to the agent next, together, and those that have to wait behind them.

    Both oldest first.
    """
    rows = _QUEUED.all(connection, {"project": project_id, "conversation": conversation_id})
    found = [_message(row) for row in rows]
    alone = next((at for at, message in enumerate(found) if message.text == COMPACT), len(found))
    alone = max(1, alone)
    return found[:alone], found[alone:]


def enqueue(connection: Connection, message_id: int, key: tuple[int, int], limit: int) -> bool:
    """Queue a message for a turn of session `key` (project, conversation).

    False when it does not wait then: `limit` others do, or too much text, or it was taken back meanwhile.
    """
    project_id, conversation_id = key
    values = {"message": message_id, "project": project_id, "conversation": conversation_id, "most": limit}
    return _ENQUEUE.run(connection, values) == 1


def begin_command(connection: Connection, message_id: int) -> bool:
    """A command begins, perhaps again after a crash; False when it was taken back meanwhile."""
    result = connection.execute(
        update(messages)
        .where(messages.c.id == message_id, messages.c.fate.in_((Fate.RECEIVED, Fate.RUNNING)))
        .values(fate=Fate.RUNNING)
    )
    return result.rowcount == 1


def senders(connection: Connection) -> set[str]:
    """Everybody who has written, as far back as messages are kept."""
    return set(connection.scalars(select(messages.c.sender).distinct()))


def came_after(connection: Connection, turn_id: int) -> bool:
    """Whether anybody wrote in a turn's conversation after it had taken its last message."""
    last = select(func.max(messages.c.id)).where(messages.c.turn_id == turn_id).scalar_subquery()
    where = select(messages.c.conversation_id).where(messages.c.turn_id == turn_id).limit(1).scalar_subquery()
    later = select(messages.c.id).where(
        messages.c.conversation_id == where, messages.c.id > last, messages.c.presses == ""
    )
    return connection.scalar(later.limit(1)) is not None


def of_turn(connection: Connection, turn_id: int) -> list[StoredMessage]:
    """The batch of a turn, oldest first."""
    return [_message(row) for row in _OF_TURN.all(connection, {"turn": turn_id})]


def set_fate(connection: Connection, ids: Collection[int], fate: Fate, *, turn_id: int | None = None) -> None:
    """Give messages a fate, and the turn that takes them when there is one."""
    values: dict[str, object] = {"fate": fate, "settled_at": clock.now() if fate.final else None}
    statement = _SET_FATE
    if turn_id is not None:
        values["turn_id"] = turn_id
        statement = _TAKE
    for message_id in ids:
        statement.run(connection, {"message": message_id, **values})


def discard(connection: Connection, ids: Collection[int]) -> None:
    """Discard messages whose names somebody has still to tell: they are settled when that is committed."""
    for message_id in ids:
        _SET_FATE.run(connection, {"message": message_id, "fate": Fate.DISCARDED, "settled_at": None})


def untold(connection: Connection, conversation: Conversation) -> list[StoredMessage]:
    """The messages of a room that were discarded, and whose names nobody has told yet."""
    found = with_fate(connection, Fate.DISCARDED)
    room = (conversation.transport, conversation.room)
    return [one for one in found if (one.conversation.transport, one.conversation.room) == room]


def last_received_at(connection: Connection, conversation: Conversation) -> float:
    """When the newest message of a room came; 0 if there is none."""
    in_room = (conversations.c.transport == conversation.transport, conversations.c.room == conversation.room)
    # The newest of each thread, by the index alone; a join would walk through what others wrote since.
    of_people = (messages.c.conversation_id == conversations.c.id, messages.c.sender.not_like("schedule:%"))
    newest = select(messages.c.id).where(*of_people).order_by(messages.c.id.desc()).limit(1).scalar_subquery()
    newest_of_all = select(func.max(newest)).where(*in_room).scalar_subquery()
    return connection.scalar(select(messages.c.received_at).where(messages.c.id == newest_of_all)) or 0.0


def set_text(connection: Connection, message_id: int, text: str) -> None:
    """Change what a message says."""
    connection.execute(update(messages).where(messages.c.id == message_id).values(text=text))


def _select() -> Select[tuple[object, ...]]:
    return select(
        messages,
        conversations.c.room,
        conversations.c.thread,
        conversations.c.direct,
    ).join_from(messages, conversations, messages.c.conversation_id == conversations.c.id)


def _all(connection: Connection, statement: Select[tuple[object, ...]]) -> list[StoredMessage]:
    return [_message(row) for row in connection.execute(statement.order_by(messages.c.id)).all()]


def _message(row: Any) -> StoredMessage:
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
        files=decode_files(row.files),
        presses=row.presses,
        quoted=row.quoted,
        word=row.word,
        room_id=row.room_id,
    )


def decode_files(stored: str) -> tuple[Attachment, ...]:
    """What came with a message, as its row has it."""
    return msgspec.json.decode(stored, type=tuple[Attachment, ...]) if stored else ()


# What every message runs is built once: building a statement costs as much as running it.
_ADD = Prepared(
    upsert(messages).on_conflict_do_nothing(index_elements=["transport", "external_id"]).returning(messages.c.id),
    *("transport", "external_id", "conversation_id", "project_id", "sender", "sender_name"),
    *("text", "problem", "files", "presses", "quoted", "word", "room_id", "fate", "received_at"),
)
_IN_SESSION = (
    (messages.c.project_id == bindparam("project"))
    & (messages.c.conversation_id == bindparam("conversation"))
    & (messages.c.fate == Fate.QUEUED)
    & messages.c.settled_at.is_(None)  # lets the partial index be used: history costs nothing
)
_QUEUED = Prepared(_select().where(_IN_SESSION).order_by(messages.c.id))
_BY_ID = Prepared(_select().where(messages.c.id == bindparam("message")))
_OF_TURN = Prepared(_select().where(messages.c.turn_id == bindparam("turn")).order_by(messages.c.id))
_SET_FATE = Prepared(update(messages).where(messages.c.id == bindparam("message")), "fate", "settled_at")
_TAKE = Prepared(update(messages).where(messages.c.id == bindparam("message")), "fate", "settled_at", "turn_id")
_others = messages.alias("others")
_WAITING_BESIDE = (
    (_others.c.project_id == bindparam("project"))
    & (_others.c.conversation_id == bindparam("conversation"))
    & (_others.c.fate == Fate.QUEUED)
    & _others.c.settled_at.is_(None)
)
_ENQUEUE = Prepared(
    update(messages)
    .where(
        messages.c.id == bindparam("message"),
        messages.c.fate == Fate.RECEIVED,
        select(func.count()).select_from(_others).where(_WAITING_BESIDE).scalar_subquery() < bindparam("most"),
        select(func.coalesce(func.sum(func.length(_others.c.text)), 0)).where(_WAITING_BESIDE).scalar_subquery()
        < MAX_QUEUED_TEXT,
    )
    .values(project_id=bindparam("project"), fate=Fate.QUEUED)
)
