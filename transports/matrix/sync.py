"""The loop that asks the homeserver for news.

The gateway commits what a sync brought together with the token that follows it; only then is that token used.
The SDK's own loop saves the token first, and a crash in between would lose messages.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from gateway.chat import Receiver
from gateway.errors import DeliveryRefused, TransportDown
from transports.matrix.backoff import insist
from transports.matrix.client import Client
from transports.matrix.config import NAME
from transports.matrix.intake import Intake
from transports.matrix.invites import Invites
from transports.matrix.keys import Keys

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Read receipts, typing and presence do not concern us.
_FILTER = {
    "room": {"timeline": {"limit": 20}, "ephemeral": {"types": []}, "account_data": {"types": []}},
    "presence": {"types": []},
    "account_data": {"types": []},
}
#: The first sync of a start brings the state of all rooms and may take long.
_FIRST_S = 180.0
#: Seconds that an answer may be late.
_GRACE_S = 15.0


class SyncLoop:
    """Receives for one logged-in client."""

    def __init__(
        self,
        client: Client,
        *,
        receiver: Receiver,
        intake: Intake,
        invites: Invites,
        keys: Keys | None,
        serving: Callable[[bool], None],
    ) -> None:
        """`serving` is told after each step whether both the homeserver and the gateway's store answer."""
        self._client = client
        self._receiver = receiver
        self._intake = intake
        self._invites = invites
        self._keys = keys
        self._serving = serving
        self._tended = True

    async def run(self) -> None:
        """Receive until cancelled.

        Raises:
            TransportRefused: the account cannot be used.
        """
        token = await self._insist(partial(self._receiver.cursor, NAME))
        committed, full = token, True
        while True:
            response = await self._insist(partial(self._sync, token, full))
            batch = await self._insist(partial(self._intake.take, response, token))
            if batch.incoming or batch.cursor != committed:
                await self._insist(partial(self._receiver.accept, batch.incoming, batch.cursor))
            token, committed, full = response.next_batch, batch.cursor, False
            self._serving(True)
            self._invites.see(response)
            await self._tend()

    async def _sync(self, since: str | None, full: bool) -> Any:
        # The SDK would skip an answer that ends where it believes it is, though after a start that has all the rooms.
        self._client.next_batch = ""
        wait_s = 0.0 if full else self._intake.poll_s()
        if not self._tended:
            wait_s = min(wait_s, 1.0)
        request = self._client.sync(timeout=int(wait_s * 1000), sync_filter=_FILTER, since=since, full_state=full)
        try:
            return await self._client.call(request, deadline_s=_FIRST_S if full else wait_s + _GRACE_S)
        except DeliveryRefused as error:
            raise TransportDown(f"the homeserver refuses to sync: {error}") from error

    async def _insist(self, step: Callable[[], Awaitable[_T]]) -> _T:
        return await insist(step, failed=partial(self._serving, False))

    async def _tend(self) -> None:
        """Look after the keys; what fails now is tried again after the next sync, which then comes sooner."""
        if self._keys is None:
            return
        try:
            await self._keys.tend()
            for event in self._intake.fresh:
                await self._keys.request(event)
            self._tended = True
        except (TransportDown, DeliveryRefused) as error:
            log.warning("matrix: the upkeep of the keys failed: %s", error)
            self._tended = False
