"""Typing, while a run is under way. Best effort: Twilio calls the service a beta, and nothing depends on it."""

from __future__ import annotations

import asyncio
import logging
import re

from gateway.chat import Fate, MessageRef
from gateway.errors import DeliveryRefused, TransportError
from transports.whatsapp.api import Api

log = logging.getLogger(__name__)

#: Typing answers a text or media message, says Twilio's description of its API; any other id would be refused.
_TYPED = re.compile("(?:SM|MM)[0-9a-f]{32}")
#: WhatsApp shows it for 25 seconds.
_EVERY_S = 20.0
#: Nobody types for longer.
_LONGEST_S = 3600.0


class Typing:
    """At most one indicator for each person."""

    def __init__(self, api: Api, every_s: float = _EVERY_S) -> None:
        self._api = api
        self._every_s = every_s
        self._tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._offered = True

    def show(self, ref: MessageRef, fate: Fate) -> None:
        """Type while `fate` is running; stop when it is final."""
        room = ref.conversation.room
        if fate is Fate.RUNNING and self._offered and _TYPED.fullmatch(ref.external_id):
            self._stop(room)
            self._tasks[room] = (ref.external_id, asyncio.create_task(self._type(ref.external_id)))
        elif fate.final and self._tasks.get(room, ("",))[0] == ref.external_id:
            self._stop(room)

    async def aclose(self) -> None:
        """Stop all."""
        tasks = [task for _, task in self._tasks.values()]
        for room in list(self._tasks):
            self._stop(room)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, room: str) -> None:
        if room in self._tasks:
            self._tasks.pop(room)[1].cancel()

    async def _type(self, sid: str) -> None:
        for _ in range(int(_LONGEST_S / self._every_s)):
            try:
                await self._api.type(sid)
            except DeliveryRefused as error:
                log.info("whatsapp: typing is not shown: %s", error)
                self._offered = False
                return
            except TransportError as error:
                log.debug("whatsapp: typing is not shown: %s", error)
            await asyncio.sleep(self._every_s)
