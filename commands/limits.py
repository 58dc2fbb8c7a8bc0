"""limits: what a project's container may use."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.projects import limits
from gateway.projects.limits import Own
from gateway.store.projects import Project

_NAMES = ("memory", "cpus", "pids")


class Limits:
    """Shows or, for operators, sets what a project's container may use: `limits demo memory=8g cpus=4 pids=2048`;
    `memory=default` is what the configuration says. The project gets a fresh container, so what runs there is stopped.
    It is a release: `rollback` takes it back."""

    usage = "limits [project] [memory=8g] [cpus=4] [pids=2048]"
    summary = "show or set memory, processors and processes of a project"
    role = Role.MEMBER
    level: Level = "ask"
    acting_role = Role.OPERATOR
    repeatable = True
    #: What agents may propose.
    proposable = True

    async def effect(self, ctx: CommandContext) -> str:
        """What it would change."""
        project = await ctx.active_project()
        wanted = _wanted(ctx, project)
        return (
            f"{project.name} restarts with {_told(ctx, wanted)}; now it has {_told(ctx, limits.read(project.limits))}"
        )

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        projects, before = ctx.services.projects, limits.read(project.limits)
        if not any(ctx.get(name) for name in _NAMES):
            return f"{project.name}: {_told(ctx, before)}. `limits {project.name} memory=8g` changes that."
        if ctx.role < Role.OPERATOR:
            raise UserError("Only an operator can set limits.")
        if not projects.engine.isolated:
            raise UserError("Limits are a container's; the process engine has none.")
        wanted = _wanted(ctx, project)
        if wanted == before:
            return f"{project.name} has these already: {_told(ctx, before)}."
        ctx.release()
        by = ctx.by(f"limits {wanted or limits.DEFAULT}")
        project, stopped, number = await projects.set_limits(project, ctx.message.conversation_id, str(wanted), by)
        return f"{project.name} runs with {_told(ctx, wanted)} (release {number}).{ctx.tells(stopped)}"


def _wanted(ctx: CommandContext, project: Project) -> Own:
    """What the command asks for. Raises UserError."""
    asked = {name: value for name in _NAMES if (value := ctx.get(name)) is not None}
    return limits.changed(limits.read(project.limits), asked)


def _told(ctx: CommandContext, own: Own) -> str:
    engine = ctx.services.settings.engine
    of_all = Own(own.memory or engine.memory, own.cpus or engine.cpus, own.pids or engine.pids)
    return f"`{of_all}`"
