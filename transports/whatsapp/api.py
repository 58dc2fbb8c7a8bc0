"""Twilio's REST API, as far as we need it. Each request has its own deadline and is made once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from yarl import URL

from gateway import outbound
from gateway.chat import Attachment
from gateway.errors import DeliveryRefused, OutcomeUnknown, TransportDown, TransportRefused
from transports.whatsapp import errors
from transports.whatsapp.config import WhatsAppConfig

#: Bytes of an answer that are read, and of one that may be a list.
_MOST_ANSWER, _MOST_LIST = 2**16, 2**21
#: Pages of a list that are looked at.
_PAGES = 5
#: Redirects that a download may take.
_HOPS = 3
_CONNECT_S = 10.0
#: Seconds for one file.
_DOWNLOAD_S = 110.0


class Api:
    """One account. Use as an async context manager."""

    def __init__(self, config: WhatsAppConfig) -> None:
        self._config = config
        self._auth = {"Authorization": aiohttp.encode_basic_auth(config.account_sid, config.auth_token)}
        self._api = URL(config.api_base_url)

    async def __aenter__(self) -> Self:
        # A kept connection may be dead, and then nobody knows whether a post was taken: so none is kept.
        self._session = outbound.session(force_close=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def check(self) -> None:
        """Look at the account.

        Raises:
            TransportDown: Twilio does not answer.
            TransportRefused: the account is unknown or not active, or its token is wrong.
        """
        await self.account()

    async def account(self) -> tuple[dict[str, Any], Mapping[str, str]]:
        """What Twilio says about the account, and the headers of its answer. Raises as `check` does."""
        try:
            account, headers = await self._exchange("GET", f"{self._config.account_url}.json")
        except DeliveryRefused as error:
            raise TransportRefused(f"correct transports.whatsapp.account_sid: {error}") from error
        if account.get("status", "active") != "active":
            raise TransportRefused(f"the Twilio account is {account['status']}; its console says why")
        return account, headers

    async def look(self, url: str) -> dict[str, Any]:
        """A resource of the account, at an address of Twilio's.

        Raises:
            TransportDown: not now.
            DeliveryRefused: there is none, or it is not available.
            TransportRefused: Twilio does not accept the account or its token.
        """
        return await self._call("GET", url)

    async def send(self, fields: Mapping[str, str]) -> str:
        """Send one message; returns its SID.

        Raises:
            TransportDown: certainly not sent; another try is safe.
            OutcomeUnknown, DeliveryRefused, DeliveryHeld, TransportRefused.
        """
        sender = f"whatsapp:{self._config.from_number}"
        answer = await self._call("POST", f"{self._config.account_url}/Messages.json", {"From": sender, **fields})
        sid = answer.get("sid")
        if not isinstance(sid, str) or not sid:
            raise OutcomeUnknown("Twilio's answer names no message")
        return sid

    async def sent_to(self, to: str) -> AsyncIterator[dict[str, Any]]:
        """What was sent to a person, the newest first, as far as a few requests reach. Raises as `look` does."""
        sender = f"whatsapp:{self._config.from_number}"
        url = URL(f"{self._config.account_url}/Messages.json").with_query({"From": sender, "To": to, "PageSize": "50"})
        for _ in range(_PAGES):
            told = await self._call("GET", str(url))
            listed = told.get("messages")
            if not isinstance(listed, list):
                raise TransportDown("Twilio's list of messages cannot be read")
            for message in listed:
                if isinstance(message, dict):
                    yield message
            following = told.get("next_page_uri")
            if not isinstance(following, str) or not following.startswith("/2010-04-01/"):
                return
            url = self._api.join(URL(following, encoded=True))

    async def type(self, message_sid: str) -> None:
        """Show typing for up to 25 seconds, in answer to a person's message. Raises as `send` does."""
        await self._call("POST", self._config.typing_url, {"messageId": message_sid, "channel": "whatsapp"})

    async def download(self, file: Attachment, into: Path, most: int) -> None:
        """Write a media file of the account to `into`.

        Raises:
            TransportDown: not now.
            DeliveryRefused: it is gone, is stored elsewhere, has more than `most` bytes, or is of another type.
        """
        url = _url(file.ref)
        if url is None or not self._is_ours(url):
            raise DeliveryRefused("its address does not belong to the Twilio account")
        with errors.translated(posted=False):
            async with asyncio.timeout(_DOWNLOAD_S):
                for _ in range(_HOPS + 1):
                    headers = self._auth if self._is_ours(url) else {}
                    async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                        if answer.status not in (301, 302, 303, 307, 308):
                            return await _save(answer, file.mime, into, most)
                        url = _url(answer.headers.get("Location", ""), url)
                    if url is None or not (self._is_ours(url) or str(url).startswith(self._config.media_origins)):
                        raise DeliveryRefused("its address leads away from Twilio")
        raise DeliveryRefused("its address leads nowhere")

    def _is_ours(self, url: URL) -> bool:
        """Whether the credentials may go there."""
        account = f"/2010-04-01/Accounts/{self._config.account_sid}/"
        return url.origin() == self._api.origin() and url.path.startswith(account)

    async def _call(self, method: str, url: str, fields: Mapping[str, str] | None = None) -> dict[str, Any]:
        return (await self._exchange(method, url, fields))[0]

    async def _exchange(
        self, method: str, url: str, fields: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The decoded body of an answer, and its headers."""
        posted = method == "POST"
        with errors.translated(posted=posted):
            # The client's own time-outs start again with each part of an answer.
            async with (
                asyncio.timeout(self._config.request_s),
                self._session.request(method, url, data=fields, headers=self._auth, allow_redirects=False) as answer,
            ):
                body = await _read(answer, _MOST_ANSWER if posted else _MOST_LIST)
        told = _object(body)
        if answer.status not in (200, 201):
            code, said = told.get("code"), told.get("message")
            raise errors.from_answer(
                answer.status,
                code if isinstance(code, int) else 0,
                said if isinstance(said, str) else "",
                retry_after_s=_seconds(answer.headers.get("Retry-After")),
                posted=posted,
            )
        return told, answer.headers


def _url(text: str, base: URL | None = None) -> URL | None:
    """The address of a server; None if it is not one."""
    try:
        url = URL(text) if base is None else base.join(URL(text))
        return url if url.scheme in ("http", "https") and url.host else None
    except ValueError:
        return None


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(2**14):
        body += chunk
        if len(body) > most:
            break
    return bytes(body)


async def _save(answer: aiohttp.ClientResponse, mime: str, into: Path, most: int) -> None:
    if answer.status == 429 or answer.status >= 500:
        raise TransportDown(f"Twilio said: {answer.status}")
    if answer.status != 200:
        raise DeliveryRefused(f"Twilio does not have it: {answer.status}")
    if answer.content_type.lower() != mime.partition(";")[0].strip().lower():
        raise DeliveryRefused(f"it is {answer.content_type[:60]}, but its message says {mime[:60]}")
    size = answer.content_length or 0
    with await asyncio.to_thread(into.open, "wb") as target:
        if size <= most:
            size = 0
            async for chunk in answer.content.iter_chunked(2**16):
                size += len(chunk)
                if size > most:
                    break
                await asyncio.to_thread(target.write, chunk)
    if size > most:
        raise DeliveryRefused(f"it has more than {most:,} bytes")


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; empty where there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
