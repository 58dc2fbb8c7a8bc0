"""The 24 hours after a person's last message, in which WhatsApp lets us write to them.

Outside the 24 hours the outbox holds replies, and a template asks the person, once, to write. What is known of that
outlives the process: it is this transport's cursor.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable

from gateway.chat import Conversation, Receiver
from gateway.errors import DeliveryHeld, StateError, TransportDown, TransportError, TransportRefused
from transports.whatsapp.config import NAME

log = logging.getLogger(__name__)

#: Seconds after a person's message in which we write to them; a little less than WhatsApp's, as clocks differ.
OPEN_S = 24 * 3600 - 120.0

Heard = Callable[[Conversation], Awaitable[float]]


class Window:
    """Of every person: when they wrote last, and which message of theirs no longer lets us write."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._receiver: Receiver | None = None
        self._closed: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._lock = asyncio.Lock()
        #: When a person wrote last, as seconds since the epoch; 0: never.
        self.heard: Heard | None = None

    async def load(self, receiver: Receiver) -> None:
        """Load what an earlier process knew. Raises StateError."""
        stored = json.loads(await receiver.cursor(NAME) or "{}")
        self._closed = {str(room): float(at) for room, at in stored.items()}
        self._receiver = receiver

    def wrote(self, room: str) -> None:
        """A person seems to have written; ask the database, as Twilio may report old messages again."""
        self._heard.pop(room, None)

    async def pass_through(self, conversation: Conversation, ask: Callable[[], Awaitable[None]]) -> None:
        """Return if we may write; otherwise ask the person to write, once, and raise.

        Raises:
            DeliveryHeld: not before they write.
            TransportDown, TransportRefused: they could not be asked; try again.
        """
        if self.heard is None:
            return
        try:
            heard = await self._last_heard(conversation, self.heard)
            if not self._was_closed(conversation.room, heard) and self._clock() - heard < OPEN_S:
                return
            await self.close(conversation, ask)
        except StateError as error:
            raise TransportDown(str(error)) from error
        raise DeliveryHeld()

    async def close(self, conversation: Conversation, ask: Callable[[], Awaitable[None]]) -> None:
        """WhatsApp will not let us write. Ask the person, unless that was done since they wrote last.

        Raises TransportDown, TransportRefused, StateError: they could not be asked.
        """
        room = conversation.room
        async with self._lock:
            heard = 0.0 if self.heard is None else await self._last_heard(conversation, self.heard)
            before = self._closed.get(room)
            if self._was_closed(room, heard):
                return
            # Before the question: asking twice is worse than not asking.
            await self._note(room, heard)
            try:
                await ask()
            except (TransportDown, TransportRefused):
                await self._note(room, before)
                raise
            except TransportError as error:
                log.warning("whatsapp: somebody could not be asked to write: %s", error)

    def _was_closed(self, room: str, heard: float) -> bool:
        """Whether a window that their last message opened was closed. A time from the future is no fact."""
        closed = self._closed.get(room)
        # Noted is the time of that message; until now it was the later one of the refusal.
        return closed is not None and (closed == heard or heard < closed <= self._clock())

    async def _last_heard(self, conversation: Conversation, heard: Heard) -> float:
        if conversation.room not in self._heard:
            self._heard[conversation.room] = await heard(conversation)
        return self._heard[conversation.room]

    async def _note(self, room: str, at: float | None) -> None:
        closed = {other: when for other, when in self._closed.items() if other != room}
        if at is not None:
            closed[room] = at
        if self._receiver is not None:
            await self._receiver.accept([], cursor=json.dumps(closed))
        self._closed = closed
