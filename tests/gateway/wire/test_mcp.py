"""The proxy for servers of tools in front of a real one, and of odd ones; the relay is in between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from yarl import URL

from gateway.config.mcp import McpSection
from gateway.testing import patience
from gateway.wire import Bodies, McpProxy
from gateway.wire import mcp as proxy_module
from gateway.wire.mcp import ANSWER_S
from sled.relay import Relay
from tests.support.mcp_server import HttpServer
from tests.support.wire import serving

SECRET = "tok-canary-mcp-0123"
TOKEN = {"Authorization": "Bearer wire-token"}
HELLO = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@dataclass
class Client:
    """A project's requests: by the relay at `relay`, or on the wire itself. `gone` are those that its server lost."""

    http: aiohttp.ClientSession
    relay: str

    def ask(self, path: str, method: str = "POST", **how: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = how.pop("headers", TOKEN)
        url = URL(f"http://gateway/mcp/{path}", encoded=True)
        return self.http.request(method, url, headers=headers, data=how.pop("data", HELLO), allow_redirects=False)

    async def refused(self, path: str, method: str = "POST", **how: Any) -> tuple[int, str]:
        async with self.ask(path, method, **how) as response:
            assert response.content_type == "text/plain"
            return response.status, (await response.text()).strip()


@contextlib.asynccontextmanager
async def project_of(
    wire: Path, servers: dict[str, dict[str, Any]], name: str = "demo", *, answer_s: float = ANSWER_S
) -> AsyncIterator[Client]:
    """The proxy as the gateway serves it, to the project of that name, whose id is 7."""
    sections = {server: McpSection(**values) for server, values in servers.items()}
    proxy = McpProxy(sections, {"7": name}.__getitem__, Bodies(), answer_s=answer_s)
    assert SECRET not in repr(proxy)

    def authenticate(request: web.Request) -> str | None:
        return "7" if request.headers.get("Authorization") == TOKEN["Authorization"] else None

    relay = Relay(wire, "wire-token")
    connector = aiohttp.UnixConnector(str(wire))
    async with serving(wire, proxy.routes(authenticate)), aiohttp.ClientSession(connector=connector) as http:
        yield Client(http, await relay.start())
        await relay.close()
    await proxy.close()


@dataclass
class Odd:
    """A server that does what a test says; `arrived` and `left` tell when a request came, and when its client went."""

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    url: str = ""
    requests: list[web.Request] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.arrived.set()
        try:
            return await self.answer(request)
        finally:
            self.left.set()


@contextlib.asynccontextmanager
async def odd(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Odd]:
    server = Odd(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp?team=1"
    try:
        yield server
    finally:
        await runner.cleanup()


def at(server: HttpServer | Odd) -> dict[str, Any]:
    return {"url": server.url, "token": SECRET}


async def within(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 20 * patience())


# --- a real server ---------------------------------------------------------------------------------------------------


async def test_a_real_client_calls_a_tool_and_never_sees_the_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with HttpServer(f"Bearer {SECRET}") as server:
        echo = {"url": server.url, "token": SECRET, "projects": ["demo"]}
        async with (
            project_of(tmp_path / "s", {"echo": echo}) as client,
            create_mcp_http_client(headers=TOKEN) as http,
            streamable_http_client(f"{client.relay}/mcp/echo", http_client=http) as (reader, writer, *_),
            ClientSession(reader, writer) as session,
        ):
            await session.initialize()
            assert [tool.name for tool in (await session.list_tools()).tools] == ["say"]
            result = await session.call_tool("say", {"text": "hello"})
            assert result.content[0].text == "heard: hello"  # type: ignore[union-attr]
    for _, headers in server.requests:
        assert headers["authorization"] == f"Bearer {SECRET}"
        assert "wire-token" not in str(headers)
    assert any("mcp-session-id" in headers for _, headers in server.requests)
    assert SECRET not in caplog.text
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("gateway")]
    assert "mcp: project demo: POST echo" in ours and "hello" not in str(ours)


async def test_another_scheme_is_a_header(tmp_path: Path) -> None:
    async with HttpServer(SECRET, "x-api-key") as server:
        echo = {"url": server.url, "headers": {"X-Api-Key": SECRET}}
        async with project_of(tmp_path / "s", {"echo": echo}) as client, client.ask("echo") as response:
            assert response.status != 401
            assert SECRET not in str(response.headers) + await response.text()
    [(_, headers)] = server.requests
    assert "authorization" not in headers


async def test_a_server_that_does_not_accept_the_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with HttpServer("Bearer another") as server, project_of(tmp_path / "s", {"echo": at(server)}) as client:
        status, told = await client.refused("echo")
    host = server.url.split("/")[2]
    assert (status, told) == (502, f"{host} did not accept the token in [agent.mcp.echo]")
    assert told in caplog.text and SECRET not in caplog.text


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_only_a_projects_own_servers_are_served(tmp_path: Path) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        return web.Response()

    async with odd(never) as server:
        servers: dict[str, dict[str, Any]] = {
            "echo": {"url": server.url, "token": SECRET, "projects": ["shop"]},
            "all": {"url": server.url, "token": SECRET},
            "local": {"command": ["program"]},
        }
        async with project_of(tmp_path / "s", servers) as client:
            for path in ("echo", "local", "none", "all/", "all/more", "all?x=1", "", "al%6c", "../all", "all%2f"):
                status, told = await client.refused(path)
                assert status == 404, path
                assert "no such server for this project; `tools` in the chat lists" in told or path == "../all"
            for method in ("PUT", "PATCH", "OPTIONS"):
                assert (await client.refused("all", method))[0] == 405
            assert await client.refused("all", headers={"Authorization": "Bearer x"}) == (401, "unknown project token")
            async with aiohttp.ClientSession() as http, http.post(f"{client.relay}/mcp/all") as response:
                assert response.status == 401, "the relay's own lock"
        for name in ("", "other"):
            async with project_of(tmp_path / "s", servers, name) as client:
                assert (await client.refused("echo"))[0] == 404
        assert server.requests == []


async def test_a_long_request_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_BODY", 100)
    async with project_of(tmp_path / "s", {"echo": {"url": "http://127.0.0.1:1/"}}) as client:
        assert (await client.refused("echo", data=b"x" * 101))[0] == 413
        status, told = await client.refused("echo", data=b"x")
        assert (status, told) == (502, "127.0.0.1:1 cannot be reached")


async def test_no_redirect_is_followed(tmp_path: Path) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/t-secret")

    async with odd(elsewhere) as server, project_of(tmp_path / "s", {"echo": at(server)}) as client:
        status, told = await client.refused("echo")
    assert status == 502 and "[agent.mcp.echo] needs the url that it redirects to" in told
    assert len(server.requests) == 1


# --- what passes -----------------------------------------------------------------------------------------------------


async def test_only_known_headers_pass_and_the_protocols_own(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=404, text="gone", headers={"Mcp-Session-Id": "s2", "Set-Cookie": "a=b", "X-Its": "1"}
        )

    sent = {**TOKEN, "Mcp-Session-Id": "s1", "Mcp-Method": "ping", "Accept": "text/event-stream", "Cookie": "a=b"}
    sent |= {"Last-Event-ID": "9", "X-Mine": "1"}
    async with (
        odd(answer) as server,
        project_of(tmp_path / "s", {"echo": at(server)}) as client,
        client.ask("echo", "DELETE", headers=sent) as response,
    ):
        assert (response.status, await response.text()) == (404, "gone")
        assert response.headers["Mcp-Session-Id"] == "s2"
        assert not {"Set-Cookie", "X-Its"} & set(response.headers)
    [request] = server.requests
    assert (request.method, request.path_qs) == ("DELETE", "/mcp?team=1")
    got = {name.lower(): value for name, value in request.headers.items()}
    assert got["authorization"] == f"Bearer {SECRET}"
    assert (got["mcp-session-id"], got["mcp-method"], got["last-event-id"]) == ("s1", "ping", "9")
    assert not {"cookie", "x-mine"} & set(got)


async def silent(request: web.Request) -> web.StreamResponse:
    """One event, and then nothing."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b": begun\n\n")
    await asyncio.Event().wait()
    return response


async def test_a_stream_may_be_silent_and_ends_with_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_STREAMS", 1)
    async with odd(silent) as server, project_of(tmp_path / "s", {"echo": at(server)}, answer_s=0.2) as client:
        async with client.ask("echo", "GET", data=None) as stream:
            assert await stream.content.readline() == b": begun\n"
            # An answer is cut after that silence, while the stream that was there before it goes on.
            async with client.ask("echo") as answer:
                assert await answer.content.readline() == b": begun\n"
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()
            assert await stream.content.readline() == b"\n"
            assert not stream.content.at_eof()
            assert await client.refused("echo", "GET", data=None) == (405, "this project has 1 streams open")
            server.left.clear()
        await within(server.left)


async def test_a_client_that_goes_away_ends_its_call(tmp_path: Path) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with odd(slow) as server, project_of(tmp_path / "s", {"echo": {"url": server.url}}) as client:

        async def call() -> None:
            async with client.ask("echo"):
                pass

        calling = asyncio.create_task(call())
        await within(server.arrived)
        calling.cancel()
        await within(server.left)
