"""Old rows go: what was settled longer than `keep_days` ago."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection, delete, select, update

from gateway import clock
from gateway.errors import StateError
from gateway.store import Store
from gateway.store.tables import messages, notes, outbox, questions, turns

log = logging.getLogger(__name__)

_EVERY_S = 6 * 3600.0


def sweep(connection: Connection, before: float) -> int:
    """Within a unit: drop messages settled before a time, with their turns and replies; how many messages.

    What is not settled is never dropped, however old. That an event was seen is remembered only as long as its
    message: no platform sends one again after that many days.
    """
    old = select(messages.c.id).where(messages.c.settled_at < before)
    connection.execute(
        delete(outbox).where(outbox.c.created_at < before, outbox.c.state.notin_(("pending", "sending")))
    )
    connection.execute(update(outbox).where(outbox.c.message_id.in_(old)).values(message_id=None))
    count = connection.execute(delete(messages).where(messages.c.settled_at < before)).rowcount
    used = select(messages.c.turn_id).where(messages.c.turn_id.is_not(None))
    gone = select(turns.c.id).where(turns.c.ended_at < before, turns.c.id.notin_(used))
    connection.execute(update(outbox).where(outbox.c.turn_id.in_(gone)).values(turn_id=None))
    connection.execute(delete(questions).where(questions.c.answered_at < before))
    connection.execute(update(questions).where(questions.c.turn_id.in_(gone)).values(turn_id=None))
    connection.execute(delete(turns).where(turns.c.id.in_(gone)))
    connection.execute(delete(notes).where(notes.c.message_id.notin_(select(messages.c.id))))
    return count


async def sweep_forever(store: Store, keep_days: int, sweep_files: Callable[[int], None]) -> None:
    """Sweep now and every few hours."""
    while True:
        try:
            count = await store.write(lambda c: sweep(c, clock.now() - keep_days * 86400))
            if count:
                log.info("dropped %s messages older than %s days", count, keep_days)
            await asyncio.to_thread(sweep_files, keep_days)
        except (StateError, OSError) as error:
            log.error("nothing was swept: %s", error)
        await asyncio.sleep(_EVERY_S)
