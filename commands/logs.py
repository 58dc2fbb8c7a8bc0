"""logs: what a project's sled, its agents and the build of its image logged."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import EngineError, UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext

_DEFAULT, _MOST = 30, 500


class Logs:
    """Shows the last lines logged by the project's sled (its SSH server too), by its agents, or by the build of its
    image."""

    usage = "logs [project] [sled|agent|build] [number]"
    summary = "the last lines of a project's log"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        lines = int(ctx.get("number") or _DEFAULT)
        of = ctx.get("sled|agent|build") or "sled"
        if not 1 <= lines <= _MOST:
            raise UserError(f"Between 1 and {_MOST} lines, please: `logs {project.name} {of} 100`.")
        try:
            text = await ctx.services.projects.logs(project, of, lines)
        except EngineError as error:
            raise UserError(str(error)) from error
        if not text:
            return f"The {of} log of {project.name} is empty."
        return f"```\n{text.replace('```', '` ` `')}\n```"
