"""What a person sees first: all projects, and what they do."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.chat.text import quote
from gateway.intake import Services
from gateway.store.projects import Project


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way. `since`: seconds since the epoch."""

    said: str
    since: float


@dataclass(frozen=True, slots=True)
class Row:
    """A project, at this moment."""

    id: int
    name: str
    state: str
    trouble: str
    stack: str
    runs: tuple[Run, ...]
    #: Spent today, in USD.
    spent: float

    @property
    def is_at_work(self) -> bool:
        """Whether something is in flight."""
        return bool(self.runs) or self.state in ("creating", "starting", "deleting")


def projects(services: Services) -> list[Row]:
    """All of them, by name."""
    return [_row(services, one) for one in services.projects.all()]


def project(services: Services, project_id: int) -> Row | None:
    """One of them; None: it is gone."""
    found = services.projects.by_id(project_id)
    return None if found is None else _row(services, found)


def _row(services: Services, found: Project) -> Row:
    runs = services.dispatcher.running_in(found.id)
    return Row(
        id=found.id,
        name=found.name,
        state=services.projects.state(found),
        trouble=services.projects.trouble(found.id),
        stack=found.stack or "",
        runs=tuple(Run(quote(turn.batch[0].text), turn.started_at) for turn in runs),
        spent=services.admission.left(found.id)[0],
    )
