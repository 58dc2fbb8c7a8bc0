"""A look at a model key, against the stub of the model's API."""

from __future__ import annotations

import pytest
from aiohttp import web

from gateway.chat.finding import Finding, Verdict
from gateway.config import Credential
from gateway.wire.model_check import check
from tests.support.claude_api import ClaudeApi
from tests.support.other_server import other_server

KEY = "sk-ant-api-canary"


async def found(base_url: str, value: str = KEY, kind: str = "api_key") -> Finding:
    told = await check(base_url, Credential("all", kind, value))
    assert "canary" not in told.text
    return told


@pytest.mark.parametrize("kind", ["api_key", "oauth_token"])
async def test_a_key_that_is_taken_cost_nothing(kind: str) -> None:
    async with ClaudeApi(require_key=KEY) as api:
        assert (await found(api.base_url, kind=kind)).verdict is Verdict.OK
        (asked,) = api.requests
        assert (asked.method, asked.path) == ("GET", "/v1/models?limit=1")


async def test_a_key_that_is_refused() -> None:
    async with ClaudeApi(require_key=KEY) as api:
        told = await found(api.base_url, "sk-ant-api-other-canary")
    assert told.broken
    assert "refuses it; copy it again" in told.text


@pytest.mark.parametrize(
    ("status", "kind", "verdict"),
    [
        (403, "api_key", Verdict.BROKEN),
        (403, "oauth_token", Verdict.HINT),
        (404, "api_key", Verdict.HINT),
        (429, "api_key", Verdict.HINT),
        (529, "api_key", Verdict.HINT),
    ],
)
async def test_what_proves_nothing_is_a_hint(status: int, kind: str, verdict: Verdict) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with other_server(answer) as url:
        assert (await found(url, kind=kind)).verdict is verdict


async def test_nobody_answers(unused_port: int) -> None:
    told = await found(f"http://127.0.0.1:{unused_port}")
    assert told.broken
    assert "cannot be reached" in told.text
