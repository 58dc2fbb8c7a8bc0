"""rebuild: make the project's sled anew."""

from __future__ import annotations

from gateway.access import Role
from gateway.command import CommandContext
from gateway.errors import UserError


class Rebuild:
    """Makes what the project runs in anew. Source, home and sessions stay. On the process engine there is no image to
    build: the sled is started anew, from the installed version."""

    usage = "rebuild [project] [--stack <stack>]"
    summary = "make what a project runs in anew"
    role = Role.OPERATOR
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        if ctx.get("stack") is not None:
            raise UserError("--stack changes a container's image; the process engine uses what this host has.")
        ctx.release()
        stopped = await ctx.services.projects.restart(project, ctx.message.conversation_id)
        return f"{project.name} runs a fresh sled; the process engine has no image to build.{stopped.told}"
