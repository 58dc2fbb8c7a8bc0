"""Where commands and shortcuts come from: they reach us also from where the bot cannot answer."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

from gateway.errors import DeliveryRefused, TransportError
from transports.slack.api import Api
from transports.slack.events import mapping
from transports.slack.files import is_slacks

log = logging.getLogger(__name__)

_TOLD = (
    "I am not in this conversation, so I could not answer here. Invite me first (`/invite @{name}`), "
    "or write to me directly. Nothing was done."
)
_WITHIN_S = 1.5
_ANSWER_S = 10.0


class Rooms:
    """Which conversations the bot is in, as far as it had to ask."""

    def __init__(self, api: Api, api_base_url: str, name: str) -> None:
        self._api = api
        self._base = api_base_url
        self._name = name
        self._in: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def can_answer(self, channel: str) -> bool:
        """Whether a post there would be taken; where that cannot be learnt in time, it is assumed."""
        if channel in self._in:
            return True
        try:
            async with asyncio.timeout(_WITHIN_S):
                data, _ = await self._api.call(self._api.client.conversations_info(channel=channel))
        except DeliveryRefused:
            return False
        except (TransportError, TimeoutError) as error:
            log.info("slack: it could not be learnt whether the bot is in %s: %s", channel, error)
            return True
        found = mapping(data.get("channel"))
        there = bool(found.get("is_member") or found.get("is_im") or found.get("is_mpim"))
        if there:
            self._in.add(channel)
        return there

    def refuse(self, response_url: str) -> None:
        """Tell whoever asked, and nobody else, that nothing comes of it; in the background."""
        if not is_slacks(response_url, self._base):
            return
        task = asyncio.create_task(self._tell(response_url))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, response_url: str) -> None:
        told = {"response_type": "ephemeral", "text": _TOLD.format(name=self._name)}
        try:
            async with asyncio.timeout(_ANSWER_S), self._api.session.post(response_url, json=told) as response:
                await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("slack: a command could not be refused: %s", type(error).__name__)
