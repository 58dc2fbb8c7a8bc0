"""Files that we send: WhatsApp fetches them from us, at addresses that are signed and expire."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable

from aiohttp import web

from gateway.chat import OutgoingFile
from gateway.errors import DeliveryRefused

PATH = "/media/"

#: Bytes that WhatsApp takes; fewer for pictures.
MOST, MOST_IMAGE = 16 * 2**20, 5 * 2**20
_TOKEN = re.compile(r"([0-9a-f]{32})\.(\d{1,12})\.([0-9a-f]{64})")
#: Text under other names.
_TEXTS = frozenset({"application/json", "application/xml", "application/toml", "application/yaml", "application/x-sh"})
_OFFICE = frozenset({"text/vcard", "text/x-vcard"})


class Shelf:
    """The files that can be fetched now: those that were lent and have not expired."""

    def __init__(self, auth_token: str, public_url: str, lend_s: float, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(auth_token.encode(), b"huskies media", "sha256")
        self._url = public_url.rstrip("/") + PATH
        self._lend_s = lend_s
        self._clock = clock
        self._lent: dict[str, tuple[float, OutgoingFile]] = {}

    def lend(self, file: OutgoingFile) -> str:
        """An address at which `file` can be fetched for a while.

        Raises:
            DeliveryRefused: it is larger than WhatsApp takes.
        """
        limit = MOST_IMAGE if file.mime.startswith("image/") else MOST
        if file.size > limit:
            raise DeliveryRefused(f"{file.name} has {file.size:,} bytes; WhatsApp takes at most {limit:,}")
        now = self._clock()
        self._lent = {key: lent for key, lent in self._lent.items() if lent[0] > now}
        name, until = secrets.token_hex(16), int(now + self._lend_s) + 1
        self._lent[name] = (until, file)
        return f"{self._url}{name}.{until}.{self._sign(name, str(until))}"

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer Twilio, or whoever else has the address."""
        found = _TOKEN.fullmatch(request.match_info["token"])
        if found is None or not hmac.compare_digest(self._sign(found[1], found[2]), found[3]):
            return web.Response(status=404)
        if int(found[2]) <= self._clock():
            return web.Response(status=410)
        _, file = self._lent.get(found[1], (0.0, None))
        if file is None or not file.path.is_file():
            return web.Response(status=404)
        headers = {
            "Content-Type": _served_as(file.mime),
            "Content-Disposition": f'inline; filename="{_ascii(file.name)}"',
            "Cache-Control": "private, no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return web.FileResponse(file.path, headers=headers)

    def _sign(self, name: str, until: str) -> str:
        return hmac.digest(self._key, f"{name}.{until}".encode(), "sha256").hex()


def _served_as(mime: str) -> str:
    """The type that Twilio is told: source code and data count as plain text, and nothing runs in a browser."""
    if (mime.startswith("text/") and mime not in _OFFICE) or mime in _TEXTS:
        return "text/plain; charset=utf-8"
    return mime


def _ascii(name: str) -> str:
    """A file's name, fit for a header and short, as WhatsApp shows it."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_") or "file"
    stem, dot, suffix = name.rpartition(".")
    return f"{stem[: 40 - len(suffix)]}{dot}{suffix}" if dot and len(suffix) < 12 else name[:40]
