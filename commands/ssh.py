"""ssh: how an editor gets in."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Ssh:
    """Shows the line that opens the project in an editor or a terminal, and its host name for SSH configurations."""

    usage = "ssh [project]"
    summary = "how to open the project in an editor"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        projects = ctx.services.projects
        way = projects.access(project)
        if way is None and project.ready_at is None:
            raise UserError(f"{project.name} is not ready yet. Type `status {project.name}` to see how far it is.")
        if way is None:
            return (
                f"{project.name} has no SSH: the {projects.engine.kind} engine runs on this host. "
                f"Open `{project.path}` in your editor."
            )
        return "\n".join(
            [
                f"- terminal: `{way.line}`",
                f"- editors: `Host {way.alias}`, once your SSH configuration has `{projects.include_line}`",
                f"- on the host: `huskies ssh {project.name}`",
                f"- host key: {await projects.fingerprint(project)}",
            ]
        )
