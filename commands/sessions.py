"""sessions: the dialogues of a conversation."""

from __future__ import annotations

from gateway import clock
from gateway.chat.text import quote, seconds
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import dialogues
from gateway.store.turns import SessionKey

_SHOWN = 10


class Sessions:
    """Lists this conversation's dialogues with the agent of the active project, newest first; `sessions 2` continues
    the second one. A run under way is stopped first."""

    usage = "sessions [number]"
    summary = "list older dialogues, or continue one"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        key = SessionKey(project.id, ctx.message.conversation_id)
        found = await ctx.services.store.read(lambda c: dialogues.of_session(c, key, _SHOWN))
        if not found:
            return f"No dialogue with {project.name}'s agent here yet. Just write to it."
        number = ctx.get("number")
        if number is None:
            lines = [
                f"{at}. {quote(one.title)}{' **(now)**' if one.current else ''}, "
                f"{seconds(clock.since(one.last_at))} ago"
                for at, one in enumerate(found, 1)
            ]
            return "\n".join([*lines, "`sessions <number>` continues one of them, `reset` begins a new one."])
        if not 1 <= int(number) <= len(found):
            raise UserError(f"Choose a number from 1 to {len(found)}; `sessions` lists them.")
        one = found[int(number) - 1]
        agent = ctx.services.projects.agent(project)
        if one.agent != agent:
            raise UserError(f"That dialogue was with another agent ({one.agent}; now it is {agent}).")
        if one.current:
            return "You're already in that one."
        stopped = await ctx.services.dispatcher.stop("Stopped by `sessions`.", conversations=[key.conversation_id])
        await ctx.services.dispatcher.reset(key, one.agent_session)
        return f"The next message continues {quote(one.title)}.{ctx.tells(stopped)}"
