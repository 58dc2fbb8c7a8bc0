"""A transport at work in a test: waiting for it, and ending it."""

from __future__ import annotations

import asyncio

from gateway.chat import Transport
from gateway.testing import patience


class Running:
    """What the bots of all platforms share. `task` is the transport's run."""

    transport: Transport
    task: asyncio.Task[None] | None = None

    async def serves(self, serving: bool = True, timeout_s: float = 30) -> None:
        """Wait until the transport says that it serves, or that it does not; raise what it failed with."""
        assert self.task is not None
        async with asyncio.timeout(timeout_s * patience()):
            while self.transport.serving is not serving:
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.01)

    async def fails(self, timeout_s: float = 30) -> BaseException:
        """What the transport gives up with."""
        assert self.task is not None
        await asyncio.wait([self.task], timeout=timeout_s)
        error = self.task.exception()
        assert error is not None
        return error

    async def stop(self) -> None:
        """Cancel the run and wait until it is over."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None
