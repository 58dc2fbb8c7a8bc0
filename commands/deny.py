"""deny: refuse an agent the permission it asks for."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Deny:
    """Refuses an agent the tool it asks for; it continues without. While the question is open, you can add what the
    agent should know or do instead: `deny, use pnpm`."""

    usage = "deny [number]"
    summary = "refuse an agent the tool it asks for"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        number = int(ctx.arguments["number"]) if "number" in ctx.arguments else None
        return await ctx.services.answers.deny(ctx.message, ctx.role, number, "")
