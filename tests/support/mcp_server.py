"""A real server of tools (Model Context Protocol): on standard streams when run as a program, else over HTTP.

Its one tool, `say`, answers with what it is given, and with what the variable `GREETING` holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


async def _list(*_: object) -> ListToolsResult:
    return ListToolsResult(tools=[Tool(name="say", description="says it again", input_schema=SCHEMA)])


async def _call(_: object, params: CallToolRequestParams) -> CallToolResult:
    said = f"{os.environ.get('GREETING', 'heard')}: {(params.arguments or {}).get('text')}"
    return CallToolResult(content=[TextContent(type="text", text=said)])


def make() -> Server[Any]:
    return Server("echo", on_list_tools=_list, on_call_tool=_call)


class HttpServer:
    """The server at `url`, which answers 401 to whoever does not send `header` with `secret`; an async context manager.

    `requests`: method and headers of each, with lower-case names.
    """

    def __init__(self, secret: str, header: str = "authorization") -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.secret = secret
        self._header = header
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/mcp"
        self._inner = make().streamable_http_app()
        config = uvicorn.Config(
            self._serve, interface="asgi3", log_config=None, lifespan="on", timeout_graceful_shutdown=1
        )
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> HttpServer:
        # It listens already: who comes early waits.
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._server.should_exit = True
        await self._task
        self._socket.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.requests.append((scope["method"], headers))
            if not hmac.compare_digest(headers.get(self._header, ""), self.secret):
                await PlainTextResponse("who are you?", 401)(scope, receive, send)
                return
        await self._inner(scope, receive, send)


class _Quiet(uvicorn.Server):
    """One that leaves the signals of the test's process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def main() -> None:
    server = make()
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
