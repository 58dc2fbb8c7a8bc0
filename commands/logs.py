"""logs: what a project's sled and agents said, and what the build of its image did."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import EngineError, UserError
from gateway.intake import CommandContext

_DEFAULT, _MOST = 30, 500


class Logs:
    """Shows the last lines that the project's sled logged (its SSH server too), its agents, or the build of its
    image."""

    usage = "logs [project] [sled|agent|build] [number]"
    summary = "the last lines of a project's log"
    role = Role.MEMBER
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        lines = int(ctx.get("number") or _DEFAULT)
        of = ctx.get("sled|agent|build") or "sled"
        if not 1 <= lines <= _MOST:
            raise UserError(f"Between 1 and {_MOST} lines, please: `logs {project.name} {of} 100`.")
        try:
            text = await ctx.services.projects.logs(project, of, lines)
        except EngineError as error:
            raise UserError(str(error)) from error
        if not text:
            return f"{project.name} has logged nothing{'' if of == 'sled' else f' of its {of}'}."
        return f"```\n{text.replace('```', '` ` `')}\n```"
