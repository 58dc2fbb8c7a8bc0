"""What people are called, as their profiles say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence

from gateway.errors import TransportError
from transports.slack.api import Api
from transports.slack.told import mapping, string

log = logging.getLogger(__name__)

#: Seconds that a name is kept, or that a failed lookup is not repeated.
_FRESH_S, _PAUSE_S = 3600.0, 60.0
#: Seconds that a message may be held up by looking for names; Slack wants its answer within three.
_WITHIN_S = 1.0
_REMEMBERED = 4096
#: People of one message whose names are looked for.
_MOST = 10


class People:
    """Looks names up, and remembers them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._names: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def name(self, user_id: str) -> str:
        """What somebody is called; their id if that is not known."""
        return self._names.get(user_id, ("", 0.0))[0] or user_id

    def unknown(self, user_ids: Sequence[str]) -> list[str]:
        """Those of the ids that have to be looked up."""
        now = time.monotonic()
        return [one for one in user_ids[:_MOST] if self._names.get(one, ("", 0.0))[1] <= now]

    async def learn(self, unknown: Sequence[str]) -> None:
        """Look people up, as far as time allows. Never fails: a name is only for display."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                await asyncio.gather(*(self._look_up(one) for one in unknown))
        except TimeoutError:
            log.info("slack: names did not come in time")
            for one in self.unknown(unknown):  # or each message would wait for it
                self._remember(one, self._names.get(one, ("", 0.0))[0], _PAUSE_S)

    async def _look_up(self, user_id: str) -> None:
        try:
            data, _ = await self._api.call(self._api.client.users_info(user=user_id))
        except TransportError as error:
            log.info("slack: the name of %s could not be looked up: %s", user_id, error)
            self._remember(user_id, self._names.get(user_id, ("", 0.0))[0], _PAUSE_S)
            return
        user = mapping(data.get("user"))
        profile = mapping(user.get("profile"))
        shown = string(profile.get("display_name")) or string(profile.get("real_name")) or string(user.get("name"))
        self._remember(user_id, shown, _FRESH_S)

    def _remember(self, user_id: str, name: str, for_s: float) -> None:
        self._names[user_id] = (name, time.monotonic() + for_s)
        self._names.move_to_end(user_id)
        while len(self._names) > _REMEMBERED:
            self._names.popitem(last=False)
