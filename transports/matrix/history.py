"""What a sync left out: of a long gap, a server sends only the newest events."""

from __future__ import annotations

import logging
from typing import Any

from nio.api import MessageDirection

from gateway.errors import DeliveryRefused
from transports.matrix.client import Client
from transports.matrix.rooms import arrival

log = logging.getLogger(__name__)

_PAGE = 100
#: How far to look for the bot's own invitation, in events.
_SEARCH = 2000


async def complete(client: Client, room_id: str, timeline: Any, since: str) -> tuple[list[Any], int]:
    """All events of a room after `since`, oldest first, and the index of the first that is meant for the bot.

    If the bot joined after `since`, that is everything since its invitation, which may be older.

    Args:
        client: asked for the rest of a gap.
        room_id: the room.
        timeline: what the sync said.
        since: the token that the sync started from.

    Raises:
        TransportDown, TransportRefused: the rest could not be fetched now.
    """
    events, me = list(timeline.events), client.user_id
    page = timeline.prev_batch if timeline.limited else None
    while page and arrival(events, me)[0] is None:
        older, page = await _page(client, room_id, page, since)
        events = older + events
    invited, joined = arrival(events, me)
    if joined is not None and invited is None:
        events = await _since_invitation(client, room_id, timeline, since) or events
        invited, joined = arrival(events, me)
    return events, invited if invited is not None else joined or 0


async def _since_invitation(client: Client, room_id: str, timeline: Any, since: str) -> list[Any]:
    """The events of a room back to the bot's invitation; nothing where it joined without one."""
    events, page = list(timeline.events), timeline.prev_batch
    while page and len(events) < _SEARCH and arrival(events, client.user_id)[0] is None:
        older, page = await _page(client, room_id, page, None)
        events = older + events
    return events if arrival(events, client.user_id)[0] is not None else []


async def _page(client: Client, room_id: str, start: str, end: str | None) -> tuple[list[Any], str | None]:
    """The events before `start`, oldest first, and where the next older ones begin."""
    try:
        answer = await client.call(
            client.room_messages(room_id, start, end=end, direction=MessageDirection.back, limit=_PAGE)
        )
    except DeliveryRefused as error:
        log.warning("matrix: no history of %s: %s", room_id, error)
        return [], None
    further = answer.end if answer.chunk and answer.end != start else None
    return list(reversed(answer.chunk)), further
