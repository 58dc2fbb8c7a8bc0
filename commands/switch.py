"""switch: the conversation's active project."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import conversations


class Switch:
    """Makes a project the active one of this conversation. Waiting messages stay with the project that they were
    written to."""

    usage = "switch <project>"
    summary = "choose this conversation's active project"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = ctx.services.projects.get(ctx.arguments["project"])
        await ctx.services.store.write(lambda c: conversations.switch(c, ctx.message.conversation_id, project.id))
        return f"{project.name} is active here now ({ctx.services.projects.state(project)})."
