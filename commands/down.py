"""down: stop a project."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Down:
    """Ends the project's sled and everything in it; a run under way is stopped first. Files and sessions stay."""

    usage = "down [project]"
    summary = "stop a project; files stay"
    role = Role.OPERATOR
    level: Level = "ask"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        ctx.release()
        stopped = await ctx.services.projects.down(project, ctx.message.conversation_id)
        return f"{project.name} is down. `up {project.name}` starts it again.{ctx.tells(stopped)}"
