"""up: start a project."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Up:
    """Starts the project's sled; messages that were waiting are run."""

    usage = "up [project]"
    summary = "start a project"
    role = Role.OPERATOR
    level: Level = "ask"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        ctx.release()
        await ctx.services.projects.up(project)
        return f"{project.name} is up."
