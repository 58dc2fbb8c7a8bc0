"""Where commands and shortcuts come from: they reach us even from where the bot cannot answer."""

from __future__ import annotations

import asyncio
import logging

from gateway.errors import DeliveryHeld, DeliveryRefused, TransportError
from transports.slack.api import Api
from transports.slack.told import mapping, string

log = logging.getLogger(__name__)

_TOLD = (
    "I'm not in this conversation, so I can't answer here. Nothing was done. Invite me first (`/invite @{name}`), "
    "or write to me directly."
)
_WITHIN_S = 1.5
#: Pages of members that are looked through.
_PAGES = 20


class Rooms:
    """Which conversations the bot is in, as far as it had to ask."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._name = name
        self._in: set[str] = set()

    async def refusal(self, channel: str) -> str:
        """Why the bot can say nothing there, for the person who asked; empty if it can, or if nobody knows."""
        return "" if channel in self._in or await self._can_answer(channel) else _TOLD.format(name=self._name)

    async def _can_answer(self, channel: str) -> bool:
        try:
            async with asyncio.timeout(_WITHIN_S):
                data, _ = await self._api.call(self._api.client.conversations_info(channel=channel))
        except (DeliveryRefused, DeliveryHeld):
            return False
        except (TransportError, TimeoutError) as error:
            log.info("slack: could not find out whether the bot is in %s: %s", channel, error)
            return True
        found = mapping(data.get("channel"))
        there = bool(found.get("is_member") or found.get("is_im") or found.get("is_mpim"))
        if there:
            self._in.add(channel)
        return there


async def is_in(api: Api, channel: str, user_id: str) -> bool:
    """Whether somebody is in a conversation now. Raises TransportError, also where it has too many people to look."""
    cursor = ""
    for _ in range(_PAGES):
        data, _headers = await api.call(
            api.client.conversations_members(channel=channel, limit=999, cursor=cursor or None)
        )
        if user_id in data.get("members", ()):
            return True
        cursor = string(mapping(data.get("response_metadata")).get("next_cursor"))
        if not cursor:
            return False
    raise DeliveryRefused("it has too many people to look through")
