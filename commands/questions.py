"""questions: what agents ask, and asked in vain."""

from __future__ import annotations

import time

from gateway.asking import cards
from gateway.chat.text import seconds
from gateway.config import Role
from gateway.intake import CommandContext
from gateway.store import questions

_PAST = 5


class Questions:
    """Lists what agents ask in this conversation now, with the time that is left, and the last questions that nobody
    answered in time. An agent goes on without an answer; tell it yours in a message."""

    usage = "questions"
    summary = "what agents ask here, and asked in vain"
    role = Role.MEMBER
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        here = ctx.message.conversation_id
        lines = [
            f"{asked.number}. {cards.summary(asked.body)} ({seconds(max(0.0, asked.deadline - time.time()))} left)"
            for asked in ctx.services.questions.open_in(here)
        ]
        past = await ctx.services.store.read(lambda c: questions.unanswered(c, here, _PAST))
        if past:
            lines += ["Not answered:"] if not lines else ["", "Not answered:"]
            lines += [f"- {cards.summary(asked.body)}, {seconds(time.time() - asked.asked_at)} ago" for asked in past]
        return "\n".join(lines) or "Nothing is asked here."
