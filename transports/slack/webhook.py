"""HTTP mode: what Slack posts to `/webhooks/slack`. The signature comes first, the answer after the commit."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from gateway.errors import StateError
from transports.slack.intake import Intake, Payload

if TYPE_CHECKING:
    from transports.slack.app import App

log = logging.getLogger(__name__)

PATH = "/webhooks/slack"

#: Bytes of a request.
MOST_BYTES = 2**20
#: Seconds that a request's body may take, and that our clock and Slack's may differ.
BODY_S, SKEW_S = 10.0, 300
#: Seconds after which we tell Slack that we have not committed; it gives up after three.
_COMMIT_S = 2.8
_FIELDS = 50
_DIGITS = 12
#: Seconds between two lines about requests that were refused.
_QUIET_S = 60.0


class Webhook:
    """The route; `open` is set while the transport runs."""

    def __init__(self, signing_secret: str, clock: Callable[[], float] = time.time, body_s: float = BODY_S) -> None:
        self._secret = signing_secret.encode()
        self._clock = clock
        self._body_s = body_s
        self._warned = 0.0
        self.open: tuple[Intake, App] | None = None

    def routes(self) -> list[web.RouteDef]:
        """What the gateway's HTTP server serves."""
        return [web.post(PATH, self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request from Slack, or from somebody who pretends to be Slack."""
        stamp, signature = _header(request, "X-Slack-Request-Timestamp"), _header(request, "X-Slack-Signature")
        if not stamp.isdigit() or len(stamp) > _DIGITS or not signature:
            return _no(401)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return _no(415)
        if (request.content_length or 0) > MOST_BYTES:
            return _no(413)
        try:
            # A body that has already arrived, as nearly all have, needs no deadline.
            async with asyncio.timeout(None if request.content.is_eof() else self._body_s):
                body = await _read(request)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            return _no(408)
        if body is None:
            return _no(413)
        if not self.is_signed(stamp, signature, body):
            self._warn("a request without a valid signature was refused")
            return _no(401)
        if abs(self._clock() - int(stamp)) > SKEW_S:
            self._warn(
                f"a signed request is {self._clock() - int(stamp):.0f} s old and was refused: "
                "is this host's clock right? If it is, somebody is replaying requests"
            )
            return _no(401)
        payload = _parsed(request.content_type, body)
        return _no(400) if payload is None else await self._take(payload)

    def is_signed(self, stamp: bytes, signature: bytes, body: bytes) -> bool:
        """Whether the app's signing secret made `signature` for exactly these bytes."""
        made = hmac.new(self._secret, b"v0:" + stamp + b":" + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(b"v0=" + made.encode(), signature)

    def _warn(self, told: str) -> None:
        """Log a line a minute at most: strangers must not fill the log."""
        if self._clock() - self._warned > _QUIET_S:
            self._warned = self._clock()
            log.warning("slack: %s", told)

    async def _take(self, payload: Payload) -> web.Response:
        if payload.get("type") == "url_verification":
            return web.json_response({"challenge": str(payload.get("challenge", ""))[:1000]})
        if "ssl_check" in payload:
            return web.Response()
        if self.open is None:
            return _no(503)
        intake, app = self.open
        try:
            async with asyncio.timeout(_COMMIT_S):
                # What is in line stays there when this request ends: Slack sends it again, and the inbox recognises it.
                committed = asyncio.shield(await intake.offer(payload))
                acknowledgement = await app.acknowledge(payload, committed)
        except (StateError, TimeoutError):
            return _no(503)
        return web.Response() if acknowledgement.body is None else web.json_response(acknowledgement.body)


async def _read(request: web.Request) -> bytes | None:
    """The raw body; None when it is too long."""
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def _parsed(kind: str, body: bytes) -> Mapping[str, Any] | None:
    """The payload of a signed request: JSON, a form with JSON in it, or the form of a command."""
    try:
        if kind != "application/x-www-form-urlencoded":
            found = msgspec.json.decode(body)
            return found if isinstance(found, dict) else None
        form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict")
        fields = {name: values[0] for name, values in form.items()}
        if "payload" not in fields:
            return fields if "command" in fields or "ssl_check" in fields else None
        found = msgspec.json.decode(fields["payload"])
        return found if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None


def _header(request: web.Request, name: str) -> bytes:
    return request.headers.get(name, "").encode("utf-8", "surrogateescape")


def _no(status: int) -> web.Response:
    return web.Response(status=status, text="")
