"""tools: what an operator chose for a project's agent."""

from __future__ import annotations

import asyncio
import shlex

from gateway.chat.text import code, escaped
from gateway.config import Role
from gateway.config.mcp import McpSection
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.projects import skills

_NO_SERVER = (
    "No server was chosen for it. To add one, an operator writes this into the configuration, and "
    'starts huskies again: `[agent.mcp.tracker]`, and below it `url = "https://mcp.example.org/mcp"`.'
)


class Tools:
    """The servers of tools (MCP) and the skills that an operator chose for a project's agent, and where each runs. What
    the repository brings itself is not among them."""

    usage = "tools [project]"
    summary = "the servers and skills that an operator chose for its agent"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        settings, projects = ctx.services.settings, ctx.services.projects
        project = await ctx.active_project()
        servers = {name: each for name, each in settings.agent.mcp.items() if each.serves(project.name)}
        lines = [f"**Tools of {project.name}**"]
        inside = "in the container" if projects.engine.isolated else "on this host"
        lines += [f"- {code(name)}: {_where(server, inside)}" for name, server in sorted(servers.items())]
        if not servers:
            lines.append(_NO_SERVER)
        state_dir = settings.gateway.state_dir
        written = await asyncio.to_thread(skills.found, state_dir)
        lines += [
            f"- skill {code(skill.name)}{f': {escaped(skill.description)}' if skill.description else ''}, read {inside}"
            for skill in written
        ]
        if not written:
            lines.append(
                f"No skills: an operator writes each as {code(f'{skills.folder(state_dir)}/<name>/SKILL.md')}."
            )
        return "\n".join(lines)


def _where(server: McpSection, inside: str) -> str:
    if server.command:
        return f"{inside}, {code(shlex.join(server.command))}"
    return f"by the gateway, {code(server.host)}"
