"""What a person sees first: all projects, and what they do."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.chat.text import quote
from gateway.intake import Services
from gateway.store.projects import Project
from gateway.store.turns import Turn


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way. `who`: for whom; `since`: seconds since the epoch."""

    said: str
    who: str
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
    #: Conversations with messages that no turn has taken yet.
    waiting: int
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
        runs=tuple(Run(quote(turn.batch[0].text), _who(services, turn), turn.started_at) for turn in runs),
        waiting=services.dispatcher.waiting_in(found.id),
        spent=services.admission.left(found.id)[0],
    )


def _who(services: Services, turn: Turn) -> str:
    known = services.settings.people.get(turn.requested_by)
    return known.name if known is not None else turn.batch[0].sender_name or turn.requested_by
