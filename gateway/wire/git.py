"""Git over HTTPS for projects: the gateway adds the token, so that no container ever holds it.

Reading is served (`clone`, `fetch`), and pushing once people have allowed it, for hosts that a token is set for, at
`/git/<host>/<path of repository>/`.
What is served for a host goes to that host over verified TLS and nowhere else, redirects included. What is refused is
told in plain text, which git shows as lines that begin with "remote:".
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gateway.errors import UserError
from gateway.wire.git_url import GitUrl, check_git_url
from gateway.wire.http import Bodies, Unreachable, open_session, stream_back, while_connected

log = logging.getLogger(__name__)

#: Bytes of one request: it names what the project wants and has, without objects.
MAX_BODY = 16 * 2**20
#: The same of a push, which does: as much as the relay takes.
MAX_PUSH = 64 * 2**20

_ADVERTISEMENT, _UPLOAD, _RECEIVE = "info/refs", "git-upload-pack", "git-receive-pack"
#: Method, end of the path and query of what is served.
_READING = {("GET", _ADVERTISEMENT, "service=git-upload-pack"), ("POST", _UPLOAD, "")}
_PUSHING = {("GET", _ADVERTISEMENT, "service=git-receive-pack"), ("POST", _RECEIVE, "")}
#: Not Content-Encoding: what git compressed, the server that took the request has decompressed.
_FORWARDED = ("Accept", "Content-Type", "Git-Protocol", "User-Agent")
_RETURNED = ("Cache-Control", "Content-Encoding", "Content-Length", "Content-Type", "Expires", "Pragma", "Retry-After")


@dataclass(frozen=True)
class _Call:
    """One request of a project: what it asks of which repository."""

    method: str
    repository: GitUrl
    end: str
    query: str

    @property
    def url(self) -> URL:
        query = f"?{self.query}" if self.query else ""
        return URL(f"{self.repository.url}/{self.end}{query}", encoded=True)


class GitProxy:
    """Serves projects the repositories of the hosts in `tokens`.

    A key is a host as it stands in URLs; a value is a token, or user:password. `used` hears of each use. `stall_s`:
    seconds without a byte after which a response is cut.
    """

    def __init__(
        self,
        tokens: Mapping[str, str],
        refusal: Callable[[str, GitUrl], Awaitable[str]],
        bodies: Bodies,
        *,
        used: Callable[[str, str], None] = lambda _project, _secret: None,
        stall_s: float = 90.0,
    ) -> None:
        self._used = used
        self._credentials = {host: _basic(token) for host, token in tokens.items() if token}
        self._stall_s = stall_s
        self._refusal = refusal
        self._session: aiohttp.ClientSession | None = None
        self._bodies = bodies

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that are served: a clone from one of them should come by here."""
        return frozenset(self._credentials)

    def routes(self, authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
        """The routes for the wire's application. `authenticate` gives the name of a request's project."""

        async def serve(request: web.Request) -> web.StreamResponse:
            project = authenticate(request)
            if project is None:
                return _refuse(401, "unknown project token")
            return await self._serve(request, project)

        return [web.route("*", "/git/{path:.*}", serve)]

    async def close(self) -> None:
        """Close the connections to the hosts."""
        if self._session:
            await self._session.close()

    async def _serve(self, request: web.Request, project: str) -> web.StreamResponse:
        path, query = request.rel_url.raw_path.removeprefix("/git/"), request.rel_url.raw_query_string
        pushing = _find(_PUSHING, request.method, path, query)
        call = pushing or _find(_READING, request.method, path, query)
        if call is None:
            return _refuse(404, "the gateway does not serve this")
        if call.repository.host not in self._credentials:
            return _refuse(404, f"no token is set for {call.repository.host} in [git] tokens")
        if pushing is not None:
            answer = await while_connected(request, self._ask(project, pushing))
            if answer.status != 200:
                return answer
        limit = MAX_PUSH if pushing else MAX_BODY
        async with self._bodies.read(request, project, limit) as body:
            if body is None:
                return _refuse(413, f"more than {limit} bytes; push fewer commits at a time")
            log.info("git: project %s: %s %s", project, call.method, call.url)
            self._used(project, f"the token for {call.repository.host}")
            return await while_connected(request, self._relay(request, call, body))

    async def _ask(self, project: str, call: _Call) -> web.Response:
        """Whether a push may proceed; 200 if it may."""
        why = await self._refusal(project, call.repository)
        return _refuse(403, why) if why else web.Response()

    async def _relay(self, request: web.Request, call: _Call, body: bytes) -> web.StreamResponse:
        host = call.repository.host
        try:
            upstream = await self._call(request, call, body)
        except Unreachable as error:
            log.warning("git: %s: %s", host, error)
            why = "has no certificate that the gateway trusts" if "Certificate" in str(error) else "cannot be reached"
            return _refuse(502, f"{host} {why}")
        async with upstream:
            if upstream.status in (401, 403):
                return _refuse(403, f"{host} did not accept the token that [git] tokens has for it")
            if upstream.status == 404:
                return _refuse(404, f"{call.repository.url} does not exist, or the token for {host} may not read it")
            if 300 <= upstream.status < 400:
                return _redirect(call, upstream)
            headers = CIMultiDict((name, upstream.headers[name]) for name in _RETURNED if name in upstream.headers)
            return await stream_back(request, upstream, headers, name=f"git: {host}", stall_s=self._stall_s)

    async def _call(self, request: web.Request, call: _Call, body: bytes) -> aiohttp.ClientResponse:
        """The upstream's response, once its headers are here. Raises Unreachable."""
        if not self._session:
            self._session = open_session()
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        headers |= {"Accept-Encoding": "identity", "Authorization": self._credentials[call.repository.host]}
        try:
            async with asyncio.timeout(self._stall_s):
                return await self._session.request(
                    call.method,
                    call.url,
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
                )
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(type(error).__name__) from None


def _basic(token: str) -> str:
    """The header that bears a token; forges ignore the user, or know this one."""
    pair = token if ":" in token else f"x-access-token:{token}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _find(served: set[tuple[str, str, str]], method: str, path: str, query: str) -> _Call | None:
    """What is asked for, if it is one of `served`. `path` is `<host>/<repository>/<end>`, as it came."""
    for its_method, end, its_query in served:
        if (method, query) == (its_method, its_query) and path.endswith(f"/{end}"):
            address = "https://" + path.removesuffix(f"/{end}")
            repository = _repository(address)
            # In its normal form, so that what was checked is what is called.
            if repository is not None and repository.url == address:
                return _Call(method, repository, end, query)
    return None


def _repository(address: str) -> GitUrl | None:
    try:
        return check_git_url(address)
    except UserError:
        return None


def _redirect(call: _Call, upstream: aiohttp.ClientResponse) -> web.Response:
    """A redirect to the same kind of thing on the same host, as the project may follow it; else why it may not."""
    host = call.repository.host
    try:
        target = call.url.join(URL(upstream.headers["Location"], encoded=True))
        path = f"{target.raw_authority}{target.raw_path}"
        served = _PUSHING if call.end == _RECEIVE or _RECEIVE in call.query else _READING
        found = _find(served, call.method, path, target.raw_query_string) if target.scheme == "https" else None
    except (KeyError, ValueError):  # none, or not a URL
        found = None
    if found is None:
        return _refuse(502, f"{host} redirects to something that is not a repository; check the URL")
    if found.repository.host != host or found.end != call.end:
        return _refuse(502, f"{host} redirects to another host; if you trust it, clone from {found.repository.url}")
    location = f"/git/{found.url.raw_authority}{found.url.raw_path_qs}"
    return web.Response(status=upstream.status, headers={"Location": location})


def _refuse(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
