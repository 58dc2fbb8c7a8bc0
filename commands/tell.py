"""tell: a note from one agent to another."""

from __future__ import annotations

import re

from gateway.chat.text import quote
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive import Sender
from gateway.hive.calls import CallId
from gateway.hive.powers import Level
from gateway.intake import CommandContext

_TOPIC = re.compile(r"#(?P<topic>[\w.-]{1,40})\s+(?P<text>.*)", re.DOTALL)


class Tell:
    """For agents: sends a note to another project's agent, which works on it in a session of its own; nobody waits.
    `tell api #deploy the schema has changed` keeps notes about a topic together. It needs a grant: `grant shop tell to
    api`."""

    usage = "tell <project> <note...>"
    summary = "send another project's agent a note (#topic first keeps notes together)"
    role = Role.MEMBER
    level: Level = "free"
    agents_only = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        sender = await sender_of(ctx)
        to = ctx.services.projects.get(ctx.arguments["project"])
        topic, text = topic_of(ctx.arguments["note"])
        await ctx.services.notes.tell(sender, to.id, topic, text)
        ctx.effect = f"told {to.name}'s: {quote(text, 200)}"
        return f"{to.name}'s agent has your note."


def topic_of(note: str) -> tuple[str, str]:
    """The topic of a note, and its text."""
    found = _TOPIC.fullmatch(note.strip())
    return ("", note.strip()) if found is None else (found["topic"].lower(), found["text"].strip())


async def sender_of(ctx: CommandContext) -> Sender:
    """Whose note it is. Raises UserError."""
    call = CallId.of(ctx.message.external_id)
    turn = ctx.services.calls.turn_of(call)
    if turn is None or ctx.room is None:
        raise UserError("A note is at somebody's word: send it in a run.")
    return Sender(ctx.message.external_id, call.project_id, turn, ctx.message.word, ctx.room.id)
