"""What the gateway's proxies have in common: one request in, one call out, bytes that stream back as they come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from gateway import outbound

log = logging.getLogger(__name__)

#: Seconds between checks whether the client is still there.
_LOOK_S = 0.25
#: Bytes of request bodies that one project may have in the gateway's memory, and all of them together.
BODIES = 128 * 2**20
ALL_BODIES = 512 * 2**20
#: Seconds that a body may pause on its way.
PAUSE_S = 60.0

#: Headers that belong to one connection.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Unreachable(Exception):
    """The upstream could not be reached, or did not speak HTTP.

    The text is the kind of the error only: an error of aiohttp may show the request's headers, and with them the
    credential.
    """


def open_session() -> aiohttp.ClientSession:
    """A session that changes nothing on its way: no cookies, no decompression, no limit but on connecting."""
    return outbound.session(auto_decompress=False)


def without(headers: CIMultiDictProxy[str], names: frozenset[str]) -> CIMultiDict[str]:
    """The headers but for `names` and those that the Connection header names."""
    own = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict([(name, value) for name, value in headers.items() if name.lower() not in names | own])


class Bodies:
    """The requests' bodies that are held in memory, of all proxies: this many bytes for each project, and for all.
    The rest waits its turn.
    """

    def __init__(self, budget: int = BODIES, pause_s: float = PAUSE_S, *, of_all: int = ALL_BODIES) -> None:
        self._budget = budget
        self._of_all = of_all
        self._pause_s = pause_s
        #: Bytes that each project has, or was promised.
        self._held: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request, project: str, limit: int) -> AsyncIterator[bytes | None]:
        """The request's body, which counts as held until the end of the block; None if it is longer than `limit` bytes.

        Raises HTTPRequestTimeout, which the server answers with: the body paused for `pause_s` seconds.
        """
        # All of it before the first byte: bodies that grow together would wait for each other for ever.
        size = _announced(request, limit)
        while self._is_too_much(project, size):
            await self._freed.wait()
        self._held[project] += size
        try:
            body = await self._take_in(request, limit)
            self._give_back(project, size - len(body or b""))
            size = len(body or b"")
            yield body
        finally:
            self._give_back(project, size)

    def _is_too_much(self, project: str, size: int) -> bool:
        """Whether a body has to wait. One that is alone never does: it could wait for nobody."""
        own, everybody = self._held[project], self._held.total()
        return (own > 0 and own + size > self._budget) or (everybody > 0 and everybody + size > self._of_all)

    async def _take_in(self, request: web.Request, limit: int) -> bytes | None:
        body = bytearray()
        try:
            while True:
                async with asyncio.timeout(self._pause_s):
                    chunk = await request.content.readany()
                if not chunk:
                    return bytes(body)
                body += chunk
                if len(body) > limit:
                    return None
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"the request stopped for {self._pause_s:g} s\n") from None

    def _give_back(self, project: str, size: int) -> None:
        self._held[project] -= size
        if not self._held[project]:
            del self._held[project]
        self._freed.set()
        self._freed = asyncio.Event()


def _announced(request: web.Request, limit: int) -> int:
    """The bytes that a request's body may take; the server decompresses it as it comes."""
    if not request.body_exists:
        return 0
    known = request.content_length is not None and "Content-Encoding" not in request.headers
    return min(request.content_length or 0, limit) if known else limit


async def while_connected(request: web.Request, work: Coroutine[None, None, web.StreamResponse]) -> web.StreamResponse:
    """Do `work`, or cancel it when the client goes away, however the server treats its handlers."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            if not request.transport or request.transport.is_closing():
                return web.Response()  # nobody is there to see it
            await asyncio.wait({task}, timeout=_LOOK_S)
        return task.result()
    finally:
        task.cancel()
        # What it has to put in order is done when the handler is, and nobody is left to hear what else it met.
        await asyncio.gather(task, return_exceptions=True)


async def stream_back(
    request: web.Request,
    upstream: aiohttp.ClientResponse,
    headers: CIMultiDict[str],
    *,
    name: str,
    stall_s: float | None,
    see: Callable[[bytes], None] = lambda _: None,
) -> web.StreamResponse:
    """Pass on the upstream's response with `headers`; `see` is shown each chunk, `name` is the upstream in the log.

    A response that is cut, or silent for `stall_s` seconds (None: for ever), is cut for the client too.
    """
    response = web.StreamResponse(status=upstream.status, headers=headers)
    await response.prepare(request)
    try:
        while True:
            async with asyncio.timeout(stall_s):
                chunk = await upstream.content.readany()
            if not chunk:
                break
            see(chunk)
            await response.write(chunk)
    except (aiohttp.ClientError, OSError) as error:  # a stall is a TimeoutError, which is an OSError
        log.warning("%s: response cut (%s)", name, type(error).__name__)
        if request.transport:
            request.transport.abort()  # an orderly end would look like a complete response
    return response
