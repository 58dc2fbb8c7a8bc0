"""undo: take back what the last turn changed."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import SledError, UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.projects import file_changes


class Undo:
    """Puts the project's files back to how they were before the agent's last turn; typed again, before the turn before
    that. A file that has changed since is left alone and named, and so is what can't be undone: ignored files, commits,
    and whatever commands did elsewhere."""

    usage = "undo [project]"
    summary = "take back what the last turn changed"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        if ctx.services.dispatcher.running_in(project.id):
            raise UserError("A run is under way. Type `stop` first, or wait until it ends.")
        try:
            return await file_changes.undo(ctx.services.projects, project)
        except SledError as error:
            raise UserError(f"Can't undo the last turn of {project.name}: {error}") from error
