"""undo: the last turn's changes, back."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import SledError, UserError
from gateway.intake import CommandContext
from gateway.projects import file_changes


class Undo:
    """Puts the project's files back to what they were before the agent's last turn; typed again, before the one before
    that. A file that was changed since is left alone and named, and so is what cannot be undone: ignored files,
    commits, and whatever commands did elsewhere."""

    usage = "undo [project]"
    summary = "put back what the last turn changed"
    role = Role.MEMBER
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        if ctx.services.dispatcher.running_in(project.id):
            raise UserError("A run is under way; `stop` it first, or wait for it.")
        try:
            return await file_changes.undo(ctx.services.projects, project)
        except SledError as error:
            raise UserError(f"The last turn of {project.name} cannot be undone: {error}") from error
