"""Who may do what. Decided from the configuration alone; whoever is not named may do nothing."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum


class Role(IntEnum):
    """Each role may do what the ones below it may."""

    NOBODY = 0
    MEMBER = 1  # talks to agents, looks at projects, stops runs
    OPERATOR = 2  # makes, changes and deletes projects


#: How the sender of what an agent does begins, of what a schedule sends, and of what happened. No platform's accounts
#: are called so.
AGENT, SCHEDULE, EVENT = "agent:", "schedule:", "event:"


class Access:
    """The lists of the configuration. `local` names the senders that the machine itself vouches for."""

    def __init__(self, operators: Collection[str], members: Collection[str], local: Collection[str] = ()) -> None:
        self._operators = {*operators, *local}
        self._members = set(members)

    def role(self, sender: str) -> Role:
        """The role of `sender` (`transport:account`). Agents, schedules and events are let in; `gateway.hive` says what
        they may do."""
        if sender.startswith((AGENT, SCHEDULE, EVENT)):
            return Role.MEMBER
        if sender in self._operators:
            return Role.OPERATOR
        return Role.MEMBER if sender in self._members else Role.NOBODY
