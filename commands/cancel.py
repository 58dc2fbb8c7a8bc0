"""cancel: end a schedule."""

from __future__ import annotations

from gateway.chat.text import quote
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.schedules import Schedule


class Cancel:
    """Ends the schedule with that number; `schedules` shows them. What it sent already goes on: `stop` ends that."""

    usage = "cancel <number>"
    summary = "end a schedule"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        one = await own_schedule(ctx)
        await ctx.services.schedules.cancel(one)
        ctx.effect = f"schedule {one.id} cancelled: {quote(one.text)}"
        return f"Schedule {one.id} is cancelled: {quote(one.text)}."


async def own_schedule(ctx: CommandContext) -> Schedule:
    """The schedule that is named, if whoever asks may change it. Raises UserError."""
    one = await ctx.services.schedules.find(int(ctx.arguments["number"]))
    if ctx.agent and one.project_id != ctx.services.projects.get(ctx.agent).id:
        raise UserError(f"Schedule {one.id} is another project's.")
    return one
