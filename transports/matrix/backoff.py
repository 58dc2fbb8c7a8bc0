"""Waiting between tries."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import StateError, TransportDown

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_FIRST_S = 0.2
_LAST_S = 5.0


async def insist(step: Callable[[], Awaitable[_T]], failed: Callable[[], None] = lambda: None) -> _T:
    """Repeat a step that changes nothing when it fails, until it works.

    Waits grow from 0.2 to 5 seconds, with jitter so that many bots do not return at once; a longer wait that the
    homeserver asks for is kept. Only a homeserver or a store that cannot answer now is worth another try; every
    other error is raised.

    Args:
        step: what to do.
        failed: called after each failure, before the wait.
    """
    pause_s = _FIRST_S
    while True:
        try:
            return await step()
        except (TransportDown, StateError) as error:
            failed()
            if pause_s == _FIRST_S:
                log.warning("matrix: %s; trying again", error)
            asked_s = (error.retry_after_s if isinstance(error, TransportDown) else None) or 0.0
            await asyncio.sleep(max(pause_s * random.uniform(0.5, 1.0), asked_s))
            pause_s = min(2 * pause_s, _LAST_S)
