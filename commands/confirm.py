"""confirm: answers a question of the bot's."""

from __future__ import annotations

from gateway.config import Role
from gateway.intake import CommandContext


class Confirm:
    """Answers a question that changes things, with the code that it showed. Codes are good for a minute, for whoever
    was asked, where they were asked."""

    usage = "confirm <code> [name]"
    summary = "answer a question of the bot's"
    role = Role.MEMBER
    repeatable = False
    by_tap = True

    async def run(self, ctx: CommandContext) -> str:
        code, word = ctx.arguments["code"], ctx.get("name") or ""
        return await ctx.services.confirmations.answer(code, word, ctx)
