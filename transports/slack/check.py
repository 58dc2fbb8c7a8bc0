"""Live checks of a Slack app: its tokens, its scopes, its socket, and the two clocks. No socket is opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from gateway import outbound
from gateway.chat.finding import LOOK_S, Finding, broken, clock, hint, ok
from gateway.errors import TransportError
from transports.slack.api import Api, granted
from transports.slack.config import SlackConfig
from transports.slack.errors import code_of
from transports.slack.manifest import NEEDED, WANTED
from transports.slack.webhook import SKEW_S

_ADD = "add it under OAuth & Permissions, Bot Token Scopes, then install the app again (Install App)"
_BOT_TOKEN = "copy the Bot User OAuth Token (xoxb-...) from OAuth & Permissions into transports.slack.bot_token"
_APP_TOKEN = (
    "make one under Basic Information, App-Level Tokens, with the scope connections:write, and put it (xapp-...) into "
    "transports.slack.app_token"
)
#: Slack's codes for a socket that it does not give, and what to do.
_SOCKET_REFUSALS = {
    "not_allowed_token_type": f"app_token is the wrong kind of token: {_APP_TOKEN}",
    "missing_scope": f"app_token lacks the scope connections:write: {_APP_TOKEN}",
    "no_permission": f"app_token lacks the scope connections:write: {_APP_TOKEN}",
    "socket_mode_not_enabled": (
        "Socket Mode is switched off for this Slack app: switch it on under Socket Mode, or set "
        'transports.slack.mode = "http"'
    ),
}
#: Refusals that a new token would fix.
_TOKEN_REFUSALS = frozenset(
    {"account_inactive", "invalid_auth", "not_allowed_token_type", "not_authed", "token_expired", "token_revoked"}
)


async def check(config: SlackConfig, now: Callable[[], float] = time.time) -> list[Finding]:
    """Ask Slack about our tokens."""
    timeout = aiohttp.ClientTimeout(total=LOOK_S)
    async with outbound.session(timeout=timeout) as session:
        api = Api(config, session, lambda _: None)
        looks = [_bot(api, config, now)]
        if config.mode == "socket":
            looks.append(_socket(api, config))
        return [finding for found in await asyncio.gather(*looks) for finding in found]


async def _bot(api: Api, config: SlackConfig, now: Callable[[], float]) -> list[Finding]:
    name = "slack.bot_token"
    try:
        data, headers = await api.call(api.client.auth_test(), LOOK_S)
    except TransportError as error:
        code = code_of(error)
        told = f"Slack refuses bot_token ({code}): {_BOT_TOKEN}" if code in _TOKEN_REFUSALS else str(error)
        return [broken(name, told)]
    ours = now()
    limit_s = float(SKEW_S) if config.mode == "http" else None
    return [
        _account(name, data),
        *_scopes(headers),
        *clock("slack.clock", "Slack", headers, ours, refused_above_s=limit_s),
    ]


def _account(name: str, data: Mapping[str, Any]) -> Finding:
    if data.get("is_enterprise_install"):
        return broken(
            name,
            "this Slack app is installed for a whole organisation, but only one workspace is supported; "
            "install it into one workspace and use that bot token",
        )
    if not data.get("bot_id"):
        return broken(name, f"bot_token is a person's, not a bot's: {_BOT_TOKEN}")
    return ok(name, f"@{data.get('user', '?')} in the workspace {data.get('team', '?')}")


def _scopes(headers: Mapping[str, str]) -> list[Finding]:
    """One finding for each missing scope; none if Slack does not say which there are."""
    has = granted(headers)
    if has is None:
        return []
    name = "slack.scopes"
    missing = [broken(name, f"{scope} is missing: {_ADD}") for scope in NEEDED if scope not in has]
    missing += [
        hint(name, f"{scope} is missing, so the bot does without {use}. If you want that: {_ADD}")
        for scope, use in WANTED.items()
        if scope not in has
    ]
    return missing or [ok(name)]


async def _socket(api: Api, config: SlackConfig) -> list[Finding]:
    """Ask for the address of a socket, without opening it."""
    name = "slack.app_token"
    try:
        await api.call(api.client.apps_connections_open(app_token=config.app_token), LOOK_S)
    except TransportError as error:
        code = code_of(error)
        told = _SOCKET_REFUSALS.get(code)
        if told is None and code in _TOKEN_REFUSALS:
            told = f"Slack refuses app_token ({code}): {_APP_TOKEN}"
        return [broken(name, told or str(error))]
    return [ok(name, "Socket Mode is on")]
