"""deny: refuse an agent the permission that it asks for."""

from __future__ import annotations

from gateway.config import Role
from gateway.intake import CommandContext


class Deny:
    """Answers an agent that asks to use a tool; it goes on without. While one is asked, `deny` may be followed by what
    the agent should know or do instead: `deny, use pnpm`."""

    usage = "deny [number]"
    summary = "refuse an agent the tool that it asks for"
    role = Role.MEMBER
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        number = int(ctx.arguments["number"]) if "number" in ctx.arguments else None
        return await ctx.services.answers.deny(ctx.message, ctx.role, number, "")
