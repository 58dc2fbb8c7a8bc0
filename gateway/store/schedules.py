"""Schedules: messages that are due at times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from gateway import clock
from gateway.chat import Conversation
from gateway.store.conversations import Destination
from gateway.store.tables import conversations, schedules


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row. `times`: as it was typed; without `cron` and `every_s` it is due once.

    `due` is the next time, None when there is none left; `message_id` what it sent last, until that is settled.
    """

    id: int
    project_id: int
    conversation_id: int
    conversation: Conversation
    direct: bool
    made_by: str
    word: str
    made_at: float
    times: str
    cron: str
    every_s: float
    zone: str
    text: str
    quiet: bool
    due: float | None
    message_id: int | None
    failures: int
    last_error: str
    rests: bool

    @property
    def recurs(self) -> bool:
        """Whether it is due more than once."""
        return bool(self.cron or self.every_s)

    @property
    def destination(self) -> Destination:
        """Where it was made, and where people read what comes of it."""
        return Destination(self.conversation, self.conversation_id)


def add(connection: Connection, **values: Any) -> int:
    """Make one; its number."""
    made = connection.scalar(insert(schedules).values(made_at=clock.now(), **values).returning(schedules.c.id))
    assert made is not None
    return int(made)


def by_id(connection: Connection, schedule_id: int) -> Schedule | None:
    """The one of that number."""
    row = connection.execute(_select().where(schedules.c.id == schedule_id)).one_or_none()
    return None if row is None else _schedule(row)


def of_project(connection: Connection, project_id: int | None) -> list[Schedule]:
    """Those of a project, or all: what is due next comes first, what rests last."""
    found = _select() if project_id is None else _select().where(schedules.c.project_id == project_id)
    rows = [_schedule(row) for row in connection.execute(found.order_by(schedules.c.id))]
    return sorted(rows, key=lambda one: (one.rests, one.due is None, one.due or 0.0))


def count(connection: Connection, project_id: int) -> int:
    """How many a project has."""
    return connection.scalar(select(func.count()).where(schedules.c.project_id == project_id)) or 0


def due_by(connection: Connection, stamp: float) -> list[Schedule]:
    """Those that are due by then, in order."""
    where = (schedules.c.due <= stamp, schedules.c.rests.is_(False))
    return [_schedule(row) for row in connection.execute(_select().where(*where).order_by(schedules.c.due))]


def next_due(connection: Connection) -> float | None:
    """When the next one is due."""
    due: float | None = connection.scalar(select(func.min(schedules.c.due)).where(schedules.c.rests.is_(False)))
    return due


def under_way(connection: Connection) -> list[Schedule]:
    """Those whose last message was not settled when it was last looked at."""
    return [_schedule(row) for row in connection.execute(_select().where(schedules.c.message_id.is_not(None)))]


def change(connection: Connection, schedule_id: int, **values: Any) -> None:
    """Change a row."""
    connection.execute(update(schedules).where(schedules.c.id == schedule_id).values(**values))


def drop(connection: Connection, schedule_id: int) -> None:
    """Forget one."""
    connection.execute(delete(schedules).where(schedules.c.id == schedule_id))


def forget_project(connection: Connection, project_id: int) -> None:
    """A project is deleted."""
    connection.execute(delete(schedules).where(schedules.c.project_id == project_id))


def _select() -> Select[tuple[object, ...]]:
    return select(
        schedules,
        conversations.c.transport,
        conversations.c.room,
        conversations.c.thread,
        conversations.c.direct,
    ).join_from(schedules, conversations, schedules.c.conversation_id == conversations.c.id)


def _schedule(row: Any) -> Schedule:
    return Schedule(
        id=row.id,
        project_id=row.project_id,
        conversation_id=row.conversation_id,
        conversation=Conversation(row.transport, row.room, row.thread),
        direct=bool(row.direct),
        made_by=row.made_by,
        word=row.word,
        made_at=row.made_at,
        times=row.times,
        cron=row.cron,
        every_s=row.every_s,
        zone=row.zone,
        text=row.text,
        quiet=bool(row.quiet),
        due=row.due,
        message_id=row.message_id,
        failures=row.failures,
        last_error=row.last_error,
        rests=bool(row.rests),
    )
