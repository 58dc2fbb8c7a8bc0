"""whoami: how the gateway knows you."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import conversations


class WhoAmI:
    """Shows the name by which the access lists know you, what you may do, and where you are."""

    usage = "whoami"
    summary = "how the gateway knows you, and what you may do"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        message = ctx.message
        if ctx.agent:
            return f"You are {ctx.agent}'s agent, at the word of {message.word or 'nobody'} ({ctx.role.name.lower()})."
        here = await ctx.services.store.read(lambda c: conversations.by_id(c, message.conversation_id))
        project = ctx.services.projects.by_id(here.project_id) if here.project_id is not None else None
        where = f"active project {project.name}" if project else "no active project"
        return f"{message.sender}, {ctx.role.name.lower()}. Conversation {message.conversation}: {where}."
