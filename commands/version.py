"""version: which huskies answers."""

from __future__ import annotations

from gateway import __version__
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Version:
    """Shows the gateway's version, its engine and the agent that answers."""

    usage = "version"
    summary = "this gateway's version, engine and agent"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        engine = ctx.services.projects.engine
        isolation = "" if engine.isolated else " (no isolation)"
        return f"huskies {__version__}, engine {engine.kind}{isolation}. {ctx.services.agent_line()}"
