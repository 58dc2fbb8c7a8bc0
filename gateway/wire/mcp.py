"""Servers of tools (Model Context Protocol) for projects: the gateway adds the secret, so that no container has it.

`/mcp/<name>` is the server `[agent.mcp.<name>]`, for the projects that may use it; below it there is nothing. What is
served goes to that address over verified TLS and nowhere else: no redirect is followed. What is refused is told in
plain text.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway import outbound
from gateway.config.mcp import McpSection
from gateway.wire.http import Bodies, Unreachable, stream_back, while_connected

log = logging.getLogger(__name__)

#: Bytes of one request: a call of a tool, with what it is given.
MAX_BODY = 16 * 2**20
#: Streams that one project may hold open, of the connections that its wire has. A client goes on without one.
MAX_STREAMS = 32
#: Seconds without a byte after which the answer to a call is cut: a tool may well take minutes.
ANSWER_S = 900.0

_METHODS = ("POST", "GET", "DELETE")
#: Besides the protocol's own, which all begin alike; later versions have more of them than earlier ones.
_OWN = "mcp-"
_FORWARDED = frozenset({"accept", "content-type", "last-event-id", "user-agent"})
_RETURNED = frozenset({"cache-control", "content-encoding", "content-length", "content-type", "retry-after"})


class McpProxy:
    """Serves projects, whose names `name_of` gives, those of `servers` that have a URL.

    `used` hears of each use of a secret. `answer_s`: see `ANSWER_S`.
    """

    def __init__(
        self,
        servers: Mapping[str, McpSection],
        name_of: Callable[[str], str],
        bodies: Bodies,
        *,
        used: Callable[[str, str], None] = lambda _project, _secret: None,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._used = used
        self._servers = {name: server for name, server in servers.items() if server.url}
        self._name_of = name_of
        self._bodies = bodies
        self._answer_s = answer_s
        self._session: aiohttp.ClientSession | None = None
        #: Streams that each project holds open.
        self._streams: Counter[str] = Counter()

    def routes(self, authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
        """The routes for the wire's application. `authenticate` gives the id of a request's project."""

        async def serve(request: web.Request) -> web.StreamResponse:
            project = authenticate(request)
            if project is None:
                return _refuse(401, "unknown project token")
            return await self._serve(request, project)

        return [web.route("*", "/mcp/{path:.*}", serve)]

    async def close(self) -> None:
        """Close the connections to the servers."""
        if self._session:
            await self._session.close()

    async def _serve(self, request: web.Request, project: str) -> web.StreamResponse:
        # As it came, so that nothing but a name is one.
        name, project_name = request.rel_url.raw_path_qs.removeprefix("/mcp/"), self._name_of(project)
        server = self._servers.get(name)
        if server is None or not server.serves(project_name):
            return _refuse(404, "there is no such server for this project; `tools` in the chat lists those that it has")
        if request.method not in _METHODS:
            return _refuse(405, f"only {', '.join(_METHODS)}")
        async with self._bodies.read(request, project, MAX_BODY) as body:
            if body is None:
                return _refuse(413, f"more than {MAX_BODY} bytes")
            log.info("mcp: project %s: %s %s", project_name, request.method, name)
            if server.secret_headers():
                self._used(project, f"the token of [agent.mcp.{name}]")
            if request.method != "GET":
                return await while_connected(request, self._relay(request, name, server, body))
        if self._streams[project] >= MAX_STREAMS:
            # As of a server that has no such stream.
            return _refuse(405, f"this project has {MAX_STREAMS} streams open")
        self._streams[project] += 1
        try:
            return await while_connected(request, self._relay(request, name, server, b""))
        finally:
            self._streams[project] -= 1

    async def _relay(self, request: web.Request, name: str, server: McpSection, body: bytes) -> web.StreamResponse:
        try:
            upstream = await self._call(request, server, body)
        except Unreachable as error:
            log.warning("mcp: %s at %s: %s", name, server.host, error)
            why = "has no certificate that the gateway trusts" if "Certificate" in str(error) else "cannot be reached"
            return _refuse(502, f"{server.host} {why}")
        async with upstream:
            if upstream.status in (401, 403):
                # Not its status: a client would begin to log in by itself, which leads nowhere.
                told = f"{server.host} did not accept the token in [agent.mcp.{name}]"
                log.warning("mcp: %s", told)
                return _refuse(502, told)
            if 300 <= upstream.status < 400:
                log.warning("mcp: %s redirects from the url in [agent.mcp.%s]", server.host, name)
                return _refuse(502, f"{server.host} redirects; [agent.mcp.{name}] needs the url that it redirects to")
            headers = _only(upstream.headers, _RETURNED)
            # A stream of the server's own news may be silent for hours. It ends with its client, which is looked at
            # all the time, or with the server.
            stall_s = None if request.method == "GET" else self._answer_s
            return await stream_back(request, upstream, headers, name=f"mcp: {name}", stall_s=stall_s)

    async def _call(self, request: web.Request, server: McpSection, body: bytes) -> aiohttp.ClientResponse:
        """The server's response, once its headers are here: of a plain answer, when the tool is done.

        Raises Unreachable.
        """
        if not self._session:
            # No connection is kept: on one that its server closes just now, nobody could tell whether a call arrived.
            self._session = outbound.session(auto_decompress=False, force_close=True)
        headers = _only(request.headers, _FORWARDED)
        headers.update({"Accept-Encoding": "identity", **server.secret_headers()})
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._session.request(
                    request.method,
                    URL(server.url, encoded=True),
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
                )
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(type(error).__name__) from None


def _only(headers: CIMultiDictProxy[str], names: frozenset[str]) -> CIMultiDict[str]:
    """The headers of these names, and the protocol's own."""
    kept = ((name, value) for name, value in headers.items() if name.lower() in names or name.lower().startswith(_OWN))
    return CIMultiDict(kept)


def _refuse(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
