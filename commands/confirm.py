"""confirm: answer one of the bot's own questions."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Confirm:
    """Confirms a change that the bot asked about, with the code from its question. A code is good for a minute, only
    for the person who was asked, and only in that conversation."""

    usage = "confirm <code> [name]"
    summary = "answer one of the bot's own questions"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False
    by_tap = True

    async def run(self, ctx: CommandContext) -> str:
        code, word = ctx.arguments["code"], ctx.get("name") or ""
        return await ctx.services.confirmations.answer(code, word, ctx)
