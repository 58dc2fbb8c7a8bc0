"""Projects: what people asked for, and the tombstones of what they deleted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway import clock
from gateway.store import agent_grants, conversations, notes, questions, schedules
from gateway.store.tables import dialogues, grants, messages, outbox, projects, releases, sessions, turns

Desired = Literal["up", "down", "deleted"]
Permissions = Literal["auto", "ask", "allow"]

#: What a tombstone knows that a bootstrap over it may change.
_OF_A_GRAVE = ("path", "adopted", "made_source", "stack", "wanted", "recipe", "permissions", "uid", "gid", "ssh_port")


class Taken(Exception):
    """A living project has that name, or that port."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as it is stored. `token` opens its wire.

    `stack` is its primary one, and `wanted` what an operator asked for (empty: the files decide); `recipe` is what its
    container is made of (see `gateway.projects.recipes`), and `layers` the images below its own.

    `model`, `agent` and `limits` are what its operators chose; empty: what the configuration says. `leads`: its agent
    answers where no project is active.

    `owner` (uid and gid), `ssh_port` and `image` belong to its container; a process has none.
    """

    id: int
    name: str
    path: Path
    adopted: bool
    made_source: bool
    revived: bool
    stack: str
    token: str
    permissions: Permissions
    desired: Desired
    ready_at: float | None
    last_error: str
    created_by: str
    created_at: float
    owner: tuple[int, int] | None
    ssh_port: int | None
    image: str
    git_url: str
    purging: bool
    wanted: str
    recipe: str
    layers: tuple[str, ...]
    model: str
    agent: str
    limits: str
    leads: bool

    @property
    def contained(self) -> bool:
        """Whether it lives, or as a tombstone lived, in a container."""
        return self.ssh_port is not None


def reserve(
    connection: Connection,
    *,
    name: str,
    path: Path,
    adopted: bool,
    made_source: bool,
    wanted: str,
    token: str,
    permissions: str,
    created_by: str,
    owner: tuple[int, int] | None = None,
    ssh_port: int | None = None,
) -> Project:
    """Take a name: a new row, or the tombstone of an earlier project of that name.

    Raises Taken when a living project has it, or its port.
    """
    uid, gid = owner or (None, None)
    values = {
        "path": str(path),
        "adopted": adopted,
        "made_source": made_source,
        "stack": "",
        "wanted": wanted,
        "recipe": "",
        "layers": "",
        "token": token,
        "permissions": permissions,
        "desired": "up",
        "ready_at": None,
        "last_error": "",
        "created_by": created_by,
        "created_at": clock.now(),
        "uid": uid,
        "gid": gid,
        "ssh_port": ssh_port,
        "image": "",
        "git_url": "",
        "purging": False,
    }
    tombstone = (projects.c.name == name, projects.c.desired == "deleted")
    old = connection.execute(select(*(projects.c[key] for key in _OF_A_GRAVE)).where(*tombstone)).one_or_none()
    grave = json.dumps(dict(zip(_OF_A_GRAVE, old, strict=True))) if old is not None else ""
    revive = update(projects).where(*tombstone).values(revived=True, grave=grave, **values)
    try:
        if connection.execute(revive).rowcount == 0:
            connection.execute(insert(projects).values(name=name, revived=False, **values))
    except IntegrityError:
        raise Taken from None
    found = by_name(connection, name)
    assert found is not None
    return found


def by_name(connection: Connection, name: str) -> Project | None:
    """The project or tombstone of that name."""
    row = connection.execute(select(projects).where(projects.c.name == name)).one_or_none()
    return None if row is None else _project(row)


def all_projects(connection: Connection) -> list[Project]:
    """Every project and tombstone, by name."""
    return [_project(row) for row in connection.execute(select(projects).order_by(projects.c.name))]


def has_container(connection: Connection) -> bool:
    """Whether any project lives in a container, or did and may come back."""
    return connection.scalar(select(projects.c.id).where(projects.c.ssh_port.is_not(None)).limit(1)) is not None


def change(connection: Connection, project_id: int, **values: object) -> Project:
    """Set columns of a project; the project as it is now."""
    connection.execute(update(projects).where(projects.c.id == project_id).values(**values))
    return _project(connection.execute(select(projects).where(projects.c.id == project_id)).one())


def set_lead(connection: Connection, project_id: int | None) -> None:
    """Make a project the lead, and no other; None: there is none."""
    connection.execute(update(projects).where(projects.c.leads).values(leads=False))
    if project_id is not None:
        change(connection, project_id, leads=True)


def bury(connection: Connection, project_id: int, *, purging: bool = False) -> Project:
    """Make a project a tombstone: name, path, port and history stay; `purging`: these are to go too."""
    conversations.leave(connection, project_id)
    agent_grants.forget_project(connection, project_id)
    schedules.forget_project(connection, project_id)
    notes.forget_project(connection, project_id)
    return change(
        connection, project_id, desired="deleted", ready_at=None, token="", image="", leads=False, purging=purging
    )


def rebury(connection: Connection, project_id: int) -> Project:
    """Make a project that was taken up again in vain the tombstone that it was, wherever that had its source."""
    grave = connection.scalar(select(projects.c.grave).where(projects.c.id == project_id))
    change(connection, project_id, **(json.loads(grave) if grave else {}))
    return bury(connection, project_id)


def erase(connection: Connection, project_id: int) -> None:
    """Forget a project altogether: its turns, sessions and the binding of its messages go too."""
    conversations.leave(connection, project_id)
    connection.execute(
        update(messages).where(messages.c.project_id == project_id).values(project_id=None, turn_id=None)
    )
    questions.forget_project(connection, project_id)
    of_session = select(sessions.c.id).where(sessions.c.project_id == project_id)
    connection.execute(delete(dialogues).where(dialogues.c.session_id.in_(of_session)))
    connection.execute(delete(grants).where(grants.c.project_id == project_id))
    agent_grants.forget_project(connection, project_id)
    schedules.forget_project(connection, project_id)
    notes.forget_project(connection, project_id)
    connection.execute(delete(releases).where(releases.c.project_id == project_id))
    of_project = select(turns.c.id).where(turns.c.project_id == project_id)
    connection.execute(update(outbox).where(outbox.c.turn_id.in_(of_project)).values(turn_id=None))
    connection.execute(delete(turns).where(turns.c.project_id == project_id))
    connection.execute(delete(sessions).where(sessions.c.project_id == project_id))
    connection.execute(delete(projects).where(projects.c.id == project_id))


def _project(row: Row[tuple[object, ...]]) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        path=Path(row.path),
        adopted=bool(row.adopted),
        made_source=bool(row.made_source),
        revived=bool(row.revived),
        stack=row.stack,
        token=row.token,
        permissions=row.permissions,
        desired=row.desired,
        ready_at=row.ready_at,
        last_error=row.last_error,
        created_by=row.created_by,
        created_at=row.created_at,
        owner=None if row.uid is None else (row.uid, row.gid),
        ssh_port=row.ssh_port,
        image=row.image,
        git_url=row.git_url,
        purging=bool(row.purging),
        wanted=row.wanted,
        recipe=row.recipe,
        layers=tuple(row.layers.split()),
        model=row.model,
        agent=row.agent,
        limits=row.limits,
        leads=bool(row.leads),
    )
