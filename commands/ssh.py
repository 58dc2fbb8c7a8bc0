"""ssh: how an editor gets in."""

from __future__ import annotations

from gateway.access import Role
from gateway.command import CommandContext


class Ssh:
    """Shows the line that opens the project in an editor or a terminal."""

    usage = "ssh [project]"
    summary = "how to open the project in an editor"
    role = Role.MEMBER
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        return f"{project.name} has no SSH: the process engine runs on this host. Open `{project.path}` in your editor."
