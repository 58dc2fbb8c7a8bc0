"""What commands may use, in one bundle; made by `gateway.app.build`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.asking import Answers, Questions
from gateway.chat import Transport
from gateway.config import Access, Settings
from gateway.delivery import Files, Outbox
from gateway.hive import Calls, Leads, Notes, Powers, Schedules
from gateway.intake.confirmations import Confirmations
from gateway.intake.logins import Logins
from gateway.projects import Projects
from gateway.store import Store
from gateway.turns import Admission, Dispatcher

if TYPE_CHECKING:
    from gateway.intake.command import Command


@dataclass(frozen=True, slots=True)
class Services:
    """See the module."""

    settings: Settings
    store: Store
    access: Access
    outbox: Outbox
    dispatcher: Dispatcher
    questions: Questions
    answers: Answers
    admission: Admission
    files: Files
    projects: Projects
    confirmations: Confirmations
    powers: Powers
    schedules: Schedules
    notes: Notes
    leads: Leads
    calls: Calls
    logins: Logins
    transports: Mapping[str, Transport]
    commands: tuple[Command, ...]
    #: One line about the agent that answers, for people.
    agent_line: Callable[[], str]
