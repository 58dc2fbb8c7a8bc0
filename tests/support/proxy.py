"""The model proxy as the gateway serves it, with one key, and a project's requests to it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from aiohttp import web

from gateway.config import Credential
from gateway.events import Event, Events
from gateway.store.usage import Used
from gateway.wire import Bodies, Keys, ModelProxy
from gateway.wire.model import Gate
from gateway.wire.model_keys import refused

Request = AbstractAsyncContextManager[aiohttp.ClientResponse]
KEY = "sk-ant-canary-key"
TOKEN = {"Authorization": "Bearer wire-token"}
KEY_REFUSED = refused("all")
#: What the stub's answer uses unless the script says otherwise.
STUB = Used(input_tokens=100, output_tokens=50, cache_read_tokens=2000, model="m")


def body(prompt: str, stream: bool = True) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return json.dumps({"model": "m", "stream": stream, "messages": messages, "tools": [{}]}).encode()


@dataclass
class Client:
    """A project's requests to the proxy."""

    base: str
    http: aiohttp.ClientSession

    def post(self, data: bytes, path: str = "v1/messages", headers: dict[str, str] = TOKEN) -> Request:
        return self.http.post(f"{self.base}/model/{path}", data=data, headers=headers)

    async def error(
        self, data: bytes = b"{}", path: str = "v1/messages", headers: dict[str, str] = TOKEN
    ) -> tuple[int, str, str]:
        """Status, type and message of a request that fails."""
        async with self.post(data, path, headers) as response:
            error = (await response.json())["error"]
            return response.status, error["type"], error["message"]


class Proxy(ModelProxy):
    """A proxy with one key for all, and the account that it gave of each call."""

    def __init__(
        self,
        url: str,
        api_key: str = KEY,
        oauth_token: str = "",
        *,
        stall_s: float = 90.0,
        heard: Callable[[Event], None] = lambda _: None,
        gate: Gate | None = None,
        **how: Any,
    ) -> None:
        kind = "api_key" if api_key else "oauth_token"
        self.value = api_key or oauth_token
        self.told: list[tuple[str, str, Used]] = []
        keys = Keys(lambda _: Credential("all", kind, self.value) if self.value else None, Events(heard), **how)
        self.usd: list[float] = []
        super().__init__(url, keys, self._take, Bodies(), stall_s=stall_s, gate=gate)

    def _take(self, project: str, session: str, used: Used) -> None:
        self.told.append((project, session, replace(used, usd=0.0)))
        self.usd.append(used.usd)

    @property
    def used(self) -> list[Used]:
        return [used for _, _, used in self.told]


@contextlib.asynccontextmanager
async def project_of(proxy: ModelProxy) -> AsyncIterator[Client]:
    """The proxy as the gateway serves it, with one project called `demo`."""

    def authenticate(request: web.Request) -> str | None:
        return "demo" if request.headers.get("Authorization") == TOKEN["Authorization"] else None

    async with served(proxy.routes(authenticate)) as base, aiohttp.ClientSession() as http:
        yield Client(base, http)
    await proxy.close()


@contextlib.asynccontextmanager
async def served(routes: list[web.RouteDef]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
