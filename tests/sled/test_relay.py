from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gateway.testing import patience
from sled import relay as relay_module
from sled.agents.claude import create
from sled.protocol import Body, Finished, Run, TextDelta, ToolDone
from sled.relay import Relay
from sled.turn import Turn
from tests.support.claude_api import ClaudeApi, script
from tests.support.claude_cli import cli_processes, eventually, private_environment
from tests.support.proxy import Proxy
from tests.support.wire import saying, serving

TOKEN = "wire-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def wire(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sock"


@pytest.fixture
async def url(wire: Path) -> AsyncIterator[str]:
    relay = Relay(wire, TOKEN)
    yield await relay.start()
    await relay.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def post(http: aiohttp.ClientSession, url: str, body: bytes = b"{}") -> asyncio.Task[tuple[int, str]]:
    """Begin a request; its status and text."""

    async def send() -> tuple[int, str]:
        async with http.post(f"{url}/v1/messages", data=body, headers=BEARER) as response:
            return response.status, await response.text()

    return asyncio.create_task(send())


async def answer(request: web.Request) -> web.Response:
    return web.Response(text=f"got {len(await request.read())}")


ROUTES = [web.post("/model/{path:.*}", answer)]


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "other"}, {"Authorization": "Bearer wire-tok"}])
async def test_others_are_refused(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> None:
    async with http.post(f"{url}/v1/messages", headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["error"]["type"] == "authentication_error"


async def test_gits_paths_go_to_the_gateway_as_they_are(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    path = "/git/localhost:8443/a%20b.git/info/refs?service=git-upload-pack"

    async def serve(request: web.Request) -> web.Response:
        assert request.headers["Git-Protocol"] == "version=2"
        return web.Response(status=302, headers={"Location": f"{request.raw_path}&again"})

    headers = {**BEARER, "Git-Protocol": "version=2"}
    request = asyncio.create_task(http.get(URL(url + path, encoded=True), headers=headers, allow_redirects=False))
    async with saying(wire) as heads:  # held like the model's
        await heads.get()
    async with serving(wire, [web.get("/git/{path:.*}", serve)]), await request as response:
        assert (response.status, response.headers["Location"]) == (302, f"{path}&again")


async def test_git_is_refused_in_plain_text(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    async with http.get(f"{url}/git/h/x") as response:
        assert (response.status, response.content_type) == (401, "text/plain")
    async with saying(wire, b"no HTTP at all\r\n\r\n"), http.get(f"{url}/git/h/x", headers=BEARER) as response:
        assert (response.status, response.content_type) == (502, "text/plain")


async def test_requests_and_responses_pass_unchanged(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    seen: list[web.Request] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append(request)
        assert await request.read() == b'{"a": 1}'
        headers = {
            "Retry-After": "7",
            "Connection": "x-private",
            "X-Private": "1",
            "Content-Encoding": "gzip",
        }
        return web.Response(status=429, body=b"not gzip at all", headers=headers)

    async with serving(wire, [web.route("*", "/{path:.*}", serve)]):
        headers = {"X-Api-Key": TOKEN, "anthropic-beta": "a,b", "Accept-Encoding": "br", "TE": "trailers"}
        path = "/v1/a%2Fb?beta=true&x=%20y"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as raw,
            raw.post(url + path, data=b'{"a": 1}', headers=headers) as response,
        ):
            assert response.status == 429
            assert response.headers["Retry-After"] == "7"
            assert response.headers["Content-Encoding"] == "gzip"
            assert "X-Private" not in response.headers
            assert await response.read() == b"not gzip at all"
    [request] = seen
    assert request.raw_path == f"/model{path}"
    assert request.headers["anthropic-beta"] == "a,b"
    assert request.headers["Accept-Encoding"] == "br"
    assert "TE" not in request.headers


async def test_a_request_waits_for_the_gateway(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    request = post(http, url, b"x" * 2_000_000)
    done, _ = await asyncio.wait({request}, timeout=2.5)  # the gateway is gone for a while
    assert not done
    returned = time.monotonic()
    async with serving(wire, ROUTES):
        assert await request == (200, "got 2000000")
    assert time.monotonic() - returned < 1 * patience()


async def test_a_request_that_was_dropped_before_an_answer_is_sent_again(
    http: aiohttp.ClientSession, url: str, wire: Path
) -> None:
    async with saying(wire) as heads:
        request = post(http, url)
        await heads.get()
        await heads.get()
    async with serving(wire, ROUTES):
        assert await request == (200, "got 2")


async def test_a_failure_that_the_gateway_tells_is_passed_on(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    async with saying(wire, b"HTTP/1.1 502 No\r\nContent-Length: 2\r\n\r\nno"):
        assert await post(http, url) == (502, "no")
    async with saying(wire, b"no HTTP at all\r\n\r\n"):
        assert (await post(http, url))[0] == 502


async def test_a_response_that_is_cut_is_cut_for_the_client(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with saying(wire, start):
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(http, url)


async def test_a_stream_arrives_piece_by_piece(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    go_on = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await go_on.wait()
        await response.write(b"two")
        return response

    async with (
        serving(wire, [web.post("/model/v1/messages", serve)]),
        http.post(f"{url}/v1/messages", headers=BEARER) as response,
    ):
        assert await response.content.readany() == b"one"
        go_on.set()
        assert await response.content.read() == b"two"


async def test_a_client_that_leaves_is_forgotten(http: aiohttp.ClientSession, url: str, wire: Path) -> None:
    async with saying(wire) as heads:
        request = post(http, url, b"first")
        await heads.get()
        request.cancel()
        await asyncio.wait({request})
    sizes: list[int] = []

    async def serve(request: web.Request) -> web.Response:
        sizes.append(len(await request.read()))
        return web.Response()

    async with serving(wire, [web.post("/model/v1/messages", serve)]):
        await post(http, url, b"the second")
    assert sizes == [10]


async def test_a_body_is_bounded(http: aiohttp.ClientSession, wire: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "MAX_BODY", 1000)
    relay = Relay(wire, TOKEN)
    try:
        assert (await post(http, await relay.start(), b"x" * 1001))[0] == 413
    finally:
        await relay.close()


async def test_close_lets_go_of_held_requests(http: aiohttp.ClientSession, wire: Path) -> None:
    relay = Relay(wire, TOKEN)
    url = await relay.start()
    async with saying(wire) as heads:
        request = post(http, url)
        await heads.get()
        await relay.close()
    with pytest.raises(aiohttp.ClientError):
        await request


# --- the real CLI, through relay and proxy ------------------------------------------------------------------


class House:
    """A project's half of the line to the model: agent, relay, wire, and a gateway to switch off and on."""

    def __init__(self, wire: Path, workspace: Path, api: ClaudeApi) -> None:
        self.wire = wire
        self.agent = create(workspace)
        self.events: asyncio.Queue[Body] = asyncio.Queue()
        self._api = api

    @contextlib.asynccontextmanager
    async def gateway(self) -> AsyncIterator[None]:
        proxy = Proxy(self._api.base_url, "sk-real")
        bearer = f"Bearer {TOKEN}"
        routes = proxy.routes(lambda request: "demo" if request.headers["Authorization"] == bearer else None)
        async with serving(self.wire, routes):
            yield
        await proxy.close()

    def run(self, prompt: str) -> asyncio.Task[Finished]:
        run = Run(run="r1", session="s", agent="claude", prompt=prompt, permissions="allow")
        turn = Turn(run, self.events.put)
        turn.let_change()
        return asyncio.create_task(self.agent.run(turn))

    async def seen(self, kind: type[Body]) -> None:
        async with asyncio.timeout(30 * patience()):
            while not isinstance(await self.events.get(), kind):
                pass


@pytest.fixture
async def house(
    url: str, wire: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[House, ClaudeApi]]:
    private_environment(tmp_path, monkeypatch, url, TOKEN)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    async with ClaudeApi(require_key="sk-real") as api:
        house = House(wire, workspace, api)
        yield house, api
        await house.agent.close()
        assert not any(TOKEN in str(request.headers) for request in api.requests)
    assert cli_processes() == []


@pytest.mark.claude
async def test_a_run_survives_the_gateway_mid_stream(house: tuple[House, ClaudeApi]) -> None:
    home, api = house
    async with home.gateway():
        run = home.run(script({"text": "hello " * 20, "gate": "g"}))
        await home.seen(TextDelta)
    await api.until(lambda: api.abandoned == 1)
    api.open("g")
    async with saying(home.wire) as heads:  # the CLI tries again, and is held
        assert b"x-huskies-session: s\r\n" in (await heads.get()).lower()
    returned = time.monotonic()
    async with home.gateway():
        finished = await run

    assert (finished.ending, finished.text) == ("answered", "hello " * 20)
    assert time.monotonic() - returned < 2 * patience()
    assert len(api.main) == 2


@pytest.mark.claude
async def test_a_run_survives_the_gateway_mid_tool(house: tuple[House, ClaudeApi], tmp_path: Path) -> None:
    home, api = house
    wait = {"name": "Bash", "input": {"command": "touch begun; until [ -e go ]; do sleep 0.05; done"}}
    async with home.gateway():
        run = home.run(script({"tools": [wait]}, {"text": "done"}))
        await eventually((tmp_path / "workspace" / "begun").exists)
    (tmp_path / "workspace" / "go").touch()
    await home.seen(ToolDone)
    async with saying(home.wire) as heads:
        await heads.get()
    done, _ = await asyncio.wait({run}, timeout=2)
    assert not done
    returned = time.monotonic()
    async with home.gateway():
        assert (await run).text == "done"

    assert time.monotonic() - returned < 1.5 * patience()
    assert len(api.main) == 2


async def test_a_call_of_a_tool_is_not_sent_again_once_it_may_have_arrived(
    wire: Path, url: str, http: aiohttp.ClientSession
) -> None:
    async with saying(wire, b"", OK) as heads:
        calling = post(http, f"{url}/mcp/echo")
        status, told = await asyncio.wait_for(calling, 20 * patience())
        assert (status, told) == (502, "the gateway went away during this call: it may or may not have been done\n")
        assert (await heads.get()).startswith(b"POST /mcp/echo") and heads.empty()
    # One that nobody took waits for the gateway.
    calling = post(http, f"{url}/mcp/echo")
    async with saying(wire, OK) as heads:
        assert await asyncio.wait_for(calling, 20 * patience()) == (200, "ok")
    async with saying(wire, b"", OK) as heads, http.get(f"{url}/mcp/echo", headers=BEARER) as response:
        assert response.status == 200, "reading twice harms nobody"
        assert heads.qsize() == 2
