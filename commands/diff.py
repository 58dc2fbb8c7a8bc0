"""diff: what the last turn changed."""

from __future__ import annotations

import asyncio

from gateway.chat.text import fenced
from gateway.config import Role
from gateway.errors import SledError, UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.projects import file_changes

#: Lines of a change that are shown in chat; a longer one is a file.
_INLINE = 60
_INLINE_CHARACTERS = 3000


class Diff:
    """Shows what the agent's last turn changed in the project's files: short changes here, longer ones as a file. It
    does not depend on git commits. What `.gitignore` names is left out."""

    usage = "diff [project]"
    summary = "what the last turn changed"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        try:
            change = await file_changes.last(ctx.services.projects, project)
        except SledError as error:
            raise UserError(f"Can't show what the last turn of {project.name} changed: {error}") from error
        if not change.patch:
            return change.summary or f"The last turn of {project.name} changed nothing."
        if change.patch.count("\n") <= _INLINE and len(change.patch) <= _INLINE_CHARACTERS:
            return f"{change.summary}\n{fenced(change.patch, 'diff')}"
        patch = change.patch.encode(errors="replace")
        file = await asyncio.to_thread(ctx.services.files.keep, f"{project.name}.diff", patch)
        await ctx.send_file(file, "")
        cut = " The change is too large to show in full." if change.truncated else ""
        return f"{change.summary}{cut}"
