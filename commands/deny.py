"""deny: refuse an agent the permission it asks for."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Deny:
    """Refuses an agent the tool it asks for; it continues without. While the question is open, you can add what the
    agent should know or do instead: `deny, use pnpm`. `open` has the numbers of what is asked in other rooms: `no #12,
    use pnpm`."""

    usage = "deny [question]"
    summary = "refuse an agent the tool it asks for"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        return await ctx.services.answers.deny(ctx.message, ctx.role, ctx.get("question"), "")
