"""agent: what answers in a project."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.intake import CommandContext

_KINDS = ("claude", "scripted", "default")


class Agent:
    """Shows or, for operators, sets what answers in the active project: `claude`, `scripted`, `acp:<command>` for any
    agent that speaks the Agent Client Protocol and is installed in the project (`agent acp:gemini --acp`), or `default`
    for what the configuration says. Each agent has its own dialogues."""

    usage = "agent [agent...]"
    summary = "show or set which agent answers"
    role = Role.MEMBER
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        projects = ctx.services.projects
        project = await ctx.active_project()
        kind = ctx.get("agent")
        if kind is None:
            return f"{project.name}: {projects.agent(project)}. Type `agent <kind>` to choose another."
        if ctx.role < Role.OPERATOR:
            raise UserError("Only an operator can choose the agent.")
        kind = " ".join(kind.split())
        if kind.lower() in _KINDS:
            kind = kind.lower()
        elif not kind.startswith("acp:") or not kind.removeprefix("acp:").strip() or len(kind) > 80:
            raise UserError("Type `agent claude`, `agent scripted`, `agent acp:<command>` or `agent default`.")
        project = await projects.set_agent(project, "" if kind == "default" else kind)
        return f"{project.name}: {projects.agent(project)} from the next run on, in a new dialogue."
