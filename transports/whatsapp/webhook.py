"""What Twilio posts to us: read within limits, and believed only with its signature over our configured address."""

from __future__ import annotations

import asyncio
import logging
import re
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict
from twilio.request_validator import RequestValidator, compare

from transports.whatsapp.config import WhatsAppConfig

log = logging.getLogger(__name__)

PATH = "/webhooks/whatsapp"
STATUS_PATH = f"{PATH}/status"

#: Bytes and fields of a request; Twilio sends about thirty fields, and 4,096 characters of text at most.
MOST_BYTES, MOST_FIELDS = 2**16, 200
#: What docs/whatsapp.md tells people to put after the address, so that Twilio tries again after any failure. It is
#: never sent to us, and may be part of what is signed.
OVERRIDES = "#rc=5&rp=all"
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{27}=")

Form = MultiDict[str]


class Refused(Exception):
    """A request that is not taken."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Doorkeeper:
    """Tells Twilio's requests from all others."""

    def __init__(self, config: WhatsAppConfig) -> None:
        self._config = config
        self._validator = RequestValidator(config.auth_token)

    async def admit(self, request: web.Request, path: str) -> Form:
        """The fields of a request from Twilio to `path`.

        Raises:
            Refused: it is not signed (403), too large (413), too slow (408), compressed (415) or not a form (400).
        """
        signature = request.headers.get("X-Twilio-Signature", "")
        if not _SIGNATURE.fullmatch(signature):
            raise Refused(403)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused(415)
        body = await self._read(request)
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
        except ValueError:
            raise Refused(400) from None
        form = MultiDict(fields)
        if not self.is_signed(path, request.rel_url.raw_query_string, form, signature):
            log.warning("whatsapp: a request without a valid signature was refused")
            raise Refused(403)
        if form.get("AccountSid") != self._config.account_sid:
            log.warning("whatsapp: a request of another Twilio account was refused")
            raise Refused(403)
        return form

    def is_signed(self, path: str, query: str, form: Form, signature: str) -> bool:
        """Whether the account's token made `signature` for these fields, posted to our address."""
        # Never the address that the request names: a proxy, or a stranger, decides that one.
        url = self._config.public_url.rstrip("/") + path + (f"?{query}" if query else "")
        try:
            # The address as configured comes first: it is nearly always the right one, and each try costs as much.
            if compare(self._validator.compute_signature(url, form), signature):
                return True
            return any(self._validator.validate(url + ending, form, signature) for ending in ("", OVERRIDES))
        except (ValueError, TypeError, UnicodeError):  # the validator's own, about odd addresses and texts
            return False

    async def _read(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > MOST_BYTES:
            raise Refused(413)
        body = bytearray()
        try:
            # A body that has already arrived, as nearly all have, needs no deadline.
            async with asyncio.timeout(None if request.content.is_eof() else self._config.body_s):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise Refused(413)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise Refused(408) from None
        return bytes(body)
