"""grant: let a project's agent do more."""

from __future__ import annotations

import re

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import LEAD, Level
from gateway.intake import CommandContext
from gateway.projects import Projects

_POWER = re.compile(r"(?P<power>.+?)(?:\s+to\s+(?P<over>\S+))?", re.IGNORECASE | re.DOTALL)


class Grant:
    """Lets the agent of a project use a command without asking: about its own project, or with `to`, about another one
    or about `all`. `grant chief lead` lets it use everything that is not for people over all projects; what it would
    ask for, it still asks for. `grant shop background` lets it call outside of a run. Each command's level is in
    docs/commands.md. `grants` shows what was granted, and `revoke grant` takes it back."""

    usage = "grant <project> <command-or-set...>"
    summary = "let a project's agent do more"
    role = Role.OPERATOR
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        projects, powers = ctx.services.projects, ctx.services.powers
        project = projects.get(ctx.arguments["project"])
        said = _POWER.fullmatch(ctx.arguments["command-or-set"].strip())
        assert said is not None
        power, over = " ".join(said["power"].lower().split()), (said["over"] or "").lower()
        over_id = _over(projects, project.id, power, over)
        if not await powers.grant(project.id, power, over_id, ctx.message.sender):
            return "That is granted already. `grants` shows everything."
        return f"{project.name}'s agent may now use `{power}` {told_over(projects, project.id, over_id)}."


def _over(projects: Projects, own: int, power: str, over: str) -> int | None:
    """The id of the project that a grant is about; None for all."""
    if over == "all" or (not over and power == LEAD):
        return None
    if not over:
        return own
    if over not in projects.names():
        raise UserError(f"There is no project {over}. Grant it `to` a project, or to `all`.")
    return projects.get(over).id


def told_over(projects: Projects, own: int, over_id: int | None) -> str:
    """Which project a grant is about, for people."""
    if over_id is None:
        return "for all projects"
    found = projects.by_id(over_id)
    return "for its own project" if over_id == own else f"for {found.name if found else 'a deleted project'}"
