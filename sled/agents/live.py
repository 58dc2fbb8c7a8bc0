"""How an agent's events go out: in order, and text no faster than people read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sled.protocol import Body, TextDelta
from sled.turn import Emit

#: Seconds between two pieces of live text.
TEXT_EVERY_S = 0.1


class Live:
    """Emits events in order, and text in pieces every `TEXT_EVERY_S`, so that a fast stream is not a flood."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._text: list[str] = []
        self._sent_at = 0.0
        self._timer: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()

    async def say(self, event: Body) -> None:
        """Emit an event, after everything that was said before."""
        if not isinstance(event, TextDelta):
            await self.flush()
            async with self._order:
                await self._emit(event)
            return
        self._text.append(event.delta)
        wait = self._sent_at + TEXT_EVERY_S - time.monotonic()
        if wait <= 0:
            await self.flush()
        elif not self._timer or self._timer.done():
            self._timer = asyncio.create_task(self._flush_after(wait))

    async def close(self) -> None:
        """Emit what is left."""
        await self.flush()
        if self._timer:
            self._timer.cancel()  # it holds no text: a flush takes that only once it may emit

    async def _flush_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.flush()

    async def flush(self) -> None:
        """Emit the text that waits."""
        async with self._order:
            text, self._text = "".join(self._text), []
            if text:
                self._sent_at = time.monotonic()
                await self._emit(TextDelta(delta=text))


async def done_or(task: asyncio.Task[Any], event: asyncio.Event) -> None:
    """Wait until `task` is done or `event` is set."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
