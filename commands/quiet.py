"""quiet: an agent has nothing to say."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.calls import CallId
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import turns


class Quiet:
    """For agents, in a turn of a schedule that was made with `--quiet`: the answer of this turn is not sent."""

    usage = "quiet"
    summary = "do not send the answer of this turn (of a schedule made with --quiet)"
    role = Role.MEMBER
    level: Level = "free"
    agents_only = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        call = CallId.of(ctx.message.external_id)
        turn = ctx.services.calls.turn_of(call)
        if turn is None or not all(message.quiet for message in turn.batch):
            raise UserError(
                "Somebody waits for the answer of this turn. Only a schedule made with --quiet can be quiet."
            )
        await ctx.services.store.write(lambda c: turns.hush(c, call.run))
        return "Your answer will not be sent."
