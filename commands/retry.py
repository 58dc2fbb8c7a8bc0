"""retry: run an interrupted or failed turn again."""

from __future__ import annotations

from gateway.chat.text import quote
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.turns import SessionKey


class Retry:
    """Runs this conversation's last turn again, if it was interrupted or failed. Nothing is ever repeated unless you
    ask: it may already have had effects."""

    usage = "retry [project]"
    summary = "run an interrupted or failed turn again"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        turn = await ctx.services.dispatcher.retry(SessionKey(project.id, ctx.message.conversation_id))
        return f"Running again: {quote(turn.batch[0].text)}"
