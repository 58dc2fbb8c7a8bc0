"""The sled's own children, also those that nobody wants any more while they start."""

from __future__ import annotations

import asyncio
import os

from gateway.testing import patience
from sled.children import Children


async def test_who_gives_up_while_a_child_starts_holds_up_nobody_else() -> None:
    children = Children()
    for turns in range(12):  # given up at each of the steps that a start takes
        given_up = asyncio.create_task(children.spawn("sleep", "300"))
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        ended = await asyncio.wait_for(asyncio.gather(given_up, return_exceptions=True), 5 * patience())
        if isinstance(ended[0], asyncio.subprocess.Process):
            ended[0].kill()
            await ended[0].wait()
        process = await asyncio.wait_for(children.spawn("true"), 5 * patience())
        assert await asyncio.wait_for(process.wait(), 5 * patience()) == 0
    await asyncio.wait_for(children.close(), 5 * patience())
    async with asyncio.timeout(5 * patience()):
        while any(line for line in await _children()):
            await asyncio.sleep(0.01)


async def _children() -> list[str]:
    """What this process started and is still there."""
    listing = await asyncio.create_subprocess_exec(
        "pgrep", "-P", str(os.getpid()), "sleep", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await listing.communicate()
    return output.decode().split()
