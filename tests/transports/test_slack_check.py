"""Live checks of a Slack app, against the stand-in of its API: each fault in its own words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.chat.finding import Finding, Verdict
from tests.support.slack_server import SlackServer, refusing
from transports.slack import SlackConfig
from transports.slack.check import check


@pytest.fixture
async def server() -> AsyncIterator[SlackServer]:
    async with SlackServer() as made:
        yield made


async def found(server: SlackServer, **settings: Any) -> dict[str, Finding]:
    """What a check finds, by name; the canaries of its tokens are nowhere."""
    defaults: dict[str, Any] = {"mode": "socket", "bot_token": "xoxb-canary", "app_token": "xapp-canary"}
    config = SlackConfig(**(defaults | {"api_base_url": server.api_url} | settings))
    findings = await check(config)
    assert "canary" not in str(findings)
    return {finding.name: finding for finding in findings}


async def test_an_app_that_is_well(server: SlackServer) -> None:
    told = await found(server)
    assert {name: finding.verdict for name, finding in told.items()} == {
        "slack.bot_token": Verdict.OK,
        "slack.scopes": Verdict.OK,
        "slack.clock": Verdict.OK,
        "slack.app_token": Verdict.OK,
    }
    assert told["slack.bot_token"].text == "@huskies in the workspace Huskies"
    assert server.connections == 0, "an address was asked for, no socket was opened"


async def test_over_http_no_socket_is_asked_for(server: SlackServer) -> None:
    told = await found(server, mode="http", app_token="", signing_secret="canary")
    assert "slack.app_token" not in told
    assert server.called("apps.connections.open") == 0


@pytest.mark.parametrize("error", ["invalid_auth", "token_revoked", "account_inactive"])
async def test_a_refused_bot_token(server: SlackServer, error: str) -> None:
    server.faults["auth.test"] = refusing(error)
    told = (await found(server))["slack.bot_token"]
    assert told.broken
    assert f"Slack refuses bot_token ({error})" in told.text
    assert "OAuth & Permissions" in told.text


async def test_a_persons_token_in_the_bots_place(server: SlackServer) -> None:
    server.auth = {"bot_id": None}
    told = (await found(server))["slack.bot_token"]
    assert told.broken
    assert "a person's, not a bot's" in told.text


async def test_an_app_of_a_whole_organisation(server: SlackServer) -> None:
    server.auth = {"is_enterprise_install": True}
    assert "only one workspace is supported" in (await found(server))["slack.bot_token"].text


async def test_a_scope_that_is_needed_is_missing(server: SlackServer) -> None:
    server.scopes = server.scopes.replace("groups:history,", "")
    told = (await found(server))["slack.scopes"]
    assert told.broken
    assert told.text.startswith("groups:history is missing: add it under OAuth & Permissions")
    assert "install the app again" in told.text


async def test_a_scope_that_is_only_wanted_is_a_hint(server: SlackServer) -> None:
    server.scopes = server.scopes.replace("reactions:write,", "")
    told = (await found(server))["slack.scopes"]
    assert told.verdict is Verdict.HINT
    assert "reactions:write is missing, so the bot does without fates as reactions" in told.text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("not_allowed_token_type", "the wrong kind of token"),
        ("missing_scope", "lacks the scope connections:write"),
        ("socket_mode_not_enabled", "Socket Mode is switched off"),
        ("invalid_auth", "Slack refuses app_token (invalid_auth)"),
    ],
)
async def test_a_socket_that_cannot_be_had(server: SlackServer, error: str, words: str) -> None:
    server.faults["apps.connections.open"] = refusing(error)
    told = await found(server)
    assert told["slack.app_token"].broken
    assert words in told["slack.app_token"].text
    assert told["slack.bot_token"].verdict is Verdict.OK, "the other token is not blamed"


@pytest.mark.parametrize(
    ("mode", "skew_s", "verdict", "words"),
    [
        ("socket", 30, Verdict.OK, "ok"),
        ("socket", -900, Verdict.HINT, "this host's clock is 15 min ahead of Slack's"),
        ("http", 120, Verdict.HINT, "this host's clock is 2 min behind Slack's; beyond 5 min"),
        ("http", 900, Verdict.BROKEN, "its requests are refused"),
    ],
)
async def test_a_clock_that_is_off(server: SlackServer, mode: str, skew_s: float, verdict: Verdict, words: str) -> None:
    server.skew_s = skew_s
    told = (await found(server, mode=mode))["slack.clock"]
    assert told.verdict is verdict
    assert words in told.text


async def test_nothing_answers(unused_port: int, server: SlackServer) -> None:
    told = await found(server, api_base_url=f"http://127.0.0.1:{unused_port}/api/")
    assert "Slack cannot be reached" in told["slack.bot_token"].text
    assert "Slack cannot be reached" in told["slack.app_token"].text
