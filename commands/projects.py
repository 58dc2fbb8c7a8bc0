"""projects: list all of them."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class ListProjects:
    """One line per project: its state, its stack, its runs."""

    usage = "projects"
    summary = "all projects and their state"
    role = Role.MEMBER
    level: Level = "free"
    beyond = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        services = ctx.services
        lines = []
        for project in services.projects.all():
            running = len(services.dispatcher.running_in(project.id))
            stack = project.stack or "stack not known yet"
            runs = f", {running} running" if running else ""
            lines.append(f"- **{project.name}**: {services.projects.state(project)}, {stack}{runs}")
        return "\n".join(lines) if lines else "No projects yet. Type `new project <name>`."
