"""Slack and Twilio as others simulate them: npm's `emulate`, and what stands on both sides of it.

It is no peer of our making, so it knows nothing of what we meant. What it lacks (refusals for a rate, outages, another
try at a webhook that was refused) is done by what stands around it, as it is for a real homeserver.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from gateway.testing import patience
from tests.support.processes import die_with_parent

_STARTER = Path(__file__).with_name("emulate.mjs")
_START_S = 30.0
#: Seconds between two tries at a webhook that was refused, and how many tries there are.
_AGAIN_S, _TRIES = 0.02, 4
_KEPT = ("Authorization", "Content-Type")


class Emulator:
    """One service as a child of ours. Use as an async context manager; nothing is kept when it ends."""

    def __init__(self, folder: Path, service: str, base_url: str, seed: Mapping[str, Any], events: str = "") -> None:
        """Make one that does not run yet.

        Args:
            folder: the package.
            service: `slack` or `twilio`.
            base_url: what it takes for its own address.
            seed: what is there in the beginning.
            events: an address that hears of all that happens in Slack.
        """
        told = {"service": service, "baseUrl": base_url, "seed": {service: seed}, "events": events}
        self._command = ("node", str(_STARTER), str(folder), json.dumps(told))
        self.url = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
            preexec_fn=die_with_parent,
        )
        assert self._process.stdout is not None
        try:
            port = int(await asyncio.wait_for(self._process.stdout.readline(), _START_S * patience()))
        except BaseException:
            await self.__aexit__()
            raise
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> tuple[int, bytes]:
        """One request of somebody else's than the gateway: status and body of the answer.

        It blocks: ask off the event loop whatever makes the emulator post to us before it answers.
        """
        request = urllib.request.Request(self.url + path, method=method, headers=dict(headers), data=body)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


class _Listener:
    """A server on loopback that hands all requests to `_handle`. Use as an async context manager."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._port = 0
        await self.open()
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        await self._session.close()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Be away."""
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def _pass_on(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> web.StreamResponse:
        try:
            # Byte by byte: a signature is over the address as it was written.
            there = URL(url, encoded=True)
            async with self._session.request(method, there, headers=headers, data=body) as answer:
                told = {name: value for name, value in answer.headers.items() if name in _KEPT}
                return web.Response(status=answer.status, headers=told, body=await answer.read())
        except aiohttp.ClientError:
            return web.Response(status=502)


class Front(_Listener):
    """What the gateway takes for the platform: it can be away, limit rates, and lose an answer."""

    def __init__(self) -> None:
        #: Where the emulator is.
        self.target = ""
        #: Of the next posts of a message, how many are refused for their rate.
        self.limited = 0
        #: Requests to paths that end so are carried out once, and not answered.
        self.lost: set[str] = set()
        #: Method and path of each request.
        self.requests: list[tuple[str, str]] = []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.limited and request.path.endswith(("/chat.postMessage", "/Messages.json")):
            self.limited -= 1
            refusal = {"ok": False, "error": "ratelimited", "code": 20429, "message": "Too Many Requests"}
            return web.json_response(refusal, status=429, headers={"Retry-After": "1"})
        method, path, body = request.method, request.raw_path, await request.read()
        headers = {name: value for name, value in request.headers.items() if name in _KEPT}
        if path.startswith("/api/") and request.query_string:
            # Slack takes a method's arguments also from the query, by GET or POST; its own SDK puts most of them there.
            # The emulator looks only into the body of a POST.
            method, path, body = "POST", request.path, request.rel_url.raw_query_string.encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        answer = await self._pass_on(method, self.target + path, headers, body)
        for ending in self.lost:
            if request.path.endswith(ending):
                self.lost.remove(ending)
                assert request.transport is not None
                request.transport.abort()
                break
        return answer


@dataclass
class Post:
    """What the emulator posted to the gateway, byte by byte, and what each try was answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    statuses: list[int] = field(default_factory=list)


class Postman(_Listener):
    """What the platform takes for the gateway: a public address in front of the gateway's listener.

    The emulator posts once and forgets; the platforms come again while they are refused, and so does this one.
    """

    def __init__(self, sign: Callable[[bytes], Mapping[str, str]] = lambda _: {}) -> None:
        """`sign`: more headers for a body, where the emulator does not sign itself."""
        self._sign = sign
        #: Where the gateway's listener is.
        self.target = ""
        self.posts: list[Post] = []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return await self._pass_on(request.method, self.target + request.raw_path, {}, None)
        headers = {name: value for name, value in request.headers.items() if name.startswith(("Content-Type", "X-"))}
        post = Post(request.raw_path, headers, await request.read())
        self.posts.append(post)
        for _ in range(_TRIES):
            answer = await self.deliver(post)
            if answer.status < 500:
                break
            await asyncio.sleep(_AGAIN_S)
        return answer

    async def deliver(self, post: Post) -> web.StreamResponse:
        """Bring it to the gateway, perhaps not for the first time."""
        headers = {**post.headers, **self._sign(post.body)}
        answer = await self._pass_on("POST", self.target + post.path, headers, post.body)
        post.statuses.append(answer.status)
        return answer
