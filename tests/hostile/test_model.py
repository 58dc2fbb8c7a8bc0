"""What a container asks of the model's API to harm the others: their key, and what it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.events import Event, KeyRefused
from tests.support.claude_api import ClaudeApi, script
from tests.support.proxy import KEY, KEY_REFUSED, TOKEN, Proxy, body, project_of, served


@pytest.fixture
async def api() -> AsyncIterator[ClaudeApi]:
    async with ClaudeApi(require_key=KEY) as api:
        yield api


HEADERS = {
    "X-Evil": "1",
    "Anthropic-Organization-Id": "another",
    "X-Api-Key-Id": "another",
    "Proxy-Authorization": "Basic eDp5",
    "X-Forwarded-For": "10.0.0.1",
    "Cookie": "session=another",
    "Accept-Encoding": "br",
}


async def test_only_what_a_client_of_the_api_sends_goes_on(api: ClaudeApi) -> None:
    plain = {
        "anthropic-version": "2023-06-01",
        "x-stainless-lang": "js",
        "x-app": "cli",
        "content-type": "application/json",
    }
    sent = {**TOKEN, **HEADERS, **plain}
    async with project_of(Proxy(api.base_url)) as project, project.post(body("hi"), headers=sent) as response:
        assert response.status == 200
    (request,) = api.requests
    assert plain.items() <= request.headers.items()
    assert not {name.lower() for name in HEADERS} - {"accept-encoding"} & request.headers.keys()
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_request_that_is_refused_is_no_alarm_about_everybodys_key(api: ClaudeApi, status: int) -> None:
    """The gateway's own question decides; the project gets the provider's answer, and others never hear of it."""
    told = list[Event]()
    proxy = Proxy(api.base_url, heard=told.append)
    async with project_of(proxy) as project:
        for _ in range(5):
            async with project.post(body(script({"http": status}))) as response:
                assert response.status == status
        assert proxy.key_problem == ""
        async with project.post(body("hi")) as response:
            assert response.status == 200
    assert told == []
    assert sum(request.path == "/v1/models?limit=1" for request in api.requests) == 1, "and it does not ask each time"


async def test_a_key_that_the_gateway_is_refused_too_is_one() -> None:
    told = list[Event]()

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"type": "error", "error": {"type": "authentication_error"}}, status=401)

    async with served([web.route("*", "/{path:.*}", refuse)]) as base:
        proxy = Proxy(base, heard=told.append)
        async with project_of(proxy) as project:
            assert await project.error(body("hi")) == (401, "authentication_error", KEY_REFUSED)
    assert told == [KeyRefused(KEY_REFUSED)]


async def test_a_provider_that_does_not_answer_the_gateway_refuses_nothing() -> None:
    told = list[Event]()

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.path == "/v1/models" else 401)

    async with served([web.route("*", "/{path:.*}", refuse)]) as base:
        proxy = Proxy(base, heard=told.append)
        async with project_of(proxy) as project, project.post(body("hi")) as response:
            assert response.status == 401
    assert told == []
