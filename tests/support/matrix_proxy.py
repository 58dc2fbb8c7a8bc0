"""A proxy in front of a homeserver that fails where a test wants it to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal, Self

import aiohttp
from aiohttp import web

How = Literal["502", "429", "500", "truncate", "drop", "lose", "hang"]


@dataclass
class Fault:
    """Requests whose path has `part` fail `times` times.

    Attributes:
        how: a status; or a cut answer, a closed connection, a lost answer (the homeserver did what it was asked), or
            one that never comes.
    """

    part: str
    how: How
    times: int
    hit: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Forwards to `target`, except for its faults."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._faults: list[Fault] = []
        #: Path of each request.
        self.requests: list[str] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def fail(self, part: str, how: How, times: int = 1) -> Fault:
        """Let the next requests fail whose path has `part`."""
        self._faults.append(Fault(part, how, times))
        return self._faults[-1]

    def count(self, part: str) -> int:
        """How many requests had `part` in their path."""
        return sum(part in path for path in self.requests)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        for fault in self._faults:
            if fault.times and fault.part in request.path:
                fault.times -= 1
                fault.hit.set()
                return await self._failed(request, fault.how)
        status, body, kind = await self._forward(request)
        return web.Response(status=status, body=body, content_type=kind)

    async def _forward(self, request: web.Request) -> tuple[int, bytes, str]:
        headers = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type")}
        data = await request.read()
        url = self._target + request.raw_path
        try:
            async with self._session.request(request.method, url, data=data, headers=headers) as answer:
                return answer.status, await answer.read(), answer.content_type
        except aiohttp.ClientError:
            return 502, b"<html>Bad gateway</html>", "text/html"

    async def _failed(self, request: web.Request, how: How) -> web.StreamResponse:
        if how == "502":
            return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")
        if how == "500":
            return web.json_response({"errcode": "M_UNKNOWN", "error": "Internal server error"}, status=500)
        if how == "429":
            refusal = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too fast", "retry_after_ms": 700}
            return web.json_response(refusal, status=429)
        if how == "hang":
            await asyncio.sleep(3600)
        if how == "lose":
            await self._forward(request)
        if how == "truncate":
            _, body, kind = await self._forward(request)
            response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(body) + 10)})
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
