"""The loop that asks the homeserver for news.

The gateway commits what a sync brought together with the token that follows it; only then is that token used.
The SDK's own loop saves the token first, and a crash in between would lose messages.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from nio import TypingNoticeEvent

from gateway.chat import Conversation, Receiver
from gateway.errors import DeliveryRefused, TransportDown
from transports.matrix.backoff import insist
from transports.matrix.client import Client
from transports.matrix.config import NAME
from transports.matrix.intake import Intake
from transports.matrix.invites import Invites
from transports.matrix.keys import Keys
from transports.matrix.verification import Verifications

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Read receipts and presence do not concern us.
_FILTER = {
    "room": {"timeline": {"limit": 20}, "ephemeral": {"types": ["m.typing"]}, "account_data": {"types": []}},
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
        verifications: Verifications,
        serving: Callable[[bool], None],
    ) -> None:
        """`serving` is told after each step whether both the homeserver and the gateway's store answer."""
        self._client = client
        self._receiver = receiver
        self._intake = intake
        self._invites = invites
        self._keys = keys
        self._verifications = verifications
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
            if batch.incoming or (batch.cursor != committed and not _only_typing(response)):
                await self._insist(partial(self._receiver.accept, batch.incoming, batch.cursor))
                committed = batch.cursor
            for room_id, typing in _typing(response, self._client.user_id):
                self._receiver.typing(Conversation(NAME, room_id), typing)
            token, full = response.next_batch, False
            self._serving(True)
            self._invites.see(response)
            await self._verifications.decline(response, self._intake.verifications)
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


def _only_typing(response: Any) -> bool:
    """Whether a sync brought nothing but who is typing: nothing in it is worth a commit."""
    rooms = response.rooms
    told = any(info.ephemeral for info in rooms.join.values())
    more = any(info.timeline.events or info.timeline.limited or info.state for info in rooms.join.values())
    return told and not more and not (rooms.invite or rooms.leave or response.to_device_events)


def _typing(response: Any, me: str) -> list[tuple[str, list[str]]]:
    """The rooms of which a sync says who is typing, and who is, but for the bot itself."""
    return [
        (room_id, [f"{NAME}:{user}" for user in event.users if user != me])
        for room_id, info in response.rooms.join.items()
        for event in info.ephemeral
        if isinstance(event, TypingNoticeEvent)
    ]
