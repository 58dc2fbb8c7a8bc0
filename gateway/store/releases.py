"""Releases: the images and settings that a project ran with, and what was tried or proposed in vain."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway import clock
from gateway.store.projects import Project
from gateway.store.tables import releases

#: Of each project, how many attempts without a number are remembered.
_MOST_ATTEMPTS = 50
#: Characters of what is told of one: the end of a log.
_MOST_TOLD = 4000


@dataclass(frozen=True, slots=True)
class By:
    """What was done, why, who asked for it, and who allowed it."""

    what: str
    asked_by: str
    allowed_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A row. `number` is None for what did not come about; then `told` says why: the end of a log, or a no."""

    id: int
    project_id: int
    number: int | None
    at: float
    what: str
    reason: str
    asked_by: str
    allowed_by: str
    told: str
    image: str
    layers: tuple[str, ...]
    stack: str
    wanted: str
    recipe: str
    model: str
    agent: str
    limits: str

    def values(self) -> dict[str, Any]:
        """What a project that goes back to it has again, besides its image."""
        return {name: getattr(self, name) for name in ("stack", "wanted", "recipe", "model", "agent", "limits")}


def add(connection: Connection, project: Project, by: By) -> Release:
    """Note that a project runs with what it has now: its next release."""
    last = connection.scalar(select(func.max(releases.c.number)).where(releases.c.project_id == project.id))
    return _add(connection, project, by, number=(last or 0) + 1, told="")


def add_attempt(connection: Connection, project: Project, by: By, told: str) -> Release:
    """Note that something was tried or proposed, and what came of it."""
    told = told[-_MOST_TOLD:]
    last = next(iter(of_project(connection, project.id, 1)), None)
    if (
        last is not None
        and (last.number, last.told) == (None, told)
        and By(last.what, last.asked_by, last.allowed_by, last.reason) == by
    ):  # the same once more, perhaps of a process that ended before it could say so
        connection.execute(delete(releases).where(releases.c.id == last.id))
    added = _add(connection, project, by, number=None, told=told)
    attempts = select(releases.c.id).where(releases.c.project_id == project.id, releases.c.number.is_(None))
    kept = attempts.order_by(releases.c.id.desc()).limit(_MOST_ATTEMPTS)
    connection.execute(delete(releases).where(releases.c.id.in_(attempts), releases.c.id.notin_(kept)))
    return added


def of_project(connection: Connection, project_id: int, limit: int) -> list[Release]:
    """The newest ones, oldest first, with the attempts among them."""
    wanted = select(releases).where(releases.c.project_id == project_id).order_by(releases.c.id.desc()).limit(limit)
    return [_release(row) for row in reversed(connection.execute(wanted).all())]


def newest(connection: Connection, project_id: int, limit: int) -> list[Release]:
    """The newest ones that have a number, newest first."""
    mine = (releases.c.project_id == project_id, releases.c.number.is_not(None))
    wanted = select(releases).where(*mine).order_by(releases.c.number.desc()).limit(limit)
    return [_release(row) for row in connection.execute(wanted)]


def by_number(connection: Connection, project_id: int, number: int) -> Release | None:
    """The one of that number."""
    mine = (releases.c.project_id == project_id, releases.c.number == number)
    row = connection.execute(select(releases).where(*mine)).one_or_none()
    return None if row is None else _release(row)


def set_image(connection: Connection, release_id: int, image: str, layers: str) -> None:
    """A release has another image from now on, made of the same."""
    connection.execute(update(releases).where(releases.c.id == release_id).values(image=image, layers=layers))


def _add(connection: Connection, project: Project, by: By, *, number: int | None, told: str) -> Release:
    names = ("image", "stack", "wanted", "recipe", "model", "agent", "limits")
    values = {
        **{name: getattr(project, name) for name in names},
        **{field.name: getattr(by, field.name) for field in fields(by)},
        "layers": " ".join(project.layers),
        "project_id": project.id,
        "number": number,
        "at": clock.now(),
        "told": told,
    }
    added = connection.execute(insert(releases).values(**values).returning(releases)).one()
    return _release(added)


def _release(row: Any) -> Release:
    values = dict(row._mapping)
    return Release(**{**values, "layers": tuple(row.layers.split())})
