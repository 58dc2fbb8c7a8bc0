"""The SDK's client, narrowed to what we trust it with: requests, room state and the key store.

It neither retries nor decrypts by itself: retries belong to whoever holds the message, and an event that
cannot be read, or was made to crash its reader, must not stop a sync.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from nio import AsyncClient, AsyncClientConfig, MegolmEvent
from nio.exceptions import EncryptionError
from nio.responses import ErrorResponse
from nio.store import SqliteStore

from gateway import outbound
from transports.matrix import errors

log = logging.getLogger(__name__)

#: Seconds for one ordinary request.
DEADLINE_S = 30.0


def quiet_sdk() -> None:
    """Keep the SDK's loggers from printing tokens (DEBUG) and events that it could not read (WARNING)."""
    logging.getLogger("nio").setLevel(logging.WARNING)
    for name in ("nio.events", "nio.responses", "nio.http", "nio.crypto"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Client(AsyncClient):  # type: ignore[misc]  # the SDK is untyped
    """One login at one homeserver."""

    def __init__(self, homeserver: str, user_id: str, *, keys: tuple[Path, str] | None = None) -> None:
        """Make a client that is not logged in; `keys` are the folder and the pass phrase of the key store."""
        folder, phrase = keys or (None, "")
        config = AsyncClientConfig(
            store=SqliteStore,
            encryption_enabled=keys is not None,
            pickle_key=phrase,
            store_sync_tokens=False,
            max_limit_exceeded=0,
            max_timeouts=0,
            request_timeout=60,
        )
        super().__init__(homeserver.rstrip("/"), user_id, store_path=str(folder or ""), config=config)
        self.client_session = outbound.session(timeout=aiohttp.ClientTimeout(total=config.request_timeout))
        quiet_sdk()

    async def call(self, request: Awaitable[Any], deadline_s: float = DEADLINE_S) -> Any:
        """Await a request of the SDK.

        Raises:
            TransportDown, DeliveryRefused, TransportRefused: what went wrong.
        """
        with errors.translated():
            async with asyncio.timeout(deadline_s):
                response = await request
        if isinstance(response, ErrorResponse):
            raise errors.from_response(response)
        return response

    async def api(
        self, method: str, path: str, body: Mapping[str, Any], deadline_s: float = DEADLINE_S
    ) -> dict[str, Any]:
        """One request that the SDK has no call for; the decoded answer. Raises as `call` does."""
        status, answer, response = await self.raw(method, path, body, deadline_s)
        if status >= 300 or not isinstance(answer, dict):
            error = ErrorResponse.from_dict(answer)
            error.transport_response = response
            raise errors.from_response(error)
        return answer

    async def raw(
        self, method: str, path: str, body: Mapping[str, Any], deadline_s: float = DEADLINE_S
    ) -> tuple[int, Any, Any]:
        """Status, decoded body (None where it is not JSON) and response of a request, whatever it answers."""
        headers = {"Authorization": f"Bearer {self.access_token}", "Content-Type": "application/json"}
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() if method != "GET" else None
        with errors.translated():
            async with asyncio.timeout(deadline_s):
                response = await self.send(method, path, data, headers)
                text = await response.text()
        try:
            return response.status, json.loads(text), response
        except ValueError:
            return response.status, None, response

    def read(self, event: MegolmEvent, room_id: str) -> dict[str, Any] | None:
        """What an encrypted event says, as a plain event; None while its key is missing.

        Only the type and the content come from inside: the sender and the id are the server's word, and a
        state event in disguise changes nothing.
        """
        if self.olm is None:
            return None
        try:
            inner = self.olm.decrypt_megolm_event(event, room_id).source
        except EncryptionError:
            return None
        except Exception as error:  # noqa: BLE001  whoever wrote it chose every byte inside
            log.warning("event %s is malformed inside: %s", event.event_id, type(error).__name__)
            inner = {"type": "", "content": {}}
        return {
            "type": inner["type"],
            "content": inner["content"],
            "event_id": event.event_id,
            "sender": event.sender,
        }

    async def receive_response(self, response: Any) -> None:
        """Let the SDK digest answers, but not failures: it takes a key share that failed for a logout."""
        if not isinstance(response, ErrorResponse):
            await super().receive_response(response)

    def _handle_timeline_event(self, event: Any, room_id: str, room: Any, encrypted_rooms: set[str]) -> Any:
        if isinstance(event, MegolmEvent):
            return None
        return super()._handle_timeline_event(event, room_id, room, encrypted_rooms)

    def _handle_messages_response(self, response: Any) -> None:
        """Leave history as it came: `read` decrypts it."""

    def _handle_decrypt_to_device(self, to_device_event: Any) -> Any:
        try:
            return super()._handle_decrypt_to_device(to_device_event)
        except Exception as error:  # noqa: BLE001  as in `read`
            log.warning("a malformed to-device event was skipped: %s", type(error).__name__)
            return None
