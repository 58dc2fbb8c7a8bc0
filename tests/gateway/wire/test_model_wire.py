"""The model proxy on real wires: what a container may try with its own token, and with another's."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.testing import patience
from gateway.wire.sleds import Sleds
from tests.gateway.wire.test_sleds import TOKENS, Listener
from tests.support.claude_api import ClaudeApi
from tests.support.house import House, house, make_settings
from tests.support.proxy import KEY, STUB, Proxy, body

BODY = body("hi", stream=False)


class Line:
    """One connection to a wire, on which requests are written byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, start: str, token: str = TOKENS[1], *headers: str, body: bytes = BODY) -> int:
        """Send a request; its status."""
        lines = [start, f"Authorization: Bearer {token}", f"Content-Length: {len(body)}", *headers]
        if not any(header.lower().startswith("host:") for header in headers):
            lines.append("Host: gateway")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(5 * patience()):
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "content-length: " in head:
                await self._reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        return int(head.split()[1])

    def close(self) -> None:
        self._writer.close()


async def dial(path: Path) -> Line:
    return Line(*await asyncio.open_unix_connection(str(path)))


@dataclass
class Wires:
    """A server with two projects and the stub behind it."""

    sleds: Sleds
    proxy: Proxy
    api: ClaudeApi
    folder: Path

    def path(self, project: int) -> Path:
        return self.folder / f"p{project}" / "gateway.sock"


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    async with ClaudeApi(require_key=KEY) as api:
        with tempfile.TemporaryDirectory(prefix="hw") as name:
            made = Wires(Sleds(), Proxy(api.base_url), api, Path(name))
            await made.sleds.start(Listener(), made.proxy.routes)
            for project, token in TOKENS.items():
                await made.sleds.open(project, token, made.path(project))
            yield made
            await made.sleds.stop()
            await made.proxy.close()


POST = "POST /model/v1/messages HTTP/1.1"


@pytest.fixture
async def line(wires: Wires) -> AsyncIterator[Line]:
    made = await dial(wires.path(1))
    yield made
    made.close()


async def test_the_plain_call_works_and_is_the_sockets_project(wires: Wires, line: Line) -> None:
    assert await line.ask(POST, TOKENS[1], "X-Huskies-Session: s2-0") == 200
    assert wires.proxy.told == [("1", "s2-0", STUB)]


@pytest.mark.parametrize(
    "start",
    [
        "GET /model/v1/messages HTTP/1.1",
        "PUT /model/v1/messages HTTP/1.1",
        "DELETE /model/v1/messages HTTP/1.1",
        "OPTIONS /model/v1/messages HTTP/1.1",
        "TRACE /model/v1/messages HTTP/1.1",
        "POST http://other.example/model/v1/messages HTTP/1.1",
        "POST http://gateway/model/v1/messages HTTP/1.1",
        "POST //model/v1/messages HTTP/1.1",
        "POST /model//v1/messages HTTP/1.1",
        "POST //other.example/model/v1/messages HTTP/1.1",
        "POST /model/v1/messages/ HTTP/1.1",
        "POST /model/v1/../v1/messages HTTP/1.1",
        "POST /model/v1/%2e%2e/v1/messages HTTP/1.1",
        "POST /model/v1%2fmessages HTTP/1.1",
        "POST /model/v1/mess%61ges HTTP/1.1",
        "POST /model/v1/messages%2f..%2ffiles HTTP/1.1",
        "POST /model/v1/messages;x HTTP/1.1",
        "POST /model/V1/messages HTTP/1.1",
        "POST /model/v1/files HTTP/1.1",
        "POST /model/ HTTP/1.1",
        "POST /v1/messages HTTP/1.1",
        "CONNECT other.example:443 HTTP/1.1",
        "POST * HTTP/1.1",
    ],
)
async def test_whatever_else_is_asked_for_goes_nowhere(wires: Wires, line: Line, start: str) -> None:
    assert await line.ask(start) in (400, 404, 405)
    assert wires.api.requests == []
    assert wires.proxy.told == []


@pytest.mark.parametrize(
    "header",
    [
        "Host: other.example",
        "X-Forwarded-Host: other.example",
        "Forwarded: host=other.example",
        "X-Api-Key: sk-mine",
        "anthropic-beta: oauth-2025-04-20",
    ],
)
async def test_headers_change_neither_where_a_call_goes_nor_who_pays(wires: Wires, line: Line, header: str) -> None:
    assert await line.ask(POST, TOKENS[1], header) == 200
    [request] = wires.api.requests
    assert request.headers["host"] == wires.api.base_url.removeprefix("http://")
    assert request.headers["x-api-key"] == KEY
    assert not {"authorization", "x-huskies-session"} & request.headers.keys()
    assert "oauth" not in request.headers.get("anthropic-beta", "")


@pytest.mark.parametrize(
    "header",
    [
        "X-Large: " + "x" * 20_000,
        "Transfer-Encoding: chunked",  # beside a length: one of them is a lie
        "Content-Length: 1",
        "X Space: 1",
        "X-Null: \0",
    ],
)
async def test_what_is_no_proper_request_is_refused(wires: Wires, line: Line, header: str) -> None:
    assert await line.ask(POST, TOKENS[1], header) == 400
    assert wires.api.requests == []


async def test_a_long_session_name_is_cut_and_harms_nothing(wires: Wires, line: Line) -> None:
    assert await line.ask(POST, TOKENS[1], "X-Huskies-Session: " + "s" * 5000) == 200
    assert [len(session) for _, session, _ in wires.proxy.told] == [80]


async def test_one_projects_token_is_no_use_on_anothers_wire(wires: Wires, line: Line) -> None:
    other = await dial(wires.path(2))
    for token in (TOKENS[2], "", "x", KEY, TOKENS[1].upper()):
        assert await line.ask(POST, token) == 401
    assert await other.ask(POST, TOKENS[1]) == 401
    assert wires.api.requests == []
    assert await other.ask(POST, TOKENS[2]) == 200
    assert [project for project, _, _ in wires.proxy.told] == ["2"]
    other.close()


async def test_a_token_is_dead_once_its_wire_is_closed_also_on_open_connections(wires: Wires, line: Line) -> None:
    assert await line.ask(POST) == 200
    await wires.sleds.close(wires.path(1))
    assert await line.ask(POST) == 401, "a connection that was open before"
    with pytest.raises(OSError):
        await dial(wires.path(1))
    await wires.sleds.open(3, "token-of-three", wires.path(1))  # the name is taken up again
    again = await dial(wires.path(1))
    for connection in (line, again):
        assert await connection.ask(POST, TOKENS[1]) == 401
    assert await again.ask(POST, "token-of-three") == 200
    again.close()


async def socket_and_token(here: House, name: str) -> tuple[Path, str]:
    project = here.app.projects.get(name)
    return here.app.projects.spec(project).paths.socket, project.token


async def test_delete_ends_the_token_and_a_project_made_anew_has_another(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=KEY) as api:
        agent = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url}
        async with house(tmp_path, settings=make_settings(tmp_path, agent=agent)) as here:
            await here.ask("new project demo", contains="ready")
            path, token = await socket_and_token(here, "demo")
            line = await dial(path)
            assert await line.ask(POST, token) == 403, "it is known, though nothing runs"
            asked = await here.ask("delete demo", contains="confirm")
            await here.ask(asked.split("`")[1], contains="is deleted")
            assert await line.ask(POST, token) == 401
            assert not path.exists()
            await here.ask("new project demo", contains="ready")
            path, new = await socket_and_token(here, "demo")
            assert new != token
            again = await dial(path)
            assert await again.ask(POST, token) == 401
            assert await again.ask(POST, new) == 403, "a new one"
            assert api.requests == []
            line.close()
            again.close()
