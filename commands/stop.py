"""stop: end what is running, drop what is waiting."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import conversations


class Stop:
    """Ends the run under way, with every process that it started, empties the window and the queue, and names what was
    discarded. In a thread that means the thread's session; elsewhere, every session of the conversation."""

    usage = "stop"
    summary = "end the run and drop what is waiting"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        message = ctx.message
        if message.conversation.thread:
            here = [message.conversation_id]
        else:
            here = await ctx.services.store.read(lambda c: conversations.in_room(c, message.conversation))
        stopped = await ctx.services.dispatcher.stop("Stopped.", conversations=here)
        return ctx.tells(stopped).strip() or "Nothing was running or waiting here."
