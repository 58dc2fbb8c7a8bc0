"""What a person sees first: all projects, and what they do."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.chat.text import quote
from gateway.intake import Services


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way. `since`: seconds since the epoch."""

    said: str
    since: float


@dataclass(frozen=True, slots=True)
class Row:
    """A project, at this moment."""

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
    found = []
    for project in services.projects.all():
        runs = services.dispatcher.running_in(project.id)
        found.append(
            Row(
                name=project.name,
                state=services.projects.state(project),
                trouble=services.projects.trouble(project.id),
                stack=project.stack or "",
                runs=tuple(Run(quote(turn.batch[0].text), turn.started_at) for turn in runs),
                spent=services.admission.left(project.id)[0],
            )
        )
    return found
