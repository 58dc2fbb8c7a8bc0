"""agent: what answers in a project."""

from __future__ import annotations

from gateway.chat.text import code
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.projects import Project

_KINDS = ("claude", "scripted", "default")
#: Characters of an agent, as the wire to a sled has it (`sled.protocol.Id`).
_LONGEST = 80


class Agent:
    """Shows or, for operators, sets what answers in the active project: `claude`, `scripted`, `acp:<command>` for any
    agent that speaks the Agent Client Protocol and is installed in the project (`agent acp:gemini --acp`), or `default`
    for what the configuration says. A program of your own has to be confirmed. Each agent has its own dialogues."""

    usage = "agent [agent...]"
    summary = "show or set which agent answers"
    role = Role.MEMBER
    level: Level = "never"
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
            return await _choose(ctx, project, kind.lower())
        if not kind.startswith("acp:") or not kind.removeprefix("acp:").strip():
            raise UserError("Type `agent claude`, `agent scripted`, `agent acp:<command>` or `agent default`.")
        if len(kind) > _LONGEST:
            raise UserError(f"That command is longer than {_LONGEST} characters. Put it into a script and name that.")

        async def act(answer: CommandContext) -> str:
            return await _choose(answer, project, kind)

        program = kind.removeprefix("acp:").strip()
        type_this = ctx.services.confirmations.ask(ctx, act)
        return (
            f"Run {code(program)} in {project.name} for each message, from the next one on? It is started exactly "
            f"as shown, without a shell, as the project's user. Reply `{type_this}` within 60 s."
        )


async def _choose(ctx: CommandContext, project: Project, kind: str) -> str:
    projects = ctx.services.projects
    chosen = "" if kind == "default" else kind
    if chosen != project.agent:
        project = await projects.set_agent(project, chosen, ctx.by(f"agent {kind}"))
    return f"{project.name}: {projects.agent(project)} from the next run on, in a new dialogue."
