"""questions: what agents ask, and what nobody answered."""

from __future__ import annotations

from gateway import clock
from gateway.asking import cards
from gateway.chat.text import seconds
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import questions

_PAST = 5


class Questions:
    """Lists what agents are asking in this conversation, with the time left, and the last questions that nobody
    answered in time. The agent has continued without an answer; you can still give it yours in a message."""

    usage = "questions"
    summary = "what agents ask here, and what nobody answered"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        here = ctx.message.conversation_id
        lines = [
            f"{asked.number}. {cards.summary(asked.body)} ({seconds(ctx.services.questions.left_s(asked))} left)"
            for asked in ctx.services.questions.open_in(here)
        ]
        past = await ctx.services.store.read(lambda c: questions.unanswered(c, here, _PAST))
        if past:
            lines += ["Not answered:"] if not lines else ["", "Not answered:"]
            lines += [f"- {cards.summary(asked.body)}, {seconds(clock.since(asked.asked_at))} ago" for asked in past]
        return "\n".join(lines) or "No questions are open here."
