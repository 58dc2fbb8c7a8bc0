"""Every failure of the Slack SDK as an error of ours. Nothing of the SDK's leaves this package."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
from slack_sdk import errors as slack_errors

from gateway.errors import (
    DeliveryHeld,
    DeliveryRefused,
    HuskiesError,
    TooLong,
    TransportDown,
    TransportError,
    TransportRefused,
)

log = logging.getLogger(__name__)

#: The token is not valid, or the workspace does not allow the bot: only a person can help.
_ACCOUNT = frozenset(
    {
        "account_inactive",
        "app_access_not_granted",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "not_allowed_token_type",
        "not_authed",
        "org_login_required",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
    }
)
#: Slack itself asks us to try later.
_LATER = frozenset(
    {
        "accesslimited",
        "fatal_error",
        "internal_error",
        "rate_limited",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
        "teams_not_found",
    }
)
_BLOCKS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
#: What depends on the room: it may change, and then the message goes out.
_HINTS = {
    "not_in_channel": "invite the bot into the channel: /invite @<bot>",
    "channel_not_found": "the bot is not in that conversation: /invite @<bot>",
    "is_archived": "the channel is archived: unarchive it",
    "restricted_action": "the workspace's settings do not let the bot write there",
    "restricted_action_read_only_channel": "the channel is read-only: let the bot write there",
    "restricted_action_thread_only_channel": "the channel takes replies in threads only",
}


class BlocksRefused(DeliveryRefused):
    """Slack rejects the layout of a message; it may still take the words alone."""


class AccountRefused(TransportRefused):
    """Slack does not accept this token (any more)."""


class Undone(TransportDown):
    """Slack has certainly not done what it was asked; another try cannot repeat anything."""


def from_answer(data: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> TransportError:
    """The error that an answer from Slack means. The caller raises it."""
    code = data.get("error")
    code = code if isinstance(code, str) else ""
    if code in _ACCOUNT:
        return AccountRefused(f"Slack refuses the token: {code}; check bot_token and app_token in transports.slack")
    if code in ("missing_scope", "no_permission"):
        return TransportRefused(_missing(data))
    if status == 429 or code in ("ratelimited", "rate_limited"):
        return Undone(f"Slack asks for a pause ({code or status})", retry_after_s=_retry_after_s(headers))
    if status >= 500 or code in _LATER or not code:
        return TransportDown(f"Slack cannot answer now ({code or status})")
    hint = _HINTS.get(code)
    told = f"Slack said {code}{f': {hint}' if hint else ''}"
    if code in _HINTS:
        return DeliveryHeld(told)
    if code == "msg_too_long":
        return TooLong(told)
    return BlocksRefused(told) if code in _BLOCKS else DeliveryRefused(told)


def code_of(error: TransportError) -> str:
    """Slack's own code for a refusal; empty if it gave none."""
    cause = error.__cause__
    data = getattr(getattr(cause, "response", None), "data", None)
    code = data.get("error") if isinstance(data, dict) else None
    return code if isinstance(code, str) else ""


def _missing(data: Mapping[str, Any]) -> str:
    needed = data.get("needed")
    which = needed if isinstance(needed, str) and needed else "(Slack does not say which)"
    return f"the Slack app lacks the scope {which}; add it under OAuth & Permissions and install the app again"


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that Slack asks us to wait; one if it does not say."""
    for name, value in headers.items():
        if name.lower() == "retry-after":
            try:
                return min(max(float(value), 0.0), 3600.0)
            except ValueError:
                break
    return 1.0


def from_exception(error: Exception) -> HuskiesError:
    """The error that an exception of the SDK, or of what it stands on, means."""
    if isinstance(error, HuskiesError):
        return error
    if isinstance(error, slack_errors.SlackApiError):
        response = error.response
        data = getattr(response, "data", response)
        status = getattr(response, "status_code", None) or getattr(response, "status", None) or 0
        headers = getattr(response, "headers", None) or {}
        return from_answer(data if isinstance(data, dict) else {}, int(status), headers)
    if isinstance(error, aiohttp.InvalidURL):
        return TransportRefused("correct transports.slack.api_base_url: it is not the address of a server")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Undone(f"Slack cannot be reached: {type(error).__name__}: {str(error)[:200]}")
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text has the address in it, which may hold a ticket.
        return TransportDown(f"Slack cannot be reached: {type(error).__name__} {error.status}")
    if isinstance(error, TimeoutError):
        return TransportDown("Slack did not answer in time")
    if isinstance(error, slack_errors.SlackRequestError | slack_errors.SlackObjectFormationError):
        return DeliveryRefused(f"Slack did not accept it: {type(error).__name__}")
    if isinstance(error, slack_errors.BotUserAccessError | slack_errors.SlackTokenRotationError):
        return AccountRefused("Slack needs another kind of token: bot_token must begin with xoxb-")
    if isinstance(
        error, aiohttp.ClientError | OSError | json.JSONDecodeError | UnicodeDecodeError | slack_errors.SlackClientError
    ):
        return TransportDown(f"Slack cannot be reached: {type(error).__name__}: {str(error)[:200]}")
    # A bug, here or in the SDK. Its text may quote a message, so only its place is logged.
    log.error("unexpected %s in the Slack SDK", type(error).__name__)
    return TransportDown(f"the Slack SDK failed: {type(error).__name__}")


@contextmanager
def translated() -> Iterator[None]:
    """Let only errors of ours out of the block."""
    try:
        yield
    except Exception as error:
        raise from_exception(error) from error
