"""Runs on one agent in the test's own process, with all that they emitted, and a person who answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar, Unpack

from gateway.testing import patience
from sled.agents import Agent
from sled.protocol import Body, Decision, Finished, Question, Run, decode_body, encode
from sled.turn import Turn
from tests.support.order import Details

E = TypeVar("E", bound=Body)


class Conversation:
    """One dialogue. `turn` is the run under way, or the last one."""

    def __init__(self, agent: Agent, name: str = "claude") -> None:
        self.agent = agent
        self.name = name
        self.events: list[Body] = []
        self.turn: Turn
        self._changed = asyncio.Condition()
        self._runs = 0

    async def emit(self, event: Body) -> None:
        assert decode_body(encode(event)) == event
        async with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds of what was emitted."""
        async with asyncio.timeout(30 * patience()), self._changed:
            await self._changed.wait_for(holds)

    async def seen(self, wanted: Callable[[Body], bool]) -> None:
        await self.until(lambda: any(wanted(event) for event in self.events))

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def asked(self, number: int = 1) -> Question:
        """That question of this run, once it is asked."""
        await self.until(lambda: len(self.of(Question)) >= number)
        return self.of(Question)[number - 1]

    def decide(self, question: Question, allow: bool, text: str = "", *answers: list[str]) -> None:
        """Answer as the gateway does."""
        run = self.turn.run.run
        self.turn.decide(Decision(run=run, question=question.id, allow=allow, text=text, answers=list(answers)))

    async def run(self, prompt: str, *, held: bool = False, **how: Unpack[Details]) -> Finished:
        """One run to its end; with `held`, the agent may not change files until the test says so."""
        self._runs += 1
        self.events.clear()
        settings: Details = {"session": "s", "permissions": "allow", **how}
        run = Run(run=f"r{self._runs}", agent=self.name, prompt=prompt, **settings)
        self.turn = Turn(run, self.emit)
        if not held:
            self.turn.let_change()
        async with asyncio.timeout(60 * patience()):
            try:
                return await self.agent.run(self.turn)
            finally:
                self.turn.close()

    def start(self, prompt: str, *, held: bool = False, **how: Unpack[Details]) -> asyncio.Task[Finished]:
        self.events.clear()
        return asyncio.create_task(self.run(prompt, held=held, **how))

    async def interrupted(self, run: asyncio.Task[Finished]) -> Finished:
        """Stop that run; it has to end well within a second."""
        await self.agent.interrupt()
        started = time.monotonic()
        finished = await run
        assert time.monotonic() - started < 0.8 * patience()
        assert (finished.ending, finished.reason) == ("interrupted", "stopped")
        return finished
