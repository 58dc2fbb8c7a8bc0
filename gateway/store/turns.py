"""Turns and sessions: which run is over which batch, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    func,
    insert,
    null,
    select,
    update,
)

from gateway import clock
from gateway.chat import Attachment, Fate
from gateway.store import messages, usage
from gateway.store.messages import StoredMessage
from gateway.store.portable import joined
from gateway.store.prepared import Prepared
from gateway.store.tables import dialogues, sessions, turns
from gateway.store.tables import messages as messages_table
from sled.protocol import Finished


class SessionKey(NamedTuple):
    """One dialogue: a project in a conversation."""

    project_id: int
    conversation_id: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent run over one batch."""

    id: int
    run: str
    key: SessionKey
    session: str  # the session's name on the wire
    agent: str
    agent_session: str
    journal: str
    requested_by: str
    stop_reason: str
    progress_id: int | None
    started_at: float
    ended_at: float | None
    ending: str
    error: str
    reason: str = ""  # of its end, or of its being parked
    parked_until: float | None = None
    parks: int = 0
    waited_s: float = 0.0
    booted: str = ""
    began_boot: float = 0.0
    batch: tuple[StoredMessage, ...] = ()
    rest: tuple[StoredMessage, ...] = ()  # what has to wait behind this batch; known only when it begins
    commands: tuple[str, ...] = ()  # what people typed since the session's last turn; known only when it begins

    @property
    def worked_s(self) -> float:
        """Seconds that it has been at work, without its waits."""
        return max(0.0, clock.lasted(self.started_at, self.booted, self.began_boot) - self.waited_s)

    @property
    def session_id(self) -> int:
        """The row of its session."""
        return int(self.session.partition("-")[0].removeprefix("s"))


def hush(connection: Connection, run: str) -> None:
    """The answer of an open turn is not to be sent."""
    connection.execute(update(turns).where(turns.c.run == run, turns.c.ended_at.is_(None)).values(hushed=True))


def end_of(connection: Connection, turn_id: int | None) -> tuple[str, str]:
    """Why a turn ended as it did: the reason, `stopped` if people ended it, and what went wrong; empty for no turn."""
    found = connection.execute(select(turns.c.reason, turns.c.error).where(turns.c.id == turn_id)).one_or_none()
    return ("", "") if found is None else (str(found.reason), str(found.error))


def is_hushed(connection: Connection, turn_id: int) -> bool:
    """Whether a turn's answer is not to be sent."""
    return bool(connection.scalar(select(turns.c.hushed).where(turns.c.id == turn_id)))


class NoFreeSlot(Exception):
    """The project has as many runs as it may."""


def claim(  # the whole of "a turn begins", in one transaction
    connection: Connection, key: SessionKey, *, run: str, agent: str, journal: str, slots: int
) -> Turn | None:
    """Begin a turn over everything that waits in a session; None when nothing does.

    Raises:
        NoFreeSlot: the project has `slots` runs already.
        IntegrityError: the session has a run already.
    """
    batch, rest = messages.queued(connection, *key)
    if not batch:
        return None
    session = _session(connection, key)
    commands = commands_since(connection, session.id, key.conversation_id)
    taken = (session.taken or "").split(",")
    slot = next((slot for slot in range(slots) if str(slot) not in taken), None)
    if slot is None:
        raise NoFreeSlot
    started_at, requested_by = clock.now(), batch[0].at_the_word_of
    turn_id = _BEGIN.scalar(
        connection,
        {
            "run": run,
            "session_id": session.id,
            "project_id": key.project_id,
            "slot": slot,
            "agent": agent,
            "journal": journal,
            "requested_by": requested_by,
            "started_at": started_at,
            "booted": clock.boot_id(),
            "began_boot": clock.awake(),
        },
    )
    assert turn_id is not None
    messages.set_fate(connection, [message.id for message in batch], Fate.RUNNING, turn_id=turn_id)
    return Turn(
        id=turn_id,
        run=run,
        key=key,
        session=f"s{session.id}-{session.generation}",
        agent=agent,
        agent_session=_of_agent(session, agent),
        journal=journal,
        requested_by=requested_by,
        stop_reason="",
        progress_id=None,
        started_at=started_at,
        ended_at=None,
        ending="",
        error="",
        batch=tuple(batch),
        rest=tuple(rest),
        commands=commands,
    )


def dialogue(connection: Connection, key: SessionKey, agent: str) -> tuple[str, str]:
    """A session's name on the wire, as its next turn will have it, and what this agent resumes there."""
    session = _session(connection, key)
    return f"s{session.id}-{session.generation}", _of_agent(session, agent)


def commands_since(connection: Connection, session_id: int, conversation_id: int) -> tuple[str, ...]:
    """What people typed in a conversation since a session's last turn, without the prompts; oldest first."""
    found = _COMMANDS.all(connection, {"session": session_id, "conversation": conversation_id})
    return tuple(row.text for row in found)


def finish(connection: Connection, turn: Turn, end: Finished, fate: Fate) -> float | None:
    """Record how a turn ended and give its messages their fate; what the run cost, USD, or None if that is done."""
    now = clock.now()
    values = {"turn": turn.id, "now": now, "how": end.ending, "why": end.reason, "told": end.error}
    if _FINISH.run(connection, values) == 0:
        return None
    cost = usage.told_by_agent(connection, turn.id, end)
    batch = messages.of_turn(connection, turn.id)
    messages.set_fate(connection, [message.id for message in batch], fate)
    return cost


def park(connection: Connection, turn: Turn, end: Finished, *, run: str, until: float) -> float | None:
    """A run was stopped by the provider: its turn stays open and continues in another run.

    What it cost, USD; None when the turn ended before. The wait until then is counted at once, so that a restart does
    not forget when it began.
    """
    waited = turns.c.waited_s + (until - clock.now())
    values = {"run": run, "parked_until": until, "parks": turns.c.parks + 1, "waited_s": waited}
    values["reason"] = end.reason
    where = (turns.c.id == turn.id, turns.c.ended_at.is_(None), turns.c.run == turn.run)
    if connection.execute(update(turns).where(*where).values(**values)).rowcount == 0:
        return None
    return usage.told_by_agent(connection, turn.id, end)


def go_on(connection: Connection, turn_id: int, *, journal: str) -> None:
    """A parked turn continues now, in a sled that has this journal."""
    values = {"parked_until": None, "journal": journal, "waited_s": _waited(clock.now())}
    connection.execute(update(turns).where(turns.c.id == turn_id).values(**values))


def _waited(now: float | BindParameter[float]) -> ColumnElement[float]:
    """How long a turn waited, if it no longer waits: the time for which it was to be parked is counted already."""
    return turns.c.waited_s + (now - func.coalesce(turns.c.parked_until, now))


def open_turns(connection: Connection) -> list[Turn]:
    """The turns that have not ended, oldest first."""
    rows = connection.execute(_select().where(turns.c.ended_at.is_(None)).order_by(turns.c.id)).all()
    return [_turn(connection, row) for row in rows]


def by_id(connection: Connection, turn_id: int) -> Turn:
    """The turn with this id, with its batch."""
    return _turn(connection, connection.execute(_select().where(turns.c.id == turn_id)).one())


def is_open(connection: Connection, project_id: int, run: str) -> bool:
    """Whether a run is that of an open turn of this project."""
    where = (turns.c.run == run, turns.c.project_id == project_id, turns.c.ended_at.is_(None))
    return connection.scalar(select(turns.c.id).where(*where)) is not None


def attachment(connection: Connection, project_id: int, message_id: int, number: int) -> tuple[str, Attachment] | None:
    """A file of a message that an open turn of this project is about, and the transport that has it."""
    turn_id = connection.scalar(select(messages_table.c.turn_id).where(messages_table.c.id == message_id))
    where = (turns.c.id == turn_id, turns.c.project_id == project_id, turns.c.ended_at.is_(None))
    if turn_id is None or connection.scalar(select(turns.c.id).where(*where)) is None:
        return None
    message = messages.by_id(connection, message_id)
    if number >= len(message.files):
        return None
    return message.conversation.transport, message.files[number]


def last_unfinished_business(connection: Connection, key: SessionKey) -> Turn | None:
    """The newest turn of a session, if it was interrupted or failed: what `retry` runs again."""
    row = connection.execute(
        _select()
        .where(sessions.c.project_id == key.project_id, sessions.c.conversation_id == key.conversation_id)
        .order_by(turns.c.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None or row.ended_at is None or row.ending == "answered":
        return None
    return _turn(connection, row)


def requeue(connection: Connection, turn: Turn) -> None:
    """Queue the batch of an ended turn for a new one."""
    messages.set_fate(connection, [message.id for message in turn.batch], Fate.QUEUED)


def set_stop_reason(connection: Connection, turn_id: int, reason: str) -> None:
    """Remember that a turn is to end, and why, so that a restart does not forget."""
    connection.execute(update(turns).where(turns.c.id == turn_id).values(stop_reason=reason))


def set_progress(connection: Connection, turn_id: int, outbox_id: int) -> None:
    """Remember which outgoing message shows a turn's progress."""
    connection.execute(update(turns).where(turns.c.id == turn_id).values(progress_id=outbox_id))


def set_agent_session(connection: Connection, key: SessionKey, generation: str, agent_session: str) -> None:
    """Remember how to resume a dialogue, unless it was reset since (`generation` is the wire's session name)."""
    session_id, _, number = generation.partition("-")
    _RESUME.run(
        connection,
        {
            "session": int(session_id.removeprefix("s")),
            "project": key.project_id,
            "number": int(number),
            "agent_session": agent_session,
        },
    )


def _of_agent(session: Any, agent: str) -> str:
    """What this agent resumes; another one's dialogue means nothing to it."""
    return str(session.agent_session) if session.whose in (agent, None) else ""


def reset(connection: Connection, key: SessionKey, agent_session: str = "") -> str:
    """Begin a new dialogue, or continue an older one; the session's name on the wire until now."""
    row = _session(connection, key)
    connection.execute(
        update(sessions)
        .where(sessions.c.id == row.id)
        .values(agent_session=agent_session, generation=row.generation + 1)
    )
    return f"s{row.id}-{row.generation}"


def take(connection: Connection, turn: Turn, message_id: int) -> bool:
    """Move a queued message into its session's turn (steer); False when it does not wait there any more."""
    result = connection.execute(
        update(messages_table)
        .where(
            messages_table.c.id == message_id,
            messages_table.c.project_id == turn.key.project_id,
            messages_table.c.conversation_id == turn.key.conversation_id,
            messages_table.c.fate == Fate.QUEUED,
        )
        .values(fate=Fate.RUNNING, turn_id=turn.id)
    )
    return result.rowcount == 1


def _session(connection: Connection, key: SessionKey) -> Any:
    values = {"project": key.project_id, "conversation": key.conversation_id}
    row = _SESSION.first(connection, values)
    if row is None:
        connection.execute(insert(sessions).values(**key._asdict()))
        row = _SESSION.first(connection, values)
    return row


def _select() -> Select[tuple[object, ...]]:
    columns = (sessions.c.conversation_id, sessions.c.agent_session, sessions.c.generation)
    return select(turns, *columns).join_from(turns, sessions, turns.c.session_id == sessions.c.id)


def _turn(connection: Connection, row: Row[tuple[object, ...]]) -> Turn:
    return Turn(
        id=row.id,
        run=row.run,
        key=SessionKey(row.project_id, row.conversation_id),
        session=f"s{row.session_id}-{row.generation}",
        agent=row.agent,
        agent_session=row.agent_session,
        journal=row.journal,
        requested_by=row.requested_by,
        stop_reason=row.stop_reason,
        progress_id=row.progress_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        ending=row.ending,
        error=row.error,
        reason=row.reason,
        parked_until=row.parked_until,
        parks=row.parks,
        waited_s=row.waited_s,
        booted=row.booted,
        began_boot=row.began_boot,
        batch=tuple(messages.of_turn(connection, row.id)),
    )


# What every turn runs is built once: building a statement costs as much as running it.
# A session, with the slots that its project's open turns have, and the agent whose dialogue it would resume.
_SESSION = Prepared(
    select(
        sessions,
        select(joined(turns.c.slot))
        .where(turns.c.project_id == sessions.c.project_id, turns.c.ended_at.is_(None))
        .scalar_subquery()
        .label("taken"),
        select(dialogues.c.agent)
        .where(dialogues.c.session_id == sessions.c.id, dialogues.c.agent_session == sessions.c.agent_session)
        .scalar_subquery()
        .label("whose"),
    ).where(sessions.c.project_id == bindparam("project"), sessions.c.conversation_id == bindparam("conversation"))
)
_BEGIN = Prepared(
    insert(turns).returning(turns.c.id),
    *("run", "session_id", "project_id", "slot", "agent", "journal", "requested_by", "started_at"),
    *("booted", "began_boot"),
)
_FINISH = Prepared(
    update(turns)
    .where(turns.c.id == bindparam("turn"), turns.c.ended_at.is_(None))
    .values(
        ended_at=bindparam("now"),
        waited_s=_waited(bindparam("now")),
        ending=bindparam("how"),
        reason=bindparam("why"),
        error=bindparam("told"),
        parked_until=null(),
    )
)
_RESUME = Prepared(
    update(sessions).where(
        sessions.c.id == bindparam("session"),
        sessions.c.project_id == bindparam("project"),
        sessions.c.generation == bindparam("number"),
    ),
    "agent_session",
)
_last_turn = select(turns.c.id).where(turns.c.session_id == bindparam("session")).order_by(turns.c.id.desc()).limit(1)
_COMMANDS = Prepared(
    select(messages_table.c.text)
    .where(
        messages_table.c.conversation_id == bindparam("conversation"),
        messages_table.c.turn_id.is_(None),
        messages_table.c.fate == Fate.ANSWERED,
        messages_table.c.presses == "",
        # Null, and so nothing, when this is the session's first turn.
        messages_table.c.id
        > select(func.max(messages_table.c.id))
        .where(messages_table.c.turn_id == _last_turn.scalar_subquery())
        .scalar_subquery(),
    )
    .order_by(messages_table.c.id)
    .limit(50)
)
