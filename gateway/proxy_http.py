"""What the gateway's proxies have in common: one request in, one call out, bytes that stream back as they come."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

log = logging.getLogger(__name__)

_CONNECT_S = 10
#: Seconds between two looks whether the client is still there.
_LOOK_S = 0.25

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


def open_session(tls: ssl.SSLContext | bool = True) -> aiohttp.ClientSession:
    """A session that changes nothing on its way: no cookies, no decompression, no limit but on connecting."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def without(headers: CIMultiDictProxy[str], names: frozenset[str]) -> CIMultiDict[str]:
    """The headers but for `names` and those that the Connection header names."""
    own = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict([(name, value) for name, value in headers.items() if name.lower() not in names | own])


async def read_body(request: web.Request, limit: int) -> bytes | None:
    """The request's body; None if it is longer than `limit` bytes."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


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


async def stream_back(
    request: web.Request,
    upstream: aiohttp.ClientResponse,
    headers: CIMultiDict[str],
    *,
    name: str,
    stall_s: float,
    see: Callable[[bytes], None] = lambda _: None,
) -> web.StreamResponse:
    """Pass the upstream's response on with `headers`; `see` is shown each chunk, `name` is the upstream in the log.

    A response that is cut, or silent for `stall_s` seconds, is cut for the client too.
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
