"""Posting: one queue per room, encrypted where the room is, the same request for the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakValueDictionary

from gateway.chat import Attachment, Conversation, MessageRef, OutgoingFile, Reply
from gateway.errors import DeliveryHeld, DeliveryRefused, TransportDown
from transports.matrix import content, media, render
from transports.matrix.budget import Budget
from transports.matrix.client import Client
from transports.matrix.errors import Forbidden
from transports.matrix.keys import Keys

_MESSAGE, _REACTION = "m.room.message", "m.reaction"
CANCEL = "m.key.verification.cancel"


class Outgoing:
    """What one logged-in client sends."""

    def __init__(self, client: Client, keys: Keys | None, budget: Budget) -> None:
        self._client = client
        self._keys = keys
        self._budget = budget
        # Concurrent requests would be reordered.
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        """Post a message. Raises as `Transport.send`."""
        _afford(self._budget.pause_s())
        body = content.message(
            reply.text,
            thread=conversation.thread,
            reply_to=reply.reply_to,
            notifies=reply.notifies,
            mentions=reply.mentions,
        )
        event_id = await self._put(
            conversation.room, _MESSAGE, body, content.transaction("send", conversation.room, key)
        )
        return MessageRef(conversation, event_id)

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        """Post a file. Raises as `Transport.send`."""
        _afford(self._budget.pause_s())
        room = await self._room(conversation.room)
        shown = await media.upload(self._client, file, render.plain(reply.text), encrypted=room.encrypted)
        body = content.related(shown, thread=conversation.thread, reply_to=reply.reply_to)
        transaction = content.transaction("send", conversation.room, key)
        return MessageRef(conversation, await self._put(conversation.room, _MESSAGE, body, transaction))

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        """Write a file that came with a message to `into`. Raises as `Transport.fetch`."""
        await media.download(self._client, file, into, most)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Replace a message of ours: an answer as soon as a new message could go out, live text when the budget allows.

        Raises as `Transport.send`.
        """
        _afford(self._budget.wait_s() if reply.live else self._budget.pause_s())
        room_id = ref.conversation.room
        body = content.replacement(reply.text, ref.external_id)
        await self._put(room_id, _MESSAGE, body, content.transaction("edit", room_id, key))
        if reply.live:
            self._budget.spent()

    async def react(self, ref: MessageRef, emoji: str) -> None:
        """Put an emoji on a message, when the budget allows. Raises as `Transport.send`."""
        _afford(self._budget.wait_s())
        room_id = ref.conversation.room
        body = content.reaction(ref.external_id, emoji)
        key = content.transaction("react", room_id, f"{ref.external_id} {emoji}")
        await self._put(room_id, _REACTION, body, key)
        self._budget.spent()

    async def decline(self, room_id: str, event_id: str, why: Mapping[str, str]) -> None:
        """Cancel a verification that somebody asks for in a room. Raises as `Transport.send`."""
        body = {**why, "m.relates_to": {"rel_type": "m.reference", "event_id": event_id}}
        await self._put(room_id, CANCEL, body, content.transaction("decline", room_id, event_id))

    async def joined(self, room_id: str) -> set[str]:
        """The accounts that are in a room now. Raises TransportError."""
        response = await self._client.call(self._client.joined_members(room_id))
        return {member.user_id for member in response.members}

    async def _room(self, room_id: str) -> Any:
        """What the SDK knows of a room. Raises TransportDown while that is nothing."""
        room = self._client.rooms.get(room_id)
        if room is None:
            # If the bot is not in the room, this is refused; otherwise it joined just now.
            await self._client.call(self._client.joined_members(room_id))
            raise TransportDown(f"the state of {room_id} is not here yet")
        return room

    async def _put(self, room_id: str, kind: str, body: dict[str, Any], transaction: str) -> str:
        """Send one event and return its id."""
        async with self._queues.setdefault(room_id, asyncio.Lock()):
            try:
                room = await self._room(room_id)
            except Forbidden as error:
                raise DeliveryHeld(f"the bot is not in the room: invite it again ({error})") from error
            # Reactions are never encrypted in Matrix.
            if room.encrypted and kind != _REACTION:
                if self._keys is None:
                    raise DeliveryRefused("the room is encrypted: set transports.matrix.encryption = true")
                body = await self._keys.encrypt(room_id, kind, body)
                kind = "m.room.encrypted"
            path = f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/send/{kind}/{transaction}"
            try:
                answer = await self._client.api("PUT", path, body)
            except Forbidden as error:
                raise DeliveryHeld(
                    f"the bot may not write in the room: let it, or invite it again ({error})"
                ) from error
            except TransportDown as error:
                if error.retry_after_s is not None:
                    self._budget.limited(error.retry_after_s)
                raise
        return str(answer["event_id"])


def _afford(wait_s: float) -> None:
    if wait_s > 0:
        raise TransportDown("the homeserver limits this account", retry_after_s=wait_s)
