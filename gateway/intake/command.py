"""What a command is, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gateway.chat import OutgoingFile
from gateway.config import AGENT, Role
from gateway.delivery import Notice
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake.services import Services
from gateway.projects import Projects
from gateway.store import conversations
from gateway.store.conversations import Destination
from gateway.store.messages import StoredMessage
from gateway.store.projects import Project
from gateway.store.releases import By
from gateway.turns import Stopped


@dataclass(slots=True)
class CommandContext:
    """What a command gets.

    `release` lets the messages behind this one be routed: a slow command calls it as soon as what they depend on
    (above all the active project) is settled. What is in `afterwards` is called once the reply is committed.
    `offers`: words that the reply offers as buttons, if there are any; `replaces`: the message whose reply this one
    replaces. `told_of`: the discarded messages that the reply names. `effect`: what people in the room of an agent's
    run are told of what it did, in a few words; `room`: where those are.
    """

    message: StoredMessage
    role: Role
    arguments: Mapping[str, str]
    services: Services
    release: Callable[[], None]
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)
    replaces: int | None = None
    told_of: list[int] = field(default_factory=list)
    effect: str = ""
    room: Destination | None = None
    #: What `Command.effect` found that its words are about, and how that differs from what is, line by line.
    foreseen: object = None
    difference: str = ""
    #: Who allowed an agent's call on a card, which showed that; empty: nobody was asked.
    allowed_by: str = ""
    #: Why it is asked for, as an agent says.
    reason: str = ""

    @property
    def agent(self) -> str:
        """The project whose agent calls; empty: a person types."""
        return self.message.sender.removeprefix(AGENT) if self.message.sender.startswith(AGENT) else ""

    def by(self, what: str) -> By:
        """Who does something to a project, for its releases; `what`: the command, in a few words."""
        return By(what, self.message.sender, self.allowed_by or self.message.word, self.reason)

    def tells(self, stopped: Stopped) -> str:
        """What the reply says of what was stopped; from its commit on, people know of the messages it names."""
        self.told_of += [message.id for message in stopped.discarded]
        return stopped.told

    def get(self, name: str) -> str | None:
        """An argument; None when it was left out."""
        return self.arguments.get(name)

    async def active_project(self) -> Project:
        """The project that the command is about: the one it names, else the conversation's. Raises UserError."""
        projects = self.services.projects
        if (name := self.get("project")) is not None:
            return projects.get(name)
        here = await self.services.store.read(lambda c: conversations.by_id(c, self.message.conversation_id))
        project = projects.by_id(here.project_id) if here.project_id is not None else None
        if project is None:
            raise UserError(no_active_project(projects))
        return project

    async def send_file(self, file: OutgoingFile, caption: str) -> None:
        """Send a file to the command's conversation."""
        outbox, to = self.services.outbox, self.message.destination
        await self.services.store.write(lambda c: outbox.add_file(c, to, file, caption))
        outbox.wake(to.conversation)

    def notice(self) -> Notice:
        """A message in the command's conversation that shows how its work is going."""
        return Notice(self.services.store, self.services.outbox, self.message.destination)


class Command(Protocol):
    """One command. Its docstring is its long help.

    One that has `for_agent = True` is carried out by the agent: `run` says in which words. One that has `by_tap = True`
    may be the word on a button. One that has `agents_only = True` is a prompt when a
    person types it. One that has `beyond = True` is about all projects where it names none. For agents'
    calls one may have `acting_role`, the role of a person who may have it change something, and
    `async def effect(ctx) -> str`, what it would change, for the card; it may set `ctx.difference`, and `ctx.foreseen`,
    with which `run` then does what was shown, and nothing else. One that has `always_asks = True` has a card for each
    call, whatever was granted; `async def declined(ctx, why)` hears of a no to it.
    """

    usage: str
    summary: str
    role: Role
    #: What agents may do with it, see `gateway.hive.powers`.
    level: Level
    #: After a crash in the middle: True - run it again; False - say that it was cut off.
    repeatable: bool

    async def run(self, ctx: CommandContext) -> str:
        """Do it; the reply, in Markdown. Raises UserError for what the person can put right."""


def no_active_project(projects: Projects) -> str:
    """What to type when a conversation has no project."""
    names = [project.name for project in projects.all()]
    if not names:
        return "No projects yet. Type `new project <name>`, for example `new project demo`."
    return f"No project is active here. Projects: {', '.join(names)}. Type `switch {names[0]}` or `new project <name>`."
