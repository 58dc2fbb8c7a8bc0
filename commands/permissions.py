"""permissions: what a project's agents may do unasked."""

from __future__ import annotations

from gateway.access import Role
from gateway.command import CommandContext
from gateway.errors import UserError

_MEANING = {
    "auto": "in a container every tool is allowed; without one, tools that write or run are denied",
    "ask": "tools that write or run are denied until questions can be asked",
    "allow": "every tool is allowed",
}


class Permissions:
    """Shows or, for operators, sets what the agents of the active project may do. `auto`: in a container every tool;
    without one as `ask`. `ask`: what only reads. `allow`: everything."""

    usage = "permissions [auto|ask|allow]"
    summary = "show or set what the agents may do"
    role = Role.MEMBER
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        mode = ctx.get("auto|ask|allow")
        if mode is None:
            return f"{project.name}: {project.permissions} - {_MEANING[project.permissions]}."
        if ctx.role < Role.OPERATOR:
            raise UserError("Only an operator may set permissions.")
        await ctx.services.projects.set_permissions(project, mode)
        return f"{project.name}: {mode} from the next run on - {_MEANING[mode]}."
