"""Every failure of Twilio's API as an error of ours. Nothing of the HTTP client's leaves this package."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from gateway.errors import (
    DeliveryHeld,
    DeliveryRefused,
    HuskiesError,
    OutcomeUnknown,
    TooLong,
    TransportDown,
    TransportError,
    TransportRefused,
)

log = logging.getLogger(__name__)

#: The person's last message is more than 24 hours old.
WINDOW = 63016
#: They wrote STOP to Twilio.
_OPTED_OUT = 21610
#: The body has more than 1,600 characters.
_TOO_LONG = 21617
#: Not taken because of a limit, so another try is safe.
_LATER = frozenset({14107, 20429, 21611, 30001, 63018, 63038})
#: The account, its token or the number cannot be used: only a person can help.
_ACCOUNT = frozenset({20003, 20005, 21212, 21606, 21660, 63007})

#: Raised before anything was sent.
_BEFORE = (
    aiohttp.ClientConnectorError,  # includes what DNS and TLS say
    aiohttp.ConnectionTimeoutError,
)


class WindowClosed(DeliveryHeld):
    """It cannot be sent before the person writes again."""


def from_answer(status: int, code: int, said: str, *, retry_after_s: float | None, posted: bool) -> TransportError:
    """The error that an answer other than success means. The caller raises it.

    Args:
        status: of HTTP.
        code: Twilio's own; 0 if it gave none.
        said: its words.
        retry_after_s: the pause that Twilio asks for.
        posted: the request, had it been processed, would have sent something.
    """
    told = f"Twilio said: {status} {code or ''} {said[:200]}".strip()
    if code == WINDOW:
        return WindowClosed()
    if status == 429 or code in _LATER:
        return TransportDown(told, retry_after_s=retry_after_s)
    if code == _OPTED_OUT:
        return DeliveryHeld("the person opted out of your messages: they have to write START")
    if code == _TOO_LONG:
        return TooLong(told)
    if status == 401 or code in _ACCOUNT:
        return TransportRefused(f"correct transports.whatsapp in the configuration: {told}")
    if status >= 500 or status < 400:
        return OutcomeUnknown(told) if posted else TransportDown(told)
    return DeliveryRefused(told)


def from_exception(error: Exception, *, posted: bool) -> HuskiesError:
    """The error that an exception of the HTTP client, or of what it stands on, means."""
    if isinstance(error, HuskiesError):
        return error
    if isinstance(error, aiohttp.InvalidURL):
        return TransportRefused("correct transports.whatsapp.api_base_url: it is not the address of a server")
    told = f"Twilio did not answer: {type(error).__name__}"
    if isinstance(error, _BEFORE) or not posted:
        kind: type[TransportError] = TransportDown
    else:
        kind = OutcomeUnknown
    if not isinstance(error, aiohttp.ClientError | OSError | ValueError):
        # A bug. Its text may quote a message, so only its kind is logged.
        log.error("unexpected %s while talking to Twilio", type(error).__name__)
    return kind(told)


@contextmanager
def translated(*, posted: bool) -> Iterator[None]:
    """Let only errors of ours out of the block."""
    try:
        yield
    except Exception as error:
        raise from_exception(error, posted=posted) from error
