"""Every failure of the Matrix SDK as an error of ours. Nothing of the SDK's leaves this package."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import peewee  # type: ignore[import-untyped]  # under the SDK's key store
import vodozemac
from nio import exceptions as nio_errors
from nio.responses import ErrorResponse

from gateway.errors import (
    DeliveryRefused,
    HuskiesError,
    TooLong,
    TransportDown,
    TransportError,
    TransportRefused,
)

log = logging.getLogger(__name__)

_TOKEN = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"})
#: The account cannot be used, whatever the token: only a person can help.
_ACCOUNT = frozenset({"M_USER_DEACTIVATED", "M_USER_LOCKED", "M_USER_SUSPENDED"})
#: The server itself asks us to try later.
_LATER = frozenset({"M_LIMIT_EXCEEDED", "M_RESOURCE_LIMIT_EXCEEDED"})
#: Will fail again in the same way, whatever the HTTP status.
_NEVER = frozenset({"M_BAD_JSON", "M_NOT_JSON", "M_INVALID_PARAM", "M_NOT_FOUND"})

#: The file with the keys cannot be used.
STORE_ERRORS = (OSError, sqlite3.Error, peewee.PeeweeException)

_DOWN = (
    *STORE_ERRORS,
    aiohttp.ClientError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    nio_errors.ProtocolError,
    nio_errors.GroupEncryptionError,
    nio_errors.TransferCancelledError,
)
_REFUSED = (
    nio_errors.OlmTrustError,
    nio_errors.VerificationError,
    nio_errors.EncryptionError,
    vodozemac.MegolmDecryptionException,
    vodozemac.DecodeException,
)


class TokenRefused(TransportRefused):
    """The homeserver does not know this access token (any more)."""


class Forbidden(DeliveryRefused):
    """The homeserver does not let this account do that, as things are."""


class KeysLost(TransportRefused):
    """The keys of this device are gone, while the homeserver still has the device."""


def from_response(response: ErrorResponse) -> TransportError:
    """The error that an answer of the homeserver means. The caller raises it."""
    code = str(response.status_code or "")
    status = getattr(response.transport_response, "status", 0)
    said = f"the homeserver said: {code} {str(response.message)[:200]}".strip()
    if code in _ACCOUNT:
        return TransportRefused(said)
    if code in _TOKEN:
        return TokenRefused(said)
    if code in _LATER or status == 429:
        return TransportDown(said, retry_after_s=_retry_after_s(response))
    if status == 413 or code == "M_TOO_LARGE":
        return TooLong(said)
    if code == "M_FORBIDDEN":
        return Forbidden(said)
    if code in _NEVER:
        return DeliveryRefused(said)
    # A proxy in front of a stopped homeserver answers 4xx and 5xx without an error code.
    if status >= 500 or not code:
        return TransportDown(said)
    return DeliveryRefused(said)


def _retry_after_s(response: ErrorResponse) -> float | None:
    """Seconds that the server asks for, from the body or, where the body does not say, the header."""
    if isinstance(response.retry_after_ms, int):
        return float(response.retry_after_ms) / 1000
    headers = getattr(response.transport_response, "headers", None) or {}
    try:
        return float(headers["Retry-After"])
    except (KeyError, ValueError):
        return None


def from_exception(error: Exception) -> HuskiesError:
    """The error that an exception of the SDK, or of what it stands on, means."""
    if isinstance(error, HuskiesError):
        return error
    if isinstance(error, sqlite3.Error | peewee.PeeweeException):
        return TransportDown(f"the key store cannot be used: {error}")
    if isinstance(error, aiohttp.InvalidURL):
        return TransportRefused("correct transports.matrix.homeserver: it is not the address of a server")
    if isinstance(error, TimeoutError):
        return TransportDown("the homeserver did not answer in time")
    if isinstance(error, _DOWN):
        return TransportDown(f"the homeserver cannot be reached: {type(error).__name__}: {str(error)[:200]}")
    if isinstance(error, _REFUSED):
        return DeliveryRefused(f"the message could not be encrypted: {type(error).__name__}")
    # A bug, here or in the SDK. Its text may quote a message, so only its place is logged.
    log.error("unexpected %s in the Matrix SDK", type(error).__name__)
    return TransportDown(f"the Matrix SDK failed: {type(error).__name__}")


@contextmanager
def translated() -> Iterator[None]:
    """Let only errors of ours out of the block."""
    try:
        yield
    except Exception as error:
        raise from_exception(error) from error
