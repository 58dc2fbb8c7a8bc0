"""Requests to verify the bot's device: nobody is there to compare emoji, so each is declined at once, with a reason.

Left alone, a client shows one as waiting for ten minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from gateway.errors import DeliveryRefused, TransportDown
from transports.matrix import content
from transports.matrix.client import Client
from transports.matrix.config import NAME
from transports.matrix.events import mapping
from transports.matrix.outgoing import CANCEL, Outgoing

log = logging.getLogger(__name__)

#: What begins a verification, to a device; older clients leave out the first.
_BEGIN = ("m.key.verification.request", "m.key.verification.start")
#: Requests that are declined after one sync.
_MOST = 10
_REASON = {"code": "m.user", "reason": "This is a bot: it has no screen to compare emoji on."}


class Verifications:
    """Requests that wait to be declined. `may_ask`: whether somebody is listed; strangers get no answer."""

    def __init__(self, client: Client, outgoing: Outgoing, may_ask: Callable[[str], bool]) -> None:
        self._client = client
        self._outgoing = outgoing
        self._may_ask = may_ask

    async def decline(self, response: Any, in_rooms: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Decline what a sync brought to this device, and events of rooms that ask the same. Best effort."""
        # The SDK has None for what it cannot read.
        told = [mapping(getattr(event, "source", None)) for event in response.to_device_events]
        for source in [one for one in told if one.get("type") in _BEGIN][:_MOST]:
            await self._decline_device(source)
        for room_id, event in in_rooms[:_MOST]:
            if not self._may_ask(f"{NAME}:{event['sender']}"):
                continue
            try:
                await self._outgoing.decline(room_id, event["event_id"], _REASON)
            except (TransportDown, DeliveryRefused) as error:
                log.info("matrix: a verification could not be declined: %s", error)

    async def _decline_device(self, source: Mapping[str, Any]) -> None:
        told = mapping(source.get("content"))
        sender, device, transaction = source.get("sender"), told.get("from_device"), told.get("transaction_id")
        if not (isinstance(sender, str) and isinstance(device, str) and isinstance(transaction, str)):
            return
        if not self._may_ask(f"{NAME}:{sender}"):
            return
        body = {"messages": {sender: {device: {**_REASON, "transaction_id": transaction}}}}
        key = quote(content.transaction("decline", sender, transaction), safe="")
        try:
            await self._client.api("PUT", f"/_matrix/client/v3/sendToDevice/{CANCEL}/{key}", body)
        except (TransportDown, DeliveryRefused) as error:
            log.info("matrix: a verification could not be declined: %s", error)
