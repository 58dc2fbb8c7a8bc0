"""revoke grant: take back what an agent was granted."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class RevokeGrant:
    """Takes back the grant with that number; `grants` shows them. It counts from the agent's next call on."""

    usage = "revoke grant <number>"
    summary = "take a grant back"
    role = Role.OPERATOR
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        number = ctx.arguments["number"]
        if not await ctx.services.powers.revoke(int(number)):
            raise UserError(f"There is no grant {number}. Type `grants` to see them all.")
        return f"Grant {number} is taken back."
