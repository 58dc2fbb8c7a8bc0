"""reset: begin a new dialogue."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.turns import SessionKey


class Reset:
    """The agent forgets this conversation; files stay. A run under way is stopped first."""

    usage = "reset"
    summary = "begin a new dialogue; files stay"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        here = ctx.message.conversation_id
        stopped = await ctx.services.dispatcher.stop("Stopped by `reset`.", conversations=[here])
        await ctx.services.dispatcher.reset(SessionKey(project.id, here))
        return f"The next message begins a new dialogue with {project.name}'s agent.{ctx.tells(stopped)}"
