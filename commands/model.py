"""model: which model answers in a project."""

from __future__ import annotations

import re

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext

_USUAL = "the agent's default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,99}")


class Model:
    """Shows or, for operators, sets the model of the active project: a name that its agent knows, like `opus`, or
    `default` for what the configuration says. Its agents switch to it with their next run; the dialogue continues."""

    usage = "model [name]"
    summary = "show or set the model"
    role = Role.MEMBER
    level: Level = "ask"
    acting_role = Role.OPERATOR
    repeatable = True
    proposable = True

    async def effect(self, ctx: CommandContext) -> str:
        """What it would change."""
        project = await ctx.active_project()
        now = ctx.services.projects.model(project) or _USUAL
        return f"the model of {project.name}, now {now}, becomes {ctx.get('name') or now}"

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        name = ctx.get("name")
        projects = ctx.services.projects
        if name is None:
            return f"{project.name}: {projects.model(project) or _USUAL}. Type `model <name>` to choose another."
        if ctx.role < Role.OPERATOR:
            raise UserError("Only an operator can choose the model.")
        if not _NAME.fullmatch(name):
            raise UserError("That is not a valid model name. Type, for example, `model opus` or `model default`.")
        chosen = "" if name.lower() == "default" else name
        if chosen != project.model:
            project = await projects.set_model(project, chosen, ctx.by(f"model {name}"))
        return f"{project.name}: {projects.model(project) or _USUAL} from the next run on."
