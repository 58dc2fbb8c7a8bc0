"""What turns used: written as the model proxy counts it, read per project and person."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import astuple, dataclass

from sqlalchemy import Connection, and_, bindparam, case, func, literal, or_, select, update

from gateway.store.portable import any_of, greatest
from gateway.store.prepared import Prepared
from gateway.store.tables import projects, turns
from sled.protocol import Finished

#: The agent that has no model behind it.
_CALLS_NOTHING = "scripted"
_SESSION = re.compile(r"s([0-9]{1,18})-[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Used:
    """What one model call used.

    `input_tokens` are those that no cache held. `at_least`: it was cut before its final account. `limited`: the
    provider said not now. `model` is empty if the call is not one of the dialogue's own (titles and the like). `usd`:
    what it cost by the gateway's own account.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    at_least: bool = False
    limited: bool = False
    model: str = ""
    usd: float = 0.0


def add(connection: Connection, project_id: int, session: str, used: Used) -> bool:
    """Add a call to the turn that made it; False when the project has no turn at all.

    That is the session's open turn, else its newest, else the project's newest. `session` is its name on the wire, as
    the project's sled told it: untrusted, it only chooses among the project's own.
    """
    turn_id = _turn_of(connection, project_id, session)
    if turn_id is None:
        return False
    counted = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    # Before its first call a turn has no tokens, or, if it has ended, those that its agent told: they are these.
    connection.execute(
        update(turns)
        .where(turns.c.id == turn_id)
        .values(
            {name: case((turns.c.calls == 0, 0), else_=turns.c[name]) + getattr(used, name) for name in counted}
            | {
                "calls": turns.c.calls + 1,
                "limits": turns.c.limits + int(used.limited),
                "at_least": or_(turns.c.at_least, literal(used.at_least)),
                "model": used.model or turns.c.model,
                "metered_usd": turns.c.metered_usd + used.usd,
            }
        )
    )
    return True


_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def told_by_agent(connection: Connection, turn_id: int, end: Finished) -> float:
    """Add an agent's own account of a run to its turn, of the tokens as far as the proxy has none.

    What the turn has cost by that, USD, beyond what its calls were counted as: the larger account is believed, as an
    agent may tell anything, and one that was killed tells nothing.
    """
    row = _OF_TURN.first(connection, {"turn": turn_id})
    assert row is not None
    tools = Counter(json.loads(row.tools or "{}"))
    tools.update(end.tools)
    cost = row.cost_usd + end.cost_usd
    values = {"cost_usd": cost, "model": row.model or end.model}
    values["tools"] = json.dumps(dict(tools)) if tools else row.tools
    for name in _TOKENS:  # the proxy's own account is better than the agent's
        values[name] = getattr(row, name) + (0 if row.calls else getattr(end, name))
    _TELL.run(connection, {"turn": turn_id, **values})
    return float(max(cost, row.metered_usd) - max(row.cost_usd, row.metered_usd))


def doubt_open_turns(connection: Connection) -> None:
    """At the start of a gateway: a call that was under way when the last one ended may have gone uncounted."""
    connection.execute(
        update(turns).where(turns.c.ended_at.is_(None), turns.c.agent != _CALLS_NOTHING).values(at_least=True)
    )


@dataclass(frozen=True, slots=True)
class Sum:
    """What turns used together. `seconds` leaves out waiting for people.

    `tokens_at_least`, `usd_at_least`: there is a turn among them that used more than is known: it is open, or it was
    cut. An agent tells the cost at its end, so a turn that was killed has tokens, and no cost.
    """

    runs: int = 0
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    usd: float = 0.0
    tokens_at_least: bool = False
    usd_at_least: bool = False

    def __add__(self, other: Sum) -> Sum:
        *amounts, tokens, usd = (mine + its for mine, its in zip(astuple(self), astuple(other), strict=True))
        return Sum(*[*amounts, bool(tokens), bool(usd)])


def sums(connection: Connection, since: float, now: float, project_id: int | None = None) -> dict[tuple[str, str], Sum]:
    """What the turns that began at `since` or later used, by project (its name) and person (their account).

    With `project_id`, of that project only. Times are seconds since the epoch.
    """
    going, usd = turns.c.ended_at.is_(None), greatest(turns.c.cost_usd, turns.c.metered_usd)
    unpriced = and_(turns.c.calls > 0, turns.c.input_tokens + turns.c.output_tokens > 0, usd == 0)
    cut = or_(turns.c.at_least, going)
    took = greatest(func.coalesce(turns.c.ended_at, now) - turns.c.started_at - turns.c.waited_s, 0.0)
    counted = (turns.c.input_tokens, turns.c.output_tokens, turns.c.cache_read_tokens, turns.c.cache_write_tokens)
    wanted = (
        select(
            projects.c.name,
            turns.c.requested_by,
            func.count(),
            *(func.sum(column) for column in (took, *counted, usd)),
            any_of(cut),
            any_of(or_(cut, unpriced)),
        )
        .join_from(turns, projects, turns.c.project_id == projects.c.id)
        .where(turns.c.started_at >= since)
        .group_by(projects.c.name, turns.c.requested_by)
    )
    if project_id is not None:
        wanted = wanted.where(turns.c.project_id == project_id)
    return {
        (name, person): Sum(*[*used, bool(tokens), bool(usd)])
        for name, person, *used, tokens, usd in connection.execute(wanted)
    }


@dataclass(frozen=True, slots=True)
class Spent:
    """What one turn used. `at`: when it began, seconds since the epoch; `seconds`: None while it is under way."""

    at: float
    seconds: float | None
    project: str
    person: str
    agent: str
    input_tokens: int
    output_tokens: int
    usd: float


def each(connection: Connection, since: float, most: int) -> list[Spent]:
    """The turns that began at `since` or later, newest first, at most so many."""
    took = greatest(turns.c.ended_at - turns.c.started_at - turns.c.waited_s, 0.0)
    seconds = case((turns.c.ended_at.is_(None), None), else_=took)
    cached = turns.c.cache_read_tokens + turns.c.cache_write_tokens
    wanted = (
        select(
            turns.c.started_at,
            seconds,
            projects.c.name,
            turns.c.requested_by,
            turns.c.agent,
            turns.c.input_tokens + cached,
            turns.c.output_tokens,
            greatest(turns.c.cost_usd, turns.c.metered_usd),
        )
        .join_from(turns, projects, turns.c.project_id == projects.c.id)
        .where(turns.c.started_at >= since)
        .order_by(turns.c.id.desc())
        .limit(most)
    )
    return [Spent(*row) for row in connection.execute(wanted)]


def _turn_of(connection: Connection, project_id: int, session: str) -> int | None:
    newest = select(turns.c.id).where(turns.c.project_id == project_id).order_by(turns.c.id.desc()).limit(1)
    if (found := _SESSION.fullmatch(session)) is not None:
        own = newest.where(turns.c.session_id == int(found[1]))
        for wanted in (own.where(turns.c.ended_at.is_(None)), own):
            if (row := connection.execute(wanted).one_or_none()) is not None:
                return int(row.id)
    row = connection.execute(newest).one_or_none()
    return None if row is None else int(row.id)


# Every turn runs these when it ends: building a statement costs as much as running it.
_OF_TURN = Prepared(select(turns).where(turns.c.id == bindparam("turn")))
_TELL = Prepared(update(turns).where(turns.c.id == bindparam("turn")), "cost_usd", "model", "tools", *_TOKENS)
