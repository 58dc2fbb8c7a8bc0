"""A person at a Matrix client, for tests: plain or with end-to-end encryption."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any, Self

import aiohttp
from nio import (
    AsyncClient,
    AsyncClientConfig,
    Event,
    MegolmEvent,
    RoomInviteResponse,
    ToDeviceMessage,
    UploadResponse,
)
from nio.crypto.attachments import decrypt_attachment
from nio.responses import ErrorResponse
from nio.store import SqliteMemoryStore

from gateway.testing import patience
from tests.support.synapse import Account

Predicate = Callable[[dict[str, Any]], bool]


def body_is(text: str) -> Predicate:
    """A message whose body is `text`."""
    return lambda event: bool(event["content"].get("body") == text)


def edits(event_id: str, text: str) -> Predicate:
    """An edit that makes `text` of a message."""

    def holds(event: dict[str, Any]) -> bool:
        relation = event["content"].get("m.relates_to", {})
        new = event["content"].get("m.new_content", {})
        found = relation.get("rel_type"), relation.get("event_id"), new.get("body")
        return found == ("m.replace", event_id, text)

    return holds


def reacts(event_id: str, emoji: str) -> Predicate:
    """A reaction to a message."""

    def holds(event: dict[str, Any]) -> bool:
        relation = event["content"].get("m.relates_to", {})
        return event["type"] == "m.reaction" and (relation.get("event_id"), relation.get("key")) == (
            event_id,
            emoji,
        )

    return holds


class MatrixUser:
    """One logged-in person, who sees what happens in all rooms from `async with` on."""

    def __init__(self, url: str, account: Account) -> None:
        config = AsyncClientConfig(
            store=SqliteMemoryStore, encryption_enabled=True, max_limit_exceeded=3, max_timeouts=3
        )
        self.account = account
        self.user_id = account.user_id
        self.client = AsyncClient(url, account.user_id, config=config)
        #: Every event seen, decrypted where possible, with its room.
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._sealed: dict[str, tuple[str, MegolmEvent]] = {}

    async def __aenter__(self) -> Self:
        self.client.restore_login(self.account.user_id, self.account.device_id, self.account.access_token)
        await self._sync(0)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pause()
        await self.client.close()

    async def pause(self) -> None:
        """Stop looking at what happens."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._sync(5000)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.1)  # the homeserver was stopped by the test

    async def _sync(self, timeout_ms: int) -> None:
        response = _good(await self.client.sync(timeout=timeout_ms, full_state=None))
        if self.client.should_upload_keys:
            _good(await self.client.keys_upload())
        if self.client.should_query_keys:
            _good(await self.client.keys_query())
        if self.client.should_claim_keys:
            _good(await self.client.keys_claim(self.client.get_users_for_key_claiming()))
        await self.client.send_to_device_messages()
        async with self._news:
            for room_id, info in response.rooms.join.items():
                for event in info.timeline.events:
                    self._note(room_id, event)
            for room_id, event in list(self._sealed.values()):
                self._note(room_id, event)
            self._news.notify_all()

    def _note(self, room_id: str, event: Event) -> None:
        source = event.source
        if isinstance(event, MegolmEvent):
            event.room_id = room_id
            clear = self.client.olm._decrypt_megolm_no_error(event)
            if clear is None:
                self._sealed[event.event_id] = (room_id, event)
                return
            source = clear.source | {"event_id": event.event_id, "sender": event.sender, "encrypted": True}
            self._sealed.pop(event.event_id, None)
        elif getattr(event, "decrypted", False):
            source = source | {"encrypted": True}
        self.seen.append((room_id, source))

    async def sees(
        self, predicate: Predicate, *, room: str = "", by: str = "", timeout_s: float = 30
    ) -> dict[str, Any]:
        """The first event that fits, seen already or still to come."""

        def found() -> dict[str, Any] | None:
            for room_id, event in self.seen:
                if room in ("", room_id) and by in ("", event["sender"]) and predicate(event):
                    return event
            return None

        async with asyncio.timeout(timeout_s * patience()), self._news:
            await self._news.wait_for(lambda: found() is not None)
            event = found()
            assert event is not None
            return event

    def count(self, predicate: Predicate, room: str) -> int:
        """How many events of a room fit, of those seen so far."""
        return sum(room_id == room and predicate(event) for room_id, event in self.seen)

    async def create_room(self, *, invite: Iterable[str] = (), encrypted: bool = False, direct: bool = True) -> str:
        """Make a private room."""
        state = []
        if encrypted:
            content = {"algorithm": "m.megolm.v1.aes-sha2"}
            state = [{"type": "m.room.encryption", "state_key": "", "content": content}]
        answer = await self.client.room_create(is_direct=direct, invite=list(invite), initial_state=state)
        room_id = str(_good(answer).room_id)
        await self.knows(room_id)
        return room_id

    async def upgrade(self, room_id: str, version: str = "10") -> str:
        """Have another room take the place of one; the new one."""
        answer = await self.raw("POST", f"/_matrix/client/v3/rooms/{room_id}/upgrade", {"new_version": version})
        new = str(answer["replacement_room"])
        await self.knows(new)
        return new

    async def invite(self, room_id: str, user_id: str) -> None:
        """Invite somebody."""
        assert isinstance(await self.client.room_invite(room_id, user_id), RoomInviteResponse)

    async def join(self, room_id: str) -> None:
        """Accept an invitation."""
        _good(await self.client.join(room_id))
        await self.knows(room_id)

    async def knows(self, room_id: str) -> None:
        """Wait until the room is in the client's own state."""
        async with self._news:
            await self._news.wait_for(lambda: room_id in self.client.rooms)

    async def sees_member(self, room_id: str, user_id: str, membership: str = "join") -> None:
        """Wait until somebody is in a room, or not any more."""
        await self.sees(
            lambda e: (
                e["type"] == "m.room.member"
                and e.get("state_key") == user_id
                and e["content"].get("membership") == membership
            ),
            room=room_id,
        )

    async def put(self, room_id: str, content: dict[str, Any], kind: str = "m.room.message") -> str:
        """Send an event, encrypted where the room is; its id."""
        answer = await self.client.room_send(room_id, kind, content, ignore_unverified_devices=True)
        return str(_good(answer).event_id)

    async def put_state(self, room_id: str, kind: str, content: dict[str, Any]) -> None:
        """Change a room."""
        await self.raw("PUT", f"/_matrix/client/v3/rooms/{room_id}/state/{kind}", content)

    async def say(self, room_id: str, text: str, **content: Any) -> str:
        """Send a text; `content` is added to the event."""
        return await self.put(room_id, {"msgtype": "m.text", "body": text, **content})

    async def reply(self, room_id: str, text: str, to: str) -> str:
        """Answer a message as clients do."""
        return await self.say(room_id, text, **{"m.relates_to": {"m.in_reply_to": {"event_id": to}}})

    async def say_in_thread(self, room_id: str, text: str, root: str) -> str:
        """Write into a thread."""
        relation = {
            "rel_type": "m.thread",
            "event_id": root,
            "is_falling_back": True,
            "m.in_reply_to": {"event_id": root},
        }
        return await self.say(room_id, text, **{"m.relates_to": relation})

    async def edit(self, room_id: str, event_id: str, text: str) -> str:
        """Change an own message."""
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": event_id}
        return await self.say(room_id, f"* {text}", **{"m.new_content": new, "m.relates_to": relation})

    async def redact(self, room_id: str, event_id: str) -> None:
        """Take an own message back."""
        _good(await self.client.room_redact(room_id, event_id))

    async def react(self, room_id: str, event_id: str, emoji: str) -> str:
        """React to a message."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": emoji}
        return await self.put(room_id, {"m.relates_to": relation}, "m.reaction")

    async def share(self, room_id: str, data: bytes, *, encrypted: bool, **content: Any) -> str:
        """Send a picture as clients do; the event's id."""
        answer, keys = await self.client.upload(
            lambda *_: data, "image/png", "photo.png", encrypt=encrypted, filesize=len(data)
        )
        assert isinstance(answer, UploadResponse), answer
        where: dict[str, Any] = {"url": answer.content_uri}
        if encrypted:
            assert keys is not None
            where = {"file": {**keys, "url": answer.content_uri}}
        shown = {"msgtype": "m.image", "body": "photo.png", "info": {"mimetype": "image/png", "size": len(data)}}
        return await self.put(room_id, {**shown, **where, **content})

    async def download(self, event: dict[str, Any]) -> bytes:
        """The file that an event stands for, decrypted where it must be."""
        content = event["content"]
        sealed = content.get("file", {})
        got = bytes(_good(await self.client.download(content.get("url") or sealed["url"])).body)
        if sealed:
            got = decrypt_attachment(got, sealed["key"]["k"], sealed["hashes"]["sha256"], sealed["iv"])
        return got

    async def trusts_keys_of(self, user_id: str, device_id: str = "") -> None:
        """Wait until the client knows a device of somebody, so that what it encrypts can be read there."""
        while not any(device_id in ("", device.id) for device in self.client.device_store.active_user_devices(user_id)):
            self.client.olm.users_for_key_query.add(user_id)
            _good(await self.client.keys_query())
            await asyncio.sleep(0.05)

    def forget_room_key(self, room_id: str) -> None:
        """Use a new key for the next message in a room."""
        self.client.olm.outbound_group_sessions.pop(room_id, None)

    async def say_without_key(self, room_id: str, text: str, user_id: str) -> dict[str, Any]:
        """Say something encrypted while the devices of `user_id` get no key; the key, for `hand_over`."""
        olm = self.client.olm
        self.forget_room_key(room_id)
        devices = list(self.client.device_store.active_user_devices(user_id))
        for device in devices:
            self.client.blacklist_device(device)
        _good(await self.client.share_group_session(room_id, ignore_unverified_devices=True))
        session = olm.outbound_group_sessions[room_id]
        key = {
            "algorithm": "m.megolm.v1.aes-sha2",
            "room_id": room_id,
            "session_id": session.id,
            "session_key": session.session_key,
        }
        await self.say(room_id, text)
        for device in devices:
            self.client.unblacklist_device(device)
        return key

    async def hand_over(self, user_id: str, key: dict[str, Any]) -> None:
        """Give a room's key to the devices of somebody."""
        olm = self.client.olm
        for device in self.client.device_store.active_user_devices(user_id):
            if olm.session_store.get(device.curve25519) is None:
                _good(await self.client.keys_claim({user_id: [device.id]}))
            session = olm.session_store.get(device.curve25519)
            sealed = olm._olm_encrypt(session, device, "m.room_key", key)
            message = ToDeviceMessage("m.room.encrypted", user_id, device.id, sealed)
            _good(await self.client.to_device(message))

    async def raw(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request with this person's token."""
        headers = {"Authorization": f"Bearer {self.client.access_token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        answer = await self.client.send(method, path, data, headers)
        return dict(await answer.json())


def _good(response: Any) -> Any:
    assert not isinstance(response, ErrorResponse), response
    return response
