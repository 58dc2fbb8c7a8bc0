"""compact: make a long dialogue short."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.intake import CommandContext
from gateway.store.messages import COMPACT


class Compact:
    """Has the agent replace this conversation's dialogue by a summary, so that what follows is faster and cheaper. What
    is in the files stays, of course."""

    usage = "compact"
    summary = "shorten the dialogue to a summary"
    role = Role.MEMBER
    repeatable = False
    for_agent = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        agent = ctx.services.projects.agent(project)
        if agent != "claude":
            raise UserError(f"The agent of {project.name} ({agent}) cannot do that; `reset` begins a new dialogue.")
        return COMPACT
