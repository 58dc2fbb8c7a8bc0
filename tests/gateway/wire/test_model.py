from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import aiohttp
import pytest

from gateway.wire import model as proxy_module
from gateway.wire.model_keys import NO_KEY
from tests.support.claude_api import ClaudeApi, script
from tests.support.proxy import KEY, STUB, TOKEN, Client, Proxy, body, project_of


@contextlib.asynccontextmanager
async def upstream(answer: bytes) -> AsyncIterator[str]:
    """An API that says `answer` to whatever begins with one byte, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


Make = Callable[..., contextlib.AbstractAsyncContextManager[Client]]


@pytest.fixture
async def api() -> AsyncIterator[ClaudeApi]:
    async with ClaudeApi(require_key=KEY) as api:
        yield api


@pytest.fixture
def make(api: ClaudeApi) -> Make:
    return lambda **how: project_of(Proxy(api.base_url, KEY, "", **how))


@pytest.mark.parametrize(
    ("keys", "header", "value"),
    [
        ((KEY, ""), "x-api-key", KEY),
        (("", KEY), "authorization", f"Bearer {KEY}"),
    ],
)
async def test_the_real_key_arrives_and_the_token_does_not(
    api: ClaudeApi, keys: tuple[str, str], header: str, value: str
) -> None:
    proxy = Proxy(api.base_url, *keys)
    async with project_of(proxy) as project:
        headers = {**TOKEN, "anthropic-beta": "b", "Connection": "x-hop", "X-Hop": "1", "Cookie": "c=1"}
        headers["X-Huskies-Session"] = "s1-0"
        async with project.post(body("hi"), "v1/messages?beta=true&x=%20", headers) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/event-stream"
            assert b"stub ok" in await response.read()

    [request] = api.requests
    assert request.path == "/v1/messages?beta=true&x=%20"
    assert request.headers[header] == value
    assert len({"x-api-key", "authorization"} & request.headers.keys()) == 1
    assert request.headers["anthropic-beta"] == ("b" if header == "x-api-key" else "b,oauth-2025-04-20")
    assert not {"x-hop", "cookie", "x-huskies-session"} & request.headers.keys()
    assert "wire-token" not in str(request.headers)
    assert proxy.told == [("demo", "s1-0", STUB)]


async def test_tokens_are_counted_without_streaming_too(api: ClaudeApi) -> None:
    proxy = Proxy(api.base_url + "/", KEY, "")
    async with project_of(proxy) as project:
        prompt = script({"text": "x", "usage": {"output_tokens": 7}})
        async with project.post(body(prompt, stream=False)) as response:
            assert (await response.json())["content"][0]["text"] == "x"
        async with project.post(body("hi"), "v1/messages/count_tokens") as response:
            assert await response.json() == {"input_tokens": 1234}
    assert proxy.told == [("demo", "", replace(STUB, output_tokens=7))], "asking for a count is no call"


async def test_large_requests_pass(
    make: Make,
) -> None:
    async with make() as project, project.post(body("x" * 5_000_000)) as response:
        assert response.status == 200


async def test_requests_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_BODY", 1000)
    async with make() as project:
        assert (await project.error(b"x" * 1001))[:2] == (413, "request_too_large")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "v1/messages"),
        ("HEAD", ""),
        ("POST", "v1/models"),
        ("POST", "v1/messages/"),
        ("POST", "v1/messages/../files"),
        ("POST", "/v1/messages"),
        ("GET", "v1/organizations/x/api_keys"),
        ("POST", "http://other.example/v1/messages"),
    ],
)
async def test_nothing_else_is_served(api: ClaudeApi, method: str, path: str) -> None:
    async with (
        project_of(Proxy(api.base_url, KEY, "")) as project,
        project.http.request(method, f"{project.base}/model/{path}", headers=TOKEN) as response,
    ):
        assert response.status == 404
    assert api.requests == []


async def test_unknown_projects_are_refused(api: ClaudeApi) -> None:
    async with project_of(Proxy(api.base_url, KEY, "")) as project:
        refused = await project.error(headers={"Authorization": "Bearer other"})
    assert refused == (401, "authentication_error", "unknown project token")
    assert api.requests == []


async def test_without_a_key_it_says_so(api: ClaudeApi) -> None:
    proxy = Proxy(api.base_url, "", "")
    assert proxy.key_problem == NO_KEY
    async with project_of(proxy) as project:
        assert await project.error() == (401, "authentication_error", NO_KEY)
    assert api.requests == []


async def test_an_unreachable_api_is_a_502_and_the_key_stays_out_of_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "_RETRIES_S", (0.01,))
    caplog.set_level(logging.DEBUG)
    async with upstream(b"garbage\r\n\r\n") as garbage:
        for url in ("http://127.0.0.1:1", "https://" + garbage.removeprefix("http://"), garbage):
            proxy = Proxy(url)
            async with project_of(proxy) as project, project.post(b"{}") as response:
                assert response.status == 502
                assert int(response.headers["Retry-After"]) > 0
                text = await response.text()
                assert json.loads(text)["error"]["type"] == "api_error"
                assert KEY not in text + repr(proxy) + caplog.text
    assert "ClientConnectorError" in caplog.text


async def test_a_short_outage_is_bridged(unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "_RETRIES_S", (0.05,) * 100)
    async with project_of(Proxy(f"http://127.0.0.1:{unused_port}", KEY, "")) as project:
        request = asyncio.ensure_future(project.error(body(script({"http": 400}))))
        async with ClaudeApi(require_key=KEY, port=unused_port):
            assert (await request)[:2] == (400, "invalid_request_error")


async def test_a_stream_is_not_held_back(api: ClaudeApi, make: Make) -> None:
    prompt = script({"text": "a" * 40, "gate": "g"})
    async with make() as project, project.post(body(prompt)) as response:
        first = await response.content.readuntil(b"text_delta")
        assert b"message_stop" not in first
        api.open("g")
        assert b"message_stop" in await response.content.read()


async def test_a_silent_stream_is_cut_and_what_it_told_is_counted(api: ClaudeApi) -> None:
    proxy = Proxy(api.base_url, KEY, "", stall_s=0.2)
    async with project_of(proxy) as project:
        async with project.post(body(script({"text": "a" * 40, "sse": "stall"}))) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await api.until(lambda: api.abandoned == 1)
    assert proxy.used == [replace(STUB, output_tokens=1, at_least=True)]


async def test_a_slow_answer_is_no_silent_stream(
    make: Make,
) -> None:
    async with (
        make(stall_s=0.1) as project,
        project.post(body(script({"text": "x", "pre": 0.5}))) as response,
    ):
        assert b"message_stop" in await response.read()


async def test_a_cut_response_is_cut_for_the_project() -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with (
        upstream(start) as url,
        project_of(Proxy(url)) as project,
        project.post(b"{}") as response,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_what_belongs_to_the_gateway_is_not_taken_from_the_api() -> None:
    answer = (
        b"HTTP/1.1 307 Go\r\nLocation: http://other.example/\r\nSet-Cookie: a=b\r\n"
        b"request-id: r1\r\nContent-Length: 0\r\n\r\n"
    )
    async with (
        upstream(answer) as url,
        project_of(Proxy(url)) as project,
        project.post(b"{}") as response,
    ):
        assert response.status == 307
        assert response.headers["request-id"] == "r1"
        assert not {"Location", "Set-Cookie"} & set(response.headers)


@pytest.mark.parametrize("step", [{"text": "a" * 40, "sse": "stall"}, {"text": "a", "pre": 3600}])
async def test_a_client_that_leaves_ends_the_call(
    api: ClaudeApi,
    make: Make,
    step: dict[str, object],
) -> None:
    async with make() as project:

        async def send() -> None:
            async with project.post(body(script(step))) as response:
                await response.read()

        client = asyncio.create_task(send())
        await api.arrived(lambda request: request.main)
        client.cancel()
        await api.until(lambda: api.abandoned == 1, timeout=5)
