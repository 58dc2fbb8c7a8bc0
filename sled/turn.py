"""A run as its agent sees it: what it was told, how it asks people, and where it reports what happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from sled.protocol import MAX_FRAME, BadFrame, Body, Decision, Query, Question, Run, Withdrawn, decode_body, encode

Emit = Callable[[Body], Awaitable[None]]

#: Bytes of a question in JSON; the rest of the frame is for everything else.
_QUESTION_BYTES = MAX_FRAME - 2**16
#: What an agent is told if its question is too long for a card: a question is asked in full or not at all.
TOO_LONG = (
    "This is too long to be shown to a person in full, so nobody was asked. Do it in smaller parts: a large text in "
    "several steps, a long command as a script that is written first."
)
_OVER = "The run is over."


class Turn:
    """One run under way. `emit` takes its events; the runner hands over the decisions of people."""

    def __init__(self, run: Run, emit: Emit) -> None:
        self.run = run
        self._emit = emit
        self._asked: dict[str, asyncio.Future[Decision]] = {}
        self._over = False
        self._ready = asyncio.Event()

    async def emit(self, body: Body) -> None:
        """Report something that happened."""
        await self._emit(body)

    async def ready(self) -> None:
        """Wait until the agent may change the workspace; to be awaited before its first change."""
        await self._ready.wait()

    def let_change(self) -> None:
        """Let the agent change the workspace from now on."""
        self._ready.set()

    async def ask(self, question: Question) -> Decision:
        """Ask a person, and wait for as long as the gateway gives them.

        A caller that is cancelled withdraws its question. A question that cannot be shown in full is denied at once,
        with a text that tells the agent what to do (`TOO_LONG`).
        """
        if self._over or not _fits(question):
            return Decision(run=self.run.run, question=question.id, allow=False, text=_OVER if self._over else TOO_LONG)
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._asked[question.id] = answer
        try:
            await self._emit(question)
            return await answer
        except asyncio.CancelledError:
            if not self._over:
                await self._emit(Withdrawn(question=question.id))
            raise
        finally:
            self._asked.pop(question.id, None)

    def decide(self, decision: Decision) -> None:
        """Take a person's answer; one that nobody waits for, or a second one, changes nothing."""
        answer = self._asked.get(decision.question)
        if decision.run == self.run.run and answer is not None and not answer.done():
            answer.set_result(decision)

    def close(self) -> None:
        """End the run: whoever still waits is denied, and nobody can be asked any more."""
        self._over = True
        self._ready.set()
        for question, answer in self._asked.items():
            if not answer.done():
                answer.set_result(Decision(run=self.run.run, question=question, allow=False, text=_OVER))


def told(given: Any) -> str:
    """A tool's arguments as JSON for a person: indented, complete, and fit for a frame."""
    text = json.dumps(given, ensure_ascii=False, indent=2)
    # Half a surrogate pair has no UTF-8 form; as an escape it means the same.
    return text.encode(errors="backslashreplace").decode()


def chosen(queries: list[Query], decision: Decision) -> dict[str, str]:
    """What was answered to each query, several labels in one line; empty when nobody answered."""
    if not decision.allow:
        return {}
    return {query.text: ", ".join(labels) for query, labels in zip(queries, decision.answers, strict=False) if labels}


def _fits(question: Question) -> bool:
    """Whether the wire takes the whole question."""
    try:
        text = encode(question)
        decode_body(text)
    except (BadFrame, UnicodeEncodeError):
        return False
    return len(text.encode()) <= _QUESTION_BYTES
