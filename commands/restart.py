"""restart: down and up."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Restart:
    """Ends the project's sled with everything in it and starts a fresh one. Files and sessions stay."""

    usage = "restart [project]"
    summary = "stop a project and start it afresh"
    role = Role.OPERATOR
    level: Level = "ask"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        ctx.release()
        stopped = await ctx.services.projects.restart(project, ctx.message.conversation_id)
        return f"{project.name} was restarted.{ctx.tells(stopped)}"
