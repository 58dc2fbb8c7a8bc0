"""logs: what a project's sled and agents said."""

from __future__ import annotations

from gateway.access import Role
from gateway.command import CommandContext
from gateway.errors import UserError

_DEFAULT, _MOST = 30, 500


class Logs:
    """Shows the last lines that the project's sled and agents logged."""

    usage = "logs [project] [number]"
    summary = "the last lines of a project's log"
    role = Role.MEMBER
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        lines = int(ctx.get("number") or _DEFAULT)
        if not 1 <= lines <= _MOST:
            raise UserError(f"Between 1 and {_MOST} lines, please: `logs {project.name} 100`.")
        text = await ctx.services.projects.logs(project, lines)
        return f"```\n{text.replace('```', '` ` `')}\n```" if text else f"{project.name} has logged nothing."
