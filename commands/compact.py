"""compact: shorten a long dialogue."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.messages import COMPACT


class Compact:
    """The agent replaces this conversation's dialogue with a summary, so that what follows is faster and cheaper. Files
    stay as they are."""

    usage = "compact"
    summary = "shorten the dialogue to a summary"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False
    for_agent = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        agent = ctx.services.projects.agent(project)
        if agent != "claude":
            raise UserError(f"{project.name}'s agent ({agent}) can't do that. Type `reset` to begin a new dialogue.")
        return COMPACT
