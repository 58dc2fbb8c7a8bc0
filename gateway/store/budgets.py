"""What projects spent on a day, and what operators allowed them beyond their budget."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, or_, select

from gateway import clock
from gateway.store.portable import greatest
from gateway.store.tables import grants, turns


def of_day(connection: Connection, day: str, since: float) -> tuple[dict[int, float], dict[int, int], dict[int, float]]:
    """By project, of the day that began at `since`: USD spent, turns that spent it, USD allowed beyond the budget."""
    usd = greatest(turns.c.cost_usd, turns.c.metered_usd)
    open_too = or_(turns.c.ended_at >= since, turns.c.ended_at.is_(None))
    rows = connection.execute(
        select(turns.c.project_id, func.sum(usd), func.count(turns.c.ended_at))
        .where(open_too)
        .group_by(turns.c.project_id)
    ).all()
    more = connection.execute(
        select(grants.c.project_id, func.sum(grants.c.usd)).where(grants.c.day == day).group_by(grants.c.project_id)
    ).all()
    return (
        {row[0]: float(row[1]) for row in rows},
        {row[0]: int(row[2]) for row in rows},
        {row[0]: float(row[1]) for row in more},
    )


def grant(connection: Connection, project_id: int, day: str, usd: float, by: str) -> None:
    """Allow a project more on a day."""
    values = {"project_id": project_id, "day": day, "usd": usd, "granted_by": by, "granted_at": clock.now()}
    connection.execute(insert(grants).values(**values))
