"""The model's API for projects: the gateway adds the real credential, so that no container ever holds it.

Only the paths in `ALLOWED` exist, on one upstream. Bytes stream both ways as they come; in passing, the
response's own account of its tokens is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gateway.proxy_http import HOP_BY_HOP, Bodies, Unreachable, open_session, stream_back, while_connected, without
from gateway.proxy_usage import Usage, UsageReader

log = logging.getLogger(__name__)

#: What a project may call, always with POST.
ALLOWED = ("v1/messages", "v1/messages/count_tokens")
#: Bytes of one request, which is kept so that it can be sent again.
MAX_BODY = 64 * 2**20

NO_KEY = "no model key is set"
KEY_REFUSED = "the model key was refused"

#: Seconds before each further attempt to reach the upstream, and after which none is made any more.
_RETRIES_S = (0.2, 0.5, 1.0)
_GIVE_UP_S = 5
#: Seconds after which the client should come again.
_RETRY_AFTER_S = 5

#: Besides: the project's own credential and what aiohttp sets for the body and the host it was given.
_NOT_FORWARDED = HOP_BY_HOP | {
    "accept-encoding",
    "authorization",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "host",
    "x-api-key",
}
_NOT_RETURNED = HOP_BY_HOP | {"location", "set-cookie", "x-huskies-hold"}


@dataclass(frozen=True)
class _Call:
    """One request of a project, complete."""

    project: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes


class ModelProxy:
    """Serves projects the model's API at `api_base_url` with the one credential that is set; `api_key` wins.

    `stall_s`: seconds without a byte after which a response is cut; the CLI would wait five minutes.
    """

    def __init__(self, api_base_url: str, api_key: str, oauth_token: str, *, stall_s: float = 90.0) -> None:
        self._base_url = api_base_url.rstrip("/")
        self._credential: dict[str, str] = {}
        if api_key:
            self._credential = {"x-api-key": api_key}
        elif oauth_token:
            self._credential = {"authorization": f"Bearer {oauth_token}"}
        self._stall_s = stall_s
        self._session: aiohttp.ClientSession | None = None
        self._bodies = Bodies()
        #: What is wrong with the credential, or empty; the next call that the upstream accepts clears it.
        self.key_problem = "" if self._credential else NO_KEY
        #: What each project used since the start.
        self.usage: dict[str, Usage] = {}

    def routes(self, authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
        """The routes for the wire's application. `authenticate` gives the name of a request's project."""

        async def serve(request: web.Request) -> web.StreamResponse:
            project = authenticate(request)
            if project is None:
                return _error(401, "authentication_error", "unknown project token")
            return await self._serve(request, project)

        return [web.route("*", "/model/{path:.*}", serve)]

    async def close(self) -> None:
        """Close the connections to the upstream."""
        if self._session:
            await self._session.close()

    async def _serve(self, request: web.Request, project: str) -> web.StreamResponse:
        path = request.match_info["path"]
        if request.method != "POST" or path not in ALLOWED:
            return _error(404, "not_found_error", "the gateway does not serve this path")
        if not self._credential:
            return _error(401, "authentication_error", NO_KEY)
        query = request.rel_url.raw_query_string
        url = URL(f"{self._base_url}/{path}" + (f"?{query}" if query else ""), encoded=True)
        async with self._bodies.read(request, project, MAX_BODY) as body:
            if body is None:
                return _error(413, "request_too_large", f"more than {MAX_BODY} bytes")
            call = _Call(project, url, self._headers(request), body)
            return await while_connected(request, self._relay(request, call))

    def _headers(self, request: web.Request) -> CIMultiDict[str]:
        headers = without(request.headers, _NOT_FORWARDED)
        # Uncompressed, so that the tokens can be counted without touching the bytes.
        headers.extend({"Accept-Encoding": "identity", **self._credential})
        return headers

    async def _relay(self, request: web.Request, call: _Call) -> web.StreamResponse:
        usage = self.usage.setdefault(call.project, Usage())
        usage.requests += 1
        try:
            upstream = await self._call(call)
        except Unreachable as error:
            log.warning("model API: %s", error)
            response = _error(502, "api_error", "the model's API cannot be reached")
            response.headers["Retry-After"] = str(_RETRY_AFTER_S)
            return response
        async with upstream:
            if upstream.status in (401, 403):
                self.key_problem = KEY_REFUSED
                return _error(401, "authentication_error", KEY_REFUSED)
            if upstream.status < 300:
                self.key_problem = ""
            reader = UsageReader(usage, upstream.content_type)
            try:
                headers = without(upstream.headers, _NOT_RETURNED)
                return await stream_back(
                    request, upstream, headers, name="model API", stall_s=self._stall_s, see=reader.feed
                )
            finally:
                reader.close()

    async def _call(self, call: _Call) -> aiohttp.ClientResponse:
        """The upstream's response, once its headers are here. Raises Unreachable."""
        if not self._session:
            self._session = open_session()
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + _GIVE_UP_S
        for wait in (*_RETRIES_S, 0):
            try:
                return await self._session.post(
                    call.url,
                    headers=call.headers,
                    data=call.body,
                    allow_redirects=False,
                    skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
                )
            except (aiohttp.ClientError, OSError) as error:
                failed = type(error).__name__  # see Unreachable
            if clock() > give_up_at:
                break
            await asyncio.sleep(wait)
        raise Unreachable(failed)


def _error(status: int, kind: str, message: str) -> web.Response:
    """An error in the shape of the model's API."""
    return web.json_response({"type": "error", "error": {"type": kind, "message": message}}, status=status)
