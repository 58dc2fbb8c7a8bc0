"""The lead: the project whose agent answers where no project is active, and has the others work.

It is an ordinary project, whose agent was granted the set `lead` over all. Its instructions are a file that operators
edit, beside the projects' folders, so that no agent writes its own. What needs a decision becomes a message to it, in
the room where people talk to it, and waits out the window of that session like any other, so that what happens together
is one turn. Nothing that must go on depends on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway import clock
from gateway.chat import Message
from gateway.config import EVENT, Access, Person, Role
from gateway.hive.calls import TRANSPORT
from gateway.hive.powers import LEAD, Powers
from gateway.projects import Registry
from gateway.store import Connection, Store, conversations, messages
from gateway.store.messages import StoredMessage
from gateway.store.projects import Project

log = logging.getLogger(__name__)

#: Messages about what happened, within an hour; more are left for `open` and `status` to show.
WAKES_PER_HOUR = 12
#: Characters of the instructions that the lead is told.
_MOST = 8000
_HOUR_S = 3600.0
INSTRUCTIONS = """\
You lead. People write to you where no other project is active. Mostly they want something done in one of the projects,
or to know how things are. Have the work done there instead of doing it yourself, with the tool `huskies`:

- `projects`, `status <project>`, `open`, `usage` say how things are; look before you answer.
- `new project <name> --git <url>` makes one. A person is asked first, on a card: say in one sentence what you are about
  to do, then call.
- `ask <project> <words>` has its agent do or answer something, and gives you its answer; `tell <project> <words>` does
  not wait. Say what is to come of it, not how. A schedule belongs to the project that it is about: tell its agent to
  make it.
- What all agents should know goes into /shared, as short files.

Sometimes you are told what happened in a project. Decide whether a person has to know or to act, and say so in a line
or two; if not, call `quiet`. Answer briefly: people read you on a phone.
"""


class Leads:
    """See the module. `hand_on` takes each message once it is committed."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        powers: Powers,
        access: Access,
        *,
        file: Path,
        people: Mapping[str, Person],
        hand_on: Callable[[StoredMessage], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._powers = powers
        self._access = access
        #: Its instructions.
        self.file = file
        self._people = people
        self._hand_on = hand_on

    async def recover(self, configured: str) -> None:
        """Make the configured project the lead, if there is none yet."""
        if not configured or self._registry.lead is not None:
            return
        found = next((project for project in self._registry.all() if project.name == configured), None)
        if found is not None and found.ready_at is not None:
            await self.appoint(found, "the configuration")
        else:
            log.warning("[gateway] lead: there is no project %s yet", configured)

    async def appoint(self, project: Project, by: str) -> Project | None:
        """Make a project the lead; which one was it before. Raises StateError, OSError."""
        before = self._registry.lead
        if not self.file.exists():
            self.file.write_text(INSTRUCTIONS, encoding="utf-8")
        await self._powers.grant(project.id, LEAD, None, by)
        await self._registry.set_lead(project)
        return before

    async def dismiss(self) -> Project | None:
        """There is no lead any more; which one it was. What it was granted over all goes with it."""
        before = self._registry.lead
        await self._registry.set_lead(None)
        for grant in self._powers.granted():
            if before is not None and (grant.project_id, grant.power, grant.over_id) == (before.id, LEAD, None):
                await self._powers.revoke(grant.id)
        return before

    def told(self, project_id: int) -> str:
        """What the lead alone is told: its instructions, the people and the projects; empty for all others."""
        if not self._registry.leads(project_id):
            return ""
        try:
            said = self.file.read_text(encoding="utf-8", errors="replace")[:_MOST]
        except OSError:
            said = INSTRUCTIONS
        people = [
            f"{person.name}{person.pronouns and f' ({person.pronouns})'}, {self._access.role(sender).name.lower()}"
            for sender, person in self._people.items()
        ]
        others = [other.name for other in self._registry.all() if not other.leads and other.ready_at is not None]
        named = ", ".join(others) or "none yet"
        return f"{said.strip()}\n\nPeople: {'; '.join(people) or 'as they write'}.\nProjects: {named}."

    # --- what needs a decision: a `gateway.turns.Waker` --------------------------------------------------------------

    def wake(self, connection: Connection, project_id: int, key: str, told: str) -> StoredMessage | None:
        """Within a unit: tell the lead of what happened in another project, once for each `key`."""
        lead, project = self._registry.lead, self._registry.by_id(project_id)
        if lead is None or project is None or lead.id == project_id or lead.desired != "up":
            return None
        here = conversations.last_of_project(connection, lead.id, TRANSPORT)
        word = self._word(lead.id)
        if here is None or self._access.role(word) is Role.NOBODY:
            return None
        sender = f"{EVENT}{lead.name}"
        if messages.count_from(connection, sender, clock.now() - _HOUR_S) >= WAKES_PER_HOUR:
            log.warning("%s is not told of more than %s events in an hour: %s", lead.name, WAKES_PER_HOUR, key)
            return None
        message = Message(
            conversation=here.conversation,
            external_id=f"{EVENT}{key}/quiet",
            sender=sender,
            sender_name="What happened",
            text=f"{project.name}: {told}",
            direct=here.direct,
            quoted="[Nobody wrote this: it happened. If people need not hear of it, call `quiet`.]",
            word=word,
        )
        return messages.add(connection, message, here.id, lead.id, direct=here.direct)

    def hand(self, message: StoredMessage | None) -> None:
        """After the commit."""
        if message is not None:
            self._hand_on(message)

    def _word(self, lead_id: int) -> str:
        """At whose word it decides: of whoever made it the lead."""
        mine = (grant for grant in self._powers.granted() if (grant.project_id, grant.power) == (lead_id, LEAD))
        return next((grant.granted_by for grant in mine if grant.over_id is None), "")


def is_event(message: StoredMessage) -> bool:
    """Whether it tells the lead of what happened."""
    return message.sender.startswith(EVENT)
