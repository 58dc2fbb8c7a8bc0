"""ask: a question of one agent to another."""

from __future__ import annotations

import re

from commands.tell import sender_of, topic_of
from gateway.chat.text import quote
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext

_WITHIN = re.compile(r"(?P<note>.*?)\s+--within[ =](?P<count>\d{1,3})\s?(?P<unit>s|m|h)", re.DOTALL)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
#: Seconds that an answer is waited for, if nothing else is said, and at most.
_USUAL_S, _MOST_S = 300.0, 3600.0


class Ask:
    """For agents: asks another project's agent, and waits for its answer, which is the result of the call; for 5
    minutes, or `--within 20m`. A later answer comes as a note. It needs a grant: `grant shop ask to api`."""

    usage = "ask <project> <note...>"
    summary = "ask another project's agent and wait for its answer (at the end: --within 10m)"
    role = Role.MEMBER
    level: Level = "free"
    agents_only = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        sender = await sender_of(ctx)
        to = ctx.services.projects.get(ctx.arguments["project"])
        note, within_s = ctx.arguments["note"].strip(), _USUAL_S
        if (found := _WITHIN.fullmatch(note)) is not None:
            note, within_s = found["note"], int(found["count"]) * _UNITS[found["unit"]]
        if not 0 < within_s <= _MOST_S:
            raise UserError("An answer is waited for between a second and an hour: `--within 10m`.")
        topic, text = topic_of(note)
        ctx.effect = f"asked {to.name}'s: {quote(text, 200)}"
        return await ctx.services.notes.ask(sender, to.id, topic, text, within_s)
