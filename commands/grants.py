"""grants: what agents may do beyond what each may."""

from __future__ import annotations

import time

from commands.grant import told_over
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Grants:
    """What operators granted to agents, with the numbers that `revoke grant` takes; of one project, if you name it."""

    usage = "grants [project]"
    summary = "what agents were granted"
    role = Role.MEMBER
    level: Level = "free"
    beyond = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        projects, wanted = ctx.services.projects, ctx.get("project")
        lines = []
        for grant in ctx.services.powers.granted():
            project = projects.by_id(grant.project_id)
            if project is None or wanted not in (None, project.name):
                continue
            day = time.strftime("%Y-%m-%d", time.localtime(grant.granted_at))
            over = told_over(projects, project.id, grant.over_id)
            lines.append(f"{grant.id}. {project.name}: `{grant.power}` {over} (by {grant.granted_by}, {day})")
        if not lines:
            return "Nothing is granted. `grant <project> <command>` lets an agent do more than docs/commands.md says."
        return "\n".join(["**Grants**", *lines, "", "`revoke grant <number>` takes one back."])
