"""The dialogues that a session had with its agent, so that an older one can be taken up again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, select

from gateway import clock
from gateway.store.portable import upsert
from gateway.store.prepared import Prepared
from gateway.store.tables import dialogues, sessions
from gateway.store.turns import SessionKey

#: Dialogues of one session that can be taken up again.
MOST = 200


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One of them; `title` is what it began with, and `current` the one that a session is in."""

    agent: str
    agent_session: str
    title: str
    last_at: float
    current: bool


def note(connection: Connection, session_id: int, *, agent: str, agent_session: str, title: str) -> None:
    """A turn takes place in a dialogue."""
    now = clock.now()
    known = _KNOWN.scalar(connection, {"session": session_id, "theirs": agent_session})
    if known is None:  # an agent may begin as many as it likes; the oldest make room
        kept = select(dialogues.c.id).where(dialogues.c.session_id == session_id).order_by(dialogues.c.last_at.desc())
        old = delete(dialogues).where(dialogues.c.session_id == session_id)
        connection.execute(old.where(dialogues.c.id.not_in(kept.limit(MOST - 1))))
    values = {
        "session_id": session_id,
        "agent": agent,
        "agent_session": agent_session,
        "title": title[:200],
        "began_at": now,
        "last_at": now,
    }
    _NOTE.run(connection, values)


def of_session(connection: Connection, key: SessionKey, limit: int) -> list[Dialogue]:
    """The newest dialogues of a session, the one that spoke last first."""
    rows = connection.execute(
        select(dialogues, sessions.c.agent_session.label("current"))
        .join_from(dialogues, sessions, dialogues.c.session_id == sessions.c.id)
        .where(sessions.c.project_id == key.project_id, sessions.c.conversation_id == key.conversation_id)
        .order_by(dialogues.c.last_at.desc())
        .limit(limit)
    )
    return [
        Dialogue(row.agent, row.agent_session, row.title, row.last_at, row.agent_session == row.current) for row in rows
    ]


_KNOWN = Prepared(
    select(dialogues.c.id).where(
        dialogues.c.session_id == bindparam("session"), dialogues.c.agent_session == bindparam("theirs")
    )
)
_new = upsert(dialogues)
_NOTE = Prepared(
    _new.on_conflict_do_update(index_elements=["session_id", "agent_session"], set_={"last_at": _new.excluded.last_at}),
    *("session_id", "agent", "agent_session", "title", "began_at", "last_at"),
)
