"""remind: a message to the agent at a time."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive import Maker
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Remind:
    """Sends the text to the active project's agent at that time, and the answer comes here: `remind 2h look at the
    build`, `remind tomorrow 9:00 …`, `remind friday at 17:00 …`, `remind 2027-01-31 10:00 …`. Times are what your
    clocks show, if the configuration says so (`tz` of a person), else this host's."""

    usage = "remind <when> <text...>"
    summary = "send the agent a message at a time"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        maker = await maker_of(ctx)
        told = await ctx.services.schedules.once(maker, ctx.arguments["when"], ctx.arguments["text"])
        ctx.effect = told.partition(". ")[0].replace("Reminder", "reminder")
        return told


async def maker_of(ctx: CommandContext) -> Maker:
    """Who makes a schedule. Raises UserError."""
    project = await ctx.active_project()
    to = ctx.message.destination
    if ctx.agent:
        if ctx.room is None:
            raise UserError("A schedule needs a room where its answers are read: make it in a run.")
        to = ctx.room
    return Maker(ctx.message.sender, ctx.message.at_the_word_of, project.id, to)
