"""Notes: what one project's agent tells, or asks, another one's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from gateway import clock
from gateway.chat import Fate
from gateway.store.tables import messages, notes, turns


@dataclass(frozen=True, slots=True)
class Note:
    """A row. `call`: the call that sent it; `hops`: how many notes the chain has that it ends.

    `late`: its sender no longer waits for the answer, which goes back as a note. `message_id`: what it became.
    """

    id: int
    call: str
    from_id: int
    to_id: int
    topic: str
    hops: int
    asks: bool
    deadline: float
    late: bool
    message_id: int
    sent_at: float


def add(connection: Connection, **values: Any) -> Note:
    """Store one."""
    made = connection.scalar(insert(notes).values(sent_at=clock.now(), **values).returning(notes.c.id))
    found = by_id(connection, int(made or 0))
    assert found is not None
    return found


def by_id(connection: Connection, note_id: int) -> Note | None:
    """The note with this id."""
    return _first(connection, notes.c.id == note_id)


def by_call(connection: Connection, call: str) -> Note | None:
    """What a call sent."""
    return _first(connection, notes.c.call == call)


def by_message(connection: Connection, message_id: int) -> Note | None:
    """The note that became a message."""
    return _first(connection, notes.c.message_id == message_id)


def set_late(connection: Connection, note_id: int) -> None:
    """Nobody waits for the answer any more."""
    connection.execute(update(notes).where(notes.c.id == note_id).values(late=True))


def hops_of_turn(connection: Connection, turn_id: int) -> int:
    """The longest chain of notes that a turn answers; 0 if people began it."""
    found = select(func.max(notes.c.hops)).join_from(notes, messages, notes.c.message_id == messages.c.id)
    return connection.scalar(found.where(messages.c.turn_id == turn_id)) or 0


def sent(connection: Connection, from_id: int, to_id: int, since: float) -> tuple[int, float]:
    """How many notes went that way since then, and what their turns cost in USD."""
    ours = and_(notes.c.from_id == from_id, notes.c.to_id == to_id, notes.c.sent_at > since)
    count = connection.scalar(select(func.count()).where(ours)) or 0
    of_turns = (
        select(messages.c.turn_id)
        .join_from(notes, messages, notes.c.message_id == messages.c.id)
        .where(ours)
        .distinct()
    )
    larger = func.sum(turns.c.cost_usd), func.sum(turns.c.metered_usd)
    cost, metered = connection.execute(select(*larger).where(turns.c.id.in_(of_turns))).one()
    return count, max(float(cost or 0.0), float(metered or 0.0))


def exchanged(connection: Connection, one: int, other: int, topic: str, since: float) -> int:
    """How many notes two projects have exchanged about a topic since then, both ways."""
    there, back = (and_(notes.c.from_id == a, notes.c.to_id == b) for a, b in ((one, other), (other, one)))
    where = (or_(there, back), notes.c.topic == topic, notes.c.sent_at > since)
    return connection.scalar(select(func.count()).where(*where)) or 0


def under_way(connection: Connection) -> list[Note]:
    """Those that no turn has answered yet, oldest first; and asks whose answer is late."""
    found = select(notes).join_from(notes, messages, notes.c.message_id == messages.c.id)
    waits = messages.c.fate.in_((Fate.RECEIVED, Fate.QUEUED, Fate.RUNNING))
    return [_note(row) for row in connection.execute(found.where(or_(waits, notes.c.late)).order_by(notes.c.id))]


def settle_late(connection: Connection, note_id: int) -> bool:
    """The late answer of a note is on its way; False if it was already."""
    where = (notes.c.id == note_id, notes.c.late.is_(True))
    return connection.execute(update(notes).where(*where).values(late=False)).rowcount == 1


def forget_project(connection: Connection, project_id: int) -> None:
    """A project is deleted."""
    connection.execute(delete(notes).where(or_(notes.c.from_id == project_id, notes.c.to_id == project_id)))


def _first(connection: Connection, where: Any) -> Note | None:
    row = connection.execute(select(notes).where(where)).one_or_none()
    return None if row is None else _note(row)


def _note(row: Any) -> Note:
    return Note(
        id=row.id,
        call=row.call,
        from_id=row.from_id,
        to_id=row.to_id,
        topic=row.topic,
        hops=row.hops,
        asks=bool(row.asks),
        deadline=row.deadline,
        late=bool(row.late),
        message_id=row.message_id,
        sent_at=row.sent_at,
    )
