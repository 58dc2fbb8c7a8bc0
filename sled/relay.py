"""The relay, on the sled's own loopback: the agent takes it for its model's API and for the servers of tools that an
operator chose, and git takes it for its hosts.

It forwards over the wire to the gateway, which adds the real credential: paths that begin with `/git/` or `/mcp/` as
they are, all others as the model's. While the gateway is away it holds requests, for as long as that takes: an agent
whose request is merely slow carries on afterwards, while one whose API is gone gives up.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

log = logging.getLogger(__name__)

#: Bytes of one request, which is kept so that it can be sent again.
MAX_BODY = 64 * 2**20
#: Seconds between two attempts to reach the gateway: the first, and the longest.
_RETRY_S = 0.1
_MAX_RETRY_S = 0.5

#: Headers that belong to one connection, plus those that aiohttp sets for the body it was given.
_NOT_FORWARDED = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
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
_NOT_RETURNED = _NOT_FORWARDED - {"content-encoding", "content-length"}
#: Headers that aiohttp would add by itself.
_NO_EXTRAS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class _Unsure(Exception):
    """Nobody can tell whether a request was served."""


class Relay:
    """Forwards requests that bear `token`, which must not be empty, to the gateway behind the socket `wire`."""

    def __init__(self, wire: Path, token: str) -> None:
        if not token:
            raise ValueError("a relay without a token would serve everybody")
        self._wire = wire
        self._token = token.encode()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> str:
        """Listen on a free port of loopback; returns the base URL. Raises OSError."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._wire), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # A client that goes away ends its handler, and with it a held request or the model's call.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening; requests that are held or streaming are cut."""
        if self._runner:
            await self._runner.cleanup()
        if self._session:
            await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if not self._authentic(request):
            return _error(request, 401, "authentication_error", "this relay serves its own project only")
        body = await request.read()
        try:
            upstream = await self._forward(request, body)
        except aiohttp.ClientError as error:
            log.warning("the gateway's response was not HTTP: %s", type(error).__name__)
            return _error(request, 502, "api_error", "the gateway's response could not be understood")
        except _Unsure as error:
            return _error(request, 502, "api_error", str(error))
        async with upstream:
            return await _stream_back(request, upstream)

    def _authentic(self, request: web.Request) -> bool:
        """Whether the request bears the project's token: other users of this machine reach the port too."""
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        given = (request.headers.get("X-Api-Key", ""), bearer)
        return any(hmac.compare_digest(key.encode(errors="replace"), self._token) for key in given)

    async def _forward(self, request: web.Request, body: bytes) -> aiohttp.ClientResponse:
        """Send the request until the gateway answers it. Sending it twice costs, but changes nothing; a call of a tool
        may, and is sent again only if it cannot have arrived. Raises _Unsure.
        """
        assert self._session
        prefix = "" if _is_gits(request) or _is_tools(request) else "/model"
        url = URL(f"http://gateway{prefix}{request.rel_url.raw_path_qs}", encoded=True)
        headers = without(request.headers, _NOT_FORWARDED)
        wait = _RETRY_S
        while True:
            try:
                return await self._session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    skip_auto_headers=_NO_EXTRAS,
                )
            except (aiohttp.ClientConnectionError, OSError) as error:
                arrived = not isinstance(error, aiohttp.ClientConnectorError)
                if arrived and _is_tools(request) and request.method == "POST":
                    raise _Unsure("the gateway went away during this call: it may or may not have been done") from None
                log.debug("holding %s: %s", request.path, error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _MAX_RETRY_S)


async def _stream_back(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """Pass the response on as it comes; one that is cut is cut here too, so that the client can tell."""
    response = web.StreamResponse(status=upstream.status, headers=without(upstream.headers, _NOT_RETURNED))
    await response.prepare(request)
    try:
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
    except (aiohttp.ClientError, OSError) as error:
        log.debug("cut mid-stream: %s", error)
        if request.transport:
            request.transport.abort()
    return response


def without(headers: CIMultiDictProxy[str], names: frozenset[str]) -> CIMultiDict[str]:
    """The headers except `names` and those that the Connection header names."""
    own = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    kept = [(name, value) for name, value in headers.items() if name.lower() not in names | own]
    return CIMultiDict(kept)


def _is_gits(request: web.Request) -> bool:
    return request.rel_url.raw_path.startswith("/git/")


def _is_tools(request: web.Request) -> bool:
    return request.rel_url.raw_path.startswith("/mcp/")


def _error(request: web.Request, status: int, kind: str, message: str) -> web.Response:
    """An error in the shape of the model's API; git and clients of tools show plain text."""
    if _is_gits(request) or _is_tools(request):
        return web.Response(status=status, text=f"{message}\n")
    return web.json_response({"type": "error", "error": {"type": kind, "message": message}}, status=status)
