"""retry: run an interrupted or failed turn again, or what a schedule sends."""

from __future__ import annotations

from commands.cancel import own_schedule
from gateway.chat.text import quote
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.turns import SessionKey


class Retry:
    """Runs this conversation's last turn again, if it was interrupted or failed. Nothing is ever repeated unless you
    ask: it may already have had effects. With the number of a schedule, its message is sent now, and one that rests
    goes on from then."""

    usage = "retry [project] [number]"
    summary = "run an interrupted or failed turn again, or a schedule's message"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        if ctx.get("number") is not None:
            one = await own_schedule(ctx)
            ctx.effect = f"schedule {one.id} sent again"
            return await ctx.services.schedules.wake(one)
        if ctx.agent:
            raise UserError("Your turns are retried by people. Type `retry <number>` for a schedule.")
        project = await ctx.active_project()
        turn = await ctx.services.dispatcher.retry(SessionKey(project.id, ctx.message.conversation_id))
        return f"Running again: {quote(turn.batch[0].text)}"
