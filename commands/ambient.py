"""ambient: whether a group must mention the bot."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import conversations


class Ambient:
    """`ambient on`: every message in this room counts, even without a mention. `ambient off`: only those that mention
    the bot, and replies in threads that it takes part in. In a direct chat every message counts."""

    usage = "ambient <on|off>"
    summary = "in a group: take every message, or only mentions"
    role = Role.OPERATOR
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        on = ctx.arguments["on|off"] == "on"
        await ctx.services.store.write(
            lambda c: conversations.set_ambient(c, ctx.message.conversation, direct=ctx.message.direct, on=on)
        )
        return "Every message here counts now." if on else "Only messages that mention me count now."
