"""The Web API, narrowed to what the bot does. It never repeats a request: whoever holds the message decides that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from gateway.errors import TransportDown, TransportRefused
from transports.slack import errors
from transports.slack.config import SlackConfig
from transports.slack.manifest import NEEDED, WANTED
from transports.slack.me import Me

log = logging.getLogger(__name__)

#: Seconds for one ordinary request.
DEADLINE_S = 15.0
# What the SDK logs at DEBUG has messages in it.
_sdk_log = logging.getLogger("slack_sdk.quiet")
_sdk_log.setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Login:
    """Who the token belongs to, and Slack's clock (seconds since 1970; 0 if Slack did not say)."""

    me: Me
    clock: float


class Api:
    """One app's access to one workspace."""

    def __init__(
        self, config: SlackConfig, session: aiohttp.ClientSession, refused: Callable[[TransportRefused], None]
    ) -> None:
        """`refused` is told of a token that Slack does not accept (any more)."""
        self._config = config
        self._refused = refused
        self.session = session
        #: Set when Slack could not be reached: the token should be checked.
        self.doubts = asyncio.Event()
        self.client = AsyncWebClient(
            token=config.bot_token,
            base_url=config.api_base_url,
            session=session,
            logger=_sdk_log,
            retry_handlers=[],  # the SDK's own handlers post again after a lost connection
        )
        self.client.proxy = None  # the session knows the environment's proxies, and when not to use them

    async def call(
        self, request: Awaitable[AsyncSlackResponse], deadline_s: float = DEADLINE_S
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Await a request of the SDK; returns the decoded answer and its headers.

        Raises:
            TransportDown, DeliveryRefused, TransportRefused: what went wrong.
        """
        try:
            with errors.translated():
                async with asyncio.timeout(deadline_s):
                    response = await request
        except errors.AccountRefused as error:
            self._refused(error)
            raise
        except TransportDown as error:
            if error.retry_after_s is None:  # otherwise it is there, and busy
                self.doubts.set()
            raise
        if not isinstance(response.data, dict):
            raise errors.from_answer({}, response.status_code, {})
        return response.data, response.headers

    async def log_in(self) -> Login:
        """Check the token. Raises as `call` does; TransportRefused also for an app that we cannot serve."""
        data, headers = await self.call(self.client.auth_test())
        if data.get("is_enterprise_install"):
            raise TransportRefused(
                "this Slack app is installed for a whole organisation, but only one workspace is supported; "
                "install it into one workspace and use that bot token"
            )
        _check_scopes(headers)
        me = Me(
            user_id=str(data.get("user_id", "")),
            team_id=str(data.get("team_id", "")),
            names=tuple(dict.fromkeys(name for name in (str(data.get("user", "")), self._config.bot_name) if name)),
            apps=self._config.apps,
        )
        return Login(me, _clock(headers))

    async def open_socket(self) -> str:
        """Get a fresh address for one socket. Raises as `call` does."""
        data, _ = await self.call(self.client.apps_connections_open(app_token=self._config.app_token))
        return str(data.get("url", ""))


def granted(headers: Mapping[str, str]) -> set[str] | None:
    """The scopes of the token that an answer is for; None if Slack does not say."""
    told = next((value for name, value in headers.items() if name.lower() == "x-oauth-scopes"), None)
    return None if told is None else {scope.strip() for scope in told.split(",")}


def _check_scopes(headers: Mapping[str, str]) -> None:
    """Say which scopes the app lacks, if Slack tells. Raises TransportRefused."""
    has = granted(headers)
    if has is None:
        return
    if missing := [scope for scope in NEEDED if scope not in has]:
        raise TransportRefused(
            f"the Slack app lacks the scope {', '.join(missing)}; add it under OAuth & Permissions and install "
            "the app again"
        )
    for scope, use in WANTED.items():
        if scope not in has:
            log.warning("slack: the scope %s is missing, so the bot does without: %s", scope, use)


def _clock(headers: Mapping[str, str]) -> float:
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return 0.0
