"""What a person sees first: all projects, and what they do."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.asking import cards, is_long
from gateway.chat.text import quote
from gateway.config import Role
from gateway.intake import Services
from gateway.intake.logins import Person
from gateway.store.projects import Project
from gateway.web.markup import written


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


@dataclass(frozen=True, slots=True)
class Need:
    """What somebody may answer. `html`: all that is asked, if it `is_shown`; `says`: the buttons, each with what
    pressing it says."""

    id: int
    project: str
    where: str
    since: float
    html: str
    is_shown: bool
    says: tuple[tuple[str, str], ...]


def needs(services: Services, person: Person) -> list[Need]:
    """What waits for an answer that this person may give, in any room, oldest first."""
    found = []
    for asked in services.questions.everything():
        about = services.projects.by_id(asked.project_id)
        if about is None or (person.role is not Role.OPERATOR and asked.requester != person.sender):
            continue
        # Nobody says yes to what they were not shown.
        is_shown = not is_long(asked.body)
        buttons = (("allow", f"allow #{asked.id}"), ("deny", f"no #{asked.id}"))
        found.append(
            Need(
                id=asked.id,
                project=about.name,
                where=str(asked.conversation),
                since=asked.asked_at,
                html=written(cards.whole(asked) if is_shown else cards.summary(asked.body)),
                is_shown=is_shown,
                says=buttons if asked.body.kind == "permission" and is_shown else (),
            )
        )
    return found


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
