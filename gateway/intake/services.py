"""What commands may use, in one bundle; made by `gateway.app.app`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.asking import Answers, Questions
from gateway.chat import OutgoingFile, Transport
from gateway.config import Access, Settings
from gateway.delivery import Files, Notice, Outbox
from gateway.errors import UserError
from gateway.intake.confirmations import Confirmations
from gateway.intake.grammar import Command, CommandContext
from gateway.projects import Projects
from gateway.store import Store, conversations
from gateway.store.projects import Project
from gateway.turns import Dispatcher, Gate


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
    gate: Gate
    files: Files
    projects: Projects
    confirmations: Confirmations
    transports: Mapping[str, Transport]
    commands: tuple[Command, ...]
    #: One line about the agent that answers, for people.
    agent_line: Callable[[], str]

    async def active_project(self, ctx: CommandContext) -> Project:
        """The project that a command is about: the one it names, else the conversation's. Raises UserError."""
        if (name := ctx.get("project")) is not None:
            return self.projects.get(name)
        here = await self.store.read(lambda c: conversations.by_id(c, ctx.message.conversation_id))
        project = self.projects.by_id(here.project_id) if here.project_id is not None else None
        if project is None:
            raise UserError(no_active_project(self.projects))
        return project

    async def send_file(self, ctx: CommandContext, file: OutgoingFile, caption: str) -> None:
        """Have a file arrive in the command's conversation."""
        here = ctx.message
        await self.store.write(
            lambda c: self.outbox.add_file(c, here.conversation, here.conversation_id, file, caption)
        )
        self.outbox.wake(here.conversation)

    def notice(self, ctx: CommandContext) -> Notice:
        """A message in the command's conversation that tells how its work goes."""
        return Notice(self.store, self.outbox, ctx.message.conversation, ctx.message.conversation_id)


def no_active_project(projects: Projects) -> str:
    """What to type when a conversation has no project."""
    names = [project.name for project in projects.all()]
    if not names:
        return "There is no project yet. Type `new project <name>`, for example `new project demo`."
    return (
        f"No project is active here. There are: {', '.join(names)}. Type `switch {names[0]}`, or `new project <name>`."
    )
