"""Questions of the bot's own: a short code, good for a minute, for whoever was asked, where they were asked."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import clock
from gateway.chat import Conversation
from gateway.errors import UserError

if TYPE_CHECKING:
    from gateway.intake.command import CommandContext

#: Seconds that a code is good for.
GOOD_FOR_S = 60.0
#: No letters that could be mistaken for digits, or the other way round.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


#: What a question is about.
Act = Callable[["CommandContext"], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Question:
    sender: str
    conversation_id: int
    message_id: int  # the message whose reply the question is
    conversation: Conversation
    said: str  # the message that it is about
    word: str  # what must be typed after the code; empty for nothing
    act: Act
    asked_at: float  # by the wall's clock, and by the event loop's: one may be set, the other stands still in a sleep
    asked_at_loop: float

    @property
    def is_open(self) -> bool:
        passed = max(clock.since(self.asked_at), asyncio.get_running_loop().time() - self.asked_at_loop)
        return passed < GOOD_FOR_S


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open question of the bot's. `said`: what it is about; `needs_word`: more than the code is to be typed."""

    code: str
    said: str
    conversation: Conversation
    asked_at: float
    needs_word: bool


class Confirmations:
    """Open questions. They end with the process: an unanswered question is a no."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called when one more is open, or one less."""
        self._open: dict[str, _Question] = {}
        self._changed = changed

    def ask(self, ctx: CommandContext, act: Act, *, word: str = "") -> str:
        """What the person has to type for `act` to happen, with the context of that answer.

        If nothing has to be typed after the code, a button is offered too.
        """
        self._open = {code: question for code, question in self._open.items() if question.is_open}
        code = "".join(secrets.choice(_LETTERS) for _ in range(4))
        message, now = ctx.message, asyncio.get_running_loop().time()
        self._open[code] = _Question(
            message.sender,
            message.conversation_id,
            message.id,
            message.conversation,
            message.text,
            word,
            act,
            clock.now(),
            now,
        )
        self._changed()
        if not word:
            ctx.offers.append(f"confirm {code}")
        return f"confirm {code} {word}".rstrip()

    def of(self, sender: str) -> list[Waiting]:
        """What a person was asked, and has not answered yet, oldest first."""
        return [
            Waiting(code, one.said, one.conversation, one.asked_at, needs_word=bool(one.word))
            for code, one in self._open.items()
            if one.sender == sender and one.is_open
        ]

    async def answer(self, code: str, word: str, ctx: CommandContext) -> str:
        """Take an answer; what came of it.

        Raises:
            UserError: the code is unknown, spent, expired, somebody else's, or the word after it is wrong.
        """
        code = code.rstrip(".,!?")
        question = self._open.get(code.lower())
        answerer = (ctx.message.sender, ctx.message.conversation_id)
        ours = question is not None and (question.sender, question.conversation_id) == answerer
        if question is None or not ours or not question.is_open:
            raise UserError("No question with that code is open. Codes expire after 60 s: type the command again.")
        if word != question.word:
            raise UserError(f"To confirm, type `confirm {code} {question.word}`".rstrip("` ") + "`.")
        del self._open[code.lower()]
        self._changed()
        if ctx.message.presses:
            ctx.replaces = question.message_id
        return await question.act(ctx)
