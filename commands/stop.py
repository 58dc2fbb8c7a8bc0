"""stop: end what runs, drop what waits."""

from __future__ import annotations

from gateway.config import Role
from gateway.intake import CommandContext
from gateway.store import conversations


class Stop:
    """Ends the run under way, with every process that it started, and empties the window and the queue; names what
    was discarded. In a thread that is the thread's session, else every session of the conversation."""

    usage = "stop"
    summary = "end the run and drop what waits"
    role = Role.MEMBER
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        message = ctx.message
        if message.conversation.thread:
            here = [message.conversation_id]
        else:
            here = await ctx.services.store.read(lambda c: conversations.in_room(c, message.conversation))
        stopped = await ctx.services.dispatcher.stop("Stopped.", conversations=here)
        return stopped.told.strip() or "Nothing was running or waiting here."
