"""allow: give an agent the permission it asks for."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Allow:
    """Answers an agent that asks to use a tool: `allow` just this once, `allow session` for the same thing in this
    session from now on (`permissions` lists these, `revoke` takes them back). With several questions open, add the
    number: `allow 2`. `open` has the numbers of what is asked in other rooms: `allow #12`. Only the person who wrote to
    the agent, or an operator, can answer."""

    usage = "allow [session|always] [question]"
    summary = "let an agent use the tool it asks for"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        session = ctx.get("session|always") is not None
        return await ctx.services.answers.allow(ctx.message, ctx.role, ctx.get("question"), session=session)
