"""End-to-end encryption around the SDK's Olm machine: upkeep of keys, room keys for others, encrypting what we send.

Devices are trusted on first use. A room key that did not reach everybody is thrown away: the SDK marks it as
shared even if the request failed, and the people left out could never read the message.
"""

from __future__ import annotations

import logging
from typing import Any

from nio import Api, MegolmEvent
from nio.exceptions import LocalProtocolError
from nio.responses import KeysUploadResponse

from gateway.errors import DeliveryRefused, TransportDown, TransportRefused
from transports.matrix.client import DEADLINE_S, Client
from transports.matrix.errors import KeysLost
from transports.matrix.signing import Signing

log = logging.getLogger(__name__)

_ALGORITHM = "m.megolm.v1.aes-sha2"


class Keys:
    """The keys of one logged-in client with encryption."""

    def __init__(self, client: Client, signing: Signing) -> None:
        self._client = client
        self._olm = client.olm
        self._signing = signing

    async def check_device(self) -> None:
        """Make sure that our store is the one that this device was made with.

        Raises:
            KeysLost: the homeserver knows other keys for the device.
            TransportDown, TransportRefused: it could not be asked.
        """
        me, device = self._client.user_id, self._client.device_id
        try:
            answer = await self._client.api("POST", "/_matrix/client/v3/keys/query", {"device_keys": {me: [device]}})
        except DeliveryRefused as error:
            raise TransportRefused(f"the homeserver does not say which keys it knows: {error}") from error
        known = answer.get("device_keys", {}).get(me, {}).get(device, {}).get("keys", {})
        ours = self._olm.account.identity_keys
        if known and known.get(f"ed25519:{device}") != ours["ed25519"]:
            raise KeysLost(f"the keys of device {device} are gone")

    async def tend(self) -> None:
        """What keys need after a sync: requests, one-time keys, changed devices, broken sessions, signature.

        Raises:
            KeysLost: the homeserver holds one-time keys that our store does not know.
            TransportDown, DeliveryRefused, TransportRefused: as the homeserver answered.
        """
        client = self._client
        for message in list(client.outgoing_to_device_messages):
            await client.call(client.to_device(message))
        if client.should_upload_keys:
            await self._upload()
        if client.should_query_keys:
            await client.call(client.keys_query())
        if client.should_claim_keys:
            await client.call(client.keys_claim(client.get_users_for_key_claiming()))
        await self._signing.ensure(client)

    async def _upload(self) -> None:
        keys = self._olm.share_keys()
        # The SDK saves them only after the answer. Killed in between, it would make other keys under the same
        # names, which the homeserver refuses for ever.
        self._olm.save_account()
        method, path, body = Api.keys_upload(self._client.access_token, keys)
        try:
            await self._client.call(self._client._send(KeysUploadResponse, method, path, body))
        except DeliveryRefused as error:
            if "already exists" in str(error):
                raise KeysLost(f"the keys of device {self._client.device_id} are gone") from error
            raise

    async def request(self, event: MegolmEvent) -> None:
        """Ask our other devices for the key of an event; best effort, as the sender may bring it anyway."""
        if event.session_id in self._client.outgoing_key_requests:
            return
        try:
            await self._client.call(self._client.request_room_key(event), deadline_s=5)
        except (TransportDown, DeliveryRefused) as error:
            log.debug("no key request for %s: %s", event.event_id, error)

    async def encrypt(self, room_id: str, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        """The content of an `m.room.encrypted` event that every device in the room can read.

        Raises:
            TransportDown: a device could not be given the key; nothing was encrypted.
        """
        await self._share(room_id)
        session = self._olm.outbound_group_sessions[room_id]
        # The SDK would write each character beyond ASCII as six or twelve bytes, and events are limited.
        plain = Api.to_canonical_json({"type": kind, "content": content, "room_id": room_id})
        sealed = {
            "algorithm": _ALGORITHM,
            "sender_key": self._olm.account.identity_keys["curve25519"],
            "ciphertext": session.encrypt(plain),
            "session_id": session.id,
            "device_id": self._client.device_id,
        }
        # Servers need relations to find edits and threads.
        if "m.relates_to" in content:
            sealed["m.relates_to"] = content["m.relates_to"]
        return sealed

    async def _share(self, room_id: str) -> None:
        """Make sure that a room key exists and that everybody in the room has it."""
        client = self._client
        if not client.rooms[room_id].members_synced:
            await client.call(client.joined_members(room_id))
        if client.should_query_keys:
            await client.call(client.keys_query())
        if not self._olm.should_share_group_session(room_id):
            return
        missing = client.get_missing_sessions(room_id)
        if missing:
            await client.call(client.keys_claim(missing))
        try:
            await client.call(
                client.share_group_session(room_id, ignore_unverified_devices=True), deadline_s=2 * DEADLINE_S
            )
        except LocalProtocolError as error:
            raise TransportDown("the room is not ready yet") from error
        finally:
            # Left behind by a share that was cut short, it would block every later one.
            leftover = client.sharing_session.pop(room_id, None)
            if leftover is not None:
                leftover.set()
        if not self._everybody_has(room_id):
            self._olm.outbound_group_sessions.pop(room_id, None)
            raise TransportDown("the room's key could not be given to everybody yet")

    def _everybody_has(self, room_id: str) -> bool:
        """Whether each device that we can talk to was given the room's key."""
        session = self._olm.outbound_group_sessions[room_id]
        reached = session.users_shared_with | session.users_ignored
        return all(
            (user, device.id) in reached
            for user in self._client.rooms[room_id].users
            for device in self._olm.device_store.active_user_devices(user)
            if self._olm.session_store.get(device.curve25519)
        )
