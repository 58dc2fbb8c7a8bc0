"""every: a message to the agent at times that recur."""

from __future__ import annotations

from commands.remind import maker_of
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Every:
    """Sends the text to the active project's agent at each of these times, and the answers come here: `every weekdays
    8:30 run the tests`, `every monday and friday at 17:00 …`, `every 2h …`, or a cron line: `every 0 9 1 * * …`. With
    `--quiet` the agent may decide that there is nothing to say. Times that pass while the gateway is away become one
    message. What fails five times in a row rests; `retry` wakes it."""

    usage = "every <times> <text...> [--quiet]"
    summary = "send the agent a message at times that recur"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        maker, quiet = await maker_of(ctx), ctx.get("quiet") is not None
        words, text = ctx.arguments["times"], ctx.arguments["text"]
        told = await ctx.services.schedules.recurring(maker, words, text, quiet=quiet)
        ctx.effect = told.partition(". ")[0].replace("Schedule", "schedule")
        return told
