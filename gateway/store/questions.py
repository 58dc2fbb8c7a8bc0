"""What people were asked, what they answered, and what they allowed for a session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Select, bindparam, delete, func, select, text, update

from gateway import clock
from gateway.chat import Conversation
from gateway.store import audit
from gateway.store.conversations import Destination
from gateway.store.portable import upsert
from gateway.store.prepared import Prepared
from gateway.store.tables import conversations, projects, questions, rules, sessions, turns
from sled.protocol import Question

#: expired: nobody answered in time. closed: nobody waits for the answer any more.
Outcome = Literal["allowed", "denied", "answered", "expired", "closed"]

#: How the names of a turn's questions begin that the gateway asks itself: no sled waits for their answers.
OWN = "own-"
#: And of those that a restart of the gateway does not end: whoever asked asks again, under the same name.
LASTING = f"{OWN}lasting-"

# Spelled out as in the partial index: with a bound parameter SQLite could not use it.
_OPEN = text("questions.answered_at IS NULL")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is stored.

    Attributes:
        run: the run that waits; empty for a question of the gateway's own.
        requester: who may answer, besides operators; empty: operators only.
        number: what tells it from the others that are open in its conversation.
        answers: what was answered so far, one list for each query.
    """

    id: int
    turn_id: int | None
    run: str
    session_id: int | None
    project_id: int
    conversation_id: int
    conversation: Conversation
    number: int
    body: Question
    requester: str
    asked_at: float
    deadline: float
    card_id: int | None
    outcome: Outcome | Literal[""]
    answers: tuple[tuple[str, ...], ...]
    answered_by: str

    @property
    def own(self) -> bool:
        """Whether the gateway asks, for something that only it can do."""
        return self.body.id.startswith(OWN)

    @property
    def lasting(self) -> bool:
        """Whether it is the gateway's, and outlives it."""
        return self.body.id.startswith(LASTING)

    @property
    def destination(self) -> Destination:
        """Where it is asked."""
        return Destination(self.conversation, self.conversation_id)


def ask(
    connection: Connection,
    *,
    turn_id: int | None,
    project_id: int,
    conversation_id: int,
    body: Question,
    requester: str,
    deadline: float,
) -> Asked | None:
    """Store a question; None if this one of that turn is there already, or the turn is over."""
    over = select(turns.c.id).where(turns.c.id == turn_id, turns.c.ended_at.is_not(None))
    if turn_id is not None and connection.scalar(over) is not None:
        return None
    taken = set(
        connection.scalars(
            select(questions.c.number).where(questions.c.conversation_id == conversation_id, _OPEN),
        )
    )
    number = next(n for n in range(1, len(taken) + 2) if n not in taken)
    values = {
        "turn_id": turn_id,
        "project_id": project_id,
        "external_id": body.id,
        "conversation_id": conversation_id,
        "number": number,
        "body": msgspec.json.encode(body).decode(),
        "requester": requester,
        "asked_at": clock.now(),
        "deadline": deadline,
    }
    question_id = connection.scalar(
        upsert(questions).values(**values).on_conflict_do_nothing().returning(questions.c.id)
    )
    if question_id is None:
        return None
    asked = by_id(connection, question_id)
    _audit(connection, asked, "question", actor=f"agent:{_name(connection, asked)}", text_=_words(body))
    return asked


def _name(connection: Connection, asked: Asked) -> str:
    return str(connection.scalar(select(projects.c.name).where(projects.c.id == asked.project_id)) or "")


def _words(body: Question) -> str:
    """What it says, in full: what it would do, or what it asks."""
    if body.kind == "permission":
        return f"{body.tool} {body.arguments}".strip()
    return "\n".join(query.text for query in body.queries)


def _audit(connection: Connection, asked: Asked, kind: audit.Kind, *, actor: str, text_: str) -> None:
    told: dict[str, object] = {"question": asked.id, "conversation": str(asked.conversation)}
    if kind == "answer":
        told |= {"outcome": asked.outcome, "answers": [list(answer) for answer in asked.answers]}
    elif asked.body.rule:
        told["rule"] = asked.body.rule
    audit.add(connection, kind, actor, text_, word=asked.requester, project=_name(connection, asked), detail=told)


def by_id(connection: Connection, question_id: int) -> Asked:
    """The question with this id."""
    return _asked(connection.execute(_select().where(questions.c.id == question_id)).one())


def of_turn(connection: Connection, turn_id: int, name: str) -> Asked | None:
    """A turn's question of that name; None if there is none."""
    where = (questions.c.turn_id == turn_id, questions.c.external_id == name)
    row = connection.execute(_select().where(*where)).one_or_none()
    return None if row is None else _asked(row)


def all_open(connection: Connection) -> list[Asked]:
    """Every question that waits for an answer, oldest first."""
    return [_asked(row) for row in connection.execute(_select().where(_OPEN).order_by(questions.c.id))]


def open_of_turn(connection: Connection, turn_id: int) -> list[Asked]:
    """What a turn waits for, oldest first."""
    return [_asked(row) for row in _OPEN_OF_TURN.all(connection, {"turn": turn_id})]


def settled_of_open_turns(connection: Connection) -> list[Asked]:
    """The answered questions of turns that have not ended: a sled may not have heard of the answer."""
    where = (questions.c.turn_id.is_not(None), turns.c.ended_at.is_(None), questions.c.answered_at.is_not(None))
    return [_asked(row) for row in connection.execute(_select().where(*where).order_by(questions.c.id))]


def count_open(connection: Connection, turn_id: int) -> int:
    """How many questions of a turn wait for an answer."""
    open_ones = select(func.count()).select_from(questions).where(questions.c.turn_id == turn_id, _OPEN)
    return connection.scalar(open_ones) or 0


def asked_of(connection: Connection, conversation_id: int, sender: str) -> list[Question]:
    """What somebody is asked in a conversation now."""
    where = (questions.c.conversation_id == conversation_id, questions.c.requester == sender, _OPEN)
    bodies = connection.scalars(select(questions.c.body).where(*where))
    return [msgspec.json.decode(body, type=Question) for body in bodies]


def set_card(connection: Connection, question_id: int, card_id: int) -> None:
    """Remember which outgoing message asks."""
    connection.execute(update(questions).where(questions.c.id == question_id).values(card_id=card_id))


def extend(connection: Connection, question_id: int, deadline: float) -> None:
    """Give people more time."""
    connection.execute(update(questions).where(questions.c.id == question_id).values(deadline=deadline))


def add_answer(connection: Connection, question_id: int, answer: Sequence[str], deadline: float) -> Asked:
    """Take the answer to the next of its queries; the others are still to come, until a new deadline."""
    now = by_id(connection, question_id)
    told = json.dumps([*now.answers, list(answer)])
    where = (questions.c.id == question_id, questions.c.answered_at.is_(None))
    connection.execute(update(questions).where(*where).values(answer=told, deadline=deadline))
    return by_id(connection, question_id)


def settle(
    connection: Connection, question_id: int, outcome: Outcome, *, by: str = "", answers: Sequence[Sequence[str]] = ()
) -> Asked | None:
    """Give a question its one outcome; None when it has one already. A turn's clock leaves out the wait."""
    now = clock.now()
    values: dict[str, object] = {"outcome": outcome, "answered_by": by, "answered_at": now}
    if answers:
        values["answer"] = json.dumps([list(answer) for answer in answers])
    where = (questions.c.id == question_id, questions.c.answered_at.is_(None))
    if connection.execute(update(questions).where(*where).values(**values)).rowcount == 0:
        return None
    settled = by_id(connection, question_id)
    if settled.turn_id is not None:
        waited = turns.c.waited_s + max(0.0, now - settled.asked_at)
        connection.execute(update(turns).where(turns.c.id == settled.turn_id).values(waited_s=waited))
    _audit(connection, settled, "answer", actor=by or "gateway", text_=outcome)
    return settled


def unanswered(connection: Connection, conversation_id: int, limit: int) -> list[Asked]:
    """The newest questions of a conversation that nobody answered while it counted, newest first."""
    where = (questions.c.conversation_id == conversation_id, questions.c.outcome.in_(("expired", "closed")))
    rows = connection.execute(_select().where(*where).order_by(questions.c.id.desc()).limit(limit))
    return [_asked(row) for row in rows]


# --- what was allowed for a session ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """What an agent may do in a session without asking."""

    id: int
    rule: str
    own: bool
    allowed_by: str
    conversation: Conversation


def add_rule(connection: Connection, session_id: int, rule: str, by: str, *, own: bool) -> None:
    """Allow something from now on. `own`: the gateway asked; what a sled words never counts there."""
    values = {"session_id": session_id, "rule": rule, "own": own, "allowed_by": by, "allowed_at": clock.now()}
    connection.execute(upsert(rules).values(**values).on_conflict_do_nothing())


def has_rule(connection: Connection, turn_id: int, question: Question) -> bool:
    """Whether a turn's session may do this without being asked."""
    own = question.id.startswith(OWN)
    found = select(rules.c.id).join_from(rules, turns, rules.c.session_id == turns.c.session_id)
    where = (turns.c.id == turn_id, rules.c.rule == question.rule, rules.c.own.is_(own))
    return bool(question.rule) and connection.scalar(found.where(*where)) is not None


def rules_of(connection: Connection, project_id: int) -> list[Rule]:
    """What is allowed in the sessions of a project, oldest first."""
    found = (
        select(rules, conversations.c.transport, conversations.c.room, conversations.c.thread)
        .join_from(rules, sessions, rules.c.session_id == sessions.c.id)
        .join(conversations, sessions.c.conversation_id == conversations.c.id)
        .where(sessions.c.project_id == project_id)
        .order_by(rules.c.id)
    )
    return [
        Rule(row.id, row.rule, row.own, row.allowed_by, Conversation(row.transport, row.room, row.thread))
        for row in connection.execute(found)
    ]


def drop_rules(connection: Connection, ids: Sequence[int]) -> None:
    """Do not allow these any more."""
    connection.execute(delete(rules).where(rules.c.id.in_(ids)))


def forget_project(connection: Connection, project_id: int) -> None:
    """A project is erased: so is what it asked and was allowed."""
    of_project = select(sessions.c.id).where(sessions.c.project_id == project_id)
    connection.execute(delete(rules).where(rules.c.session_id.in_(of_project)))
    connection.execute(delete(questions).where(questions.c.project_id == project_id))


def _select() -> Select[tuple[object, ...]]:
    return (
        select(
            questions,
            turns.c.run,
            turns.c.session_id,
            conversations.c.transport,
            conversations.c.room,
            conversations.c.thread,
        )
        .join_from(questions, conversations, questions.c.conversation_id == conversations.c.id)
        .outerjoin(turns, questions.c.turn_id == turns.c.id)
    )


def _asked(row: Any) -> Asked:
    return Asked(
        id=row.id,
        turn_id=row.turn_id,
        run="" if row.run is None or row.external_id.startswith(OWN) else row.run,
        session_id=row.session_id,
        project_id=row.project_id,
        conversation_id=row.conversation_id,
        conversation=Conversation(row.transport, row.room, row.thread),
        number=row.number,
        body=msgspec.json.decode(row.body, type=Question),
        requester=row.requester,
        asked_at=row.asked_at,
        deadline=row.deadline,
        card_id=row.card_id,
        outcome=row.outcome,
        answers=tuple(tuple(answer) for answer in json.loads(row.answer or "[]")),
        answered_by=row.answered_by,
    )


# Every turn asks this when it ends: building the statement costs as much as running it.
_OPEN_OF_TURN = Prepared(_select().where(questions.c.turn_id == bindparam("turn"), _OPEN).order_by(questions.c.id))
