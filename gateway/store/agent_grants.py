"""What agents were granted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select

from gateway import clock
from gateway.store.tables import agent_grants


@dataclass(frozen=True, slots=True)
class AgentGrant:
    """A row. `power`: a command's words, or the name of a set; `over_id`: the project it is about, None for each."""

    id: int
    project_id: int
    power: str
    over_id: int | None
    granted_by: str
    granted_at: float

    def covers(self, project_id: int | None) -> bool:
        """Whether it is about that project; None: about all of them together."""
        return self.over_id is None or self.over_id == project_id


def everything(connection: Connection) -> list[AgentGrant]:
    """All of them, oldest first."""
    return [AgentGrant(*row) for row in connection.execute(select(agent_grants).order_by(agent_grants.c.id))]


def add(connection: Connection, project_id: int, power: str, over_id: int | None, by: str) -> bool:
    """Grant it; False if that is granted already."""
    same = (
        agent_grants.c.project_id == project_id,
        agent_grants.c.power == power,
        agent_grants.c.over_id.is_(None) if over_id is None else agent_grants.c.over_id == over_id,
    )
    if connection.scalar(select(agent_grants.c.id).where(*same)) is not None:
        return False
    values = {"project_id": project_id, "power": power, "over_id": over_id, "granted_by": by}
    connection.execute(insert(agent_grants).values(**values, granted_at=clock.now()))
    return True


def drop(connection: Connection, grant_id: int) -> bool:
    """Take it back; False if it is not there."""
    return connection.execute(delete(agent_grants).where(agent_grants.c.id == grant_id)).rowcount == 1


def forget_project(connection: Connection, project_id: int) -> None:
    """A project is erased: so is what its agent may do, and what others may do to it."""
    concerned = or_(agent_grants.c.project_id == project_id, agent_grants.c.over_id == project_id)
    connection.execute(delete(agent_grants).where(concerned))
