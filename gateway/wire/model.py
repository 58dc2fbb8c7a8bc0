"""The model's API for projects: the gateway adds the real credential, so that no container ever holds it.

Only the paths in `ALLOWED` exist, on one upstream. Bytes stream both ways as they come; in passing, the
response's own account of its tokens is read, and how the provider took the credential.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gateway.config import Credential
from gateway.store.usage import Used
from gateway.wire.http import HOP_BY_HOP, Bodies, Unreachable, open_session, stream_back, while_connected, without
from gateway.wire.model_check import Probe
from gateway.wire.model_keys import Keys, refused
from gateway.wire.model_usage import CallReader, is_dialogue
from gateway.wire.prices import Asked, Prices, read

log = logging.getLogger(__name__)

#: What a project may call, always with POST.
ALLOWED = ("v1/messages", "v1/messages/count_tokens")
#: Bytes of one request, which is kept so that it can be sent again.
MAX_BODY = 64 * 2**20

#: The session that a call belongs to, as the sled tells it: untrusted, see `gateway.store.usage.add`.
SESSION_HEADER = "x-huskies-session"
_MAX_SESSION = 80

#: Seconds before each further attempt to reach the upstream, and after which no more are made.
_RETRIES_S = (0.2, 0.5, 1.0)
_GIVE_UP_S = 5
#: Seconds after which the client should come again.
_RETRY_AFTER_S = 5

#: What a client of the API sends of itself. Nothing else goes on: an agent's own header could have our key refused.
_FORWARDED = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "anthropic-version",
        "content-type",
        "user-agent",
        "x-app",
        "x-claude-code-session-id",
    }
)
_FORWARDED_OF_THE_SDK = "x-stainless-"
_NOT_RETURNED = HOP_BY_HOP | {"location", "set-cookie"}


class Gate(Protocol):
    """Lets model calls go out."""

    async def enter(self, project: str, usd: float) -> str:
        """Reserve what a call of a project may cost; why it may not go out, or empty."""

    def leave(self, project: str, reserved: float, cost: float) -> None:
        """A call that was let in is over."""


#: Told of each model call when it is over: its project, its session's name on the wire, and what it used.
Account = Callable[[str, str, Used], None]


@dataclass
class _Call:
    """One request of a project, complete. `counts`: it is a model call, not only a question about one. `cost`: USD."""

    project: str
    session: str
    key: Credential
    url: URL
    headers: CIMultiDict[str]
    body: bytes
    counts: bool
    asked: Asked
    cost: float = 0.0


class ModelProxy:
    """Serves projects the model's API at `api_base_url` with the credentials that `keys` has for them.

    `account` is told of each call and must be quick. `stall_s`: seconds without a byte after which a response is cut;
    the CLI would wait five minutes.
    """

    def __init__(
        self,
        api_base_url: str,
        keys: Keys,
        account: Account,
        bodies: Bodies,
        *,
        stall_s: float = 90.0,
        gate: Gate | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._base_url = api_base_url.rstrip("/")
        self._probe = Probe(self._base_url)
        self._account = account
        self.stall_s = stall_s
        self._session: aiohttp.ClientSession | None = None
        self._bodies = bodies
        self._gate = gate
        self._prices = prices or Prices()
        self.keys = keys

    @property
    def key_problem(self) -> str:
        """What is wrong with a credential, or empty; the next call that the upstream accepts clears it."""
        return self.keys.problem

    @property
    def limited_until(self) -> float | None:
        """When the provider serves us again, seconds since the epoch; None: it does."""
        return self.keys.limited_until

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
        # As it came: what is spelled in another way, or names another host, is not what the CLI sends.
        if request.method != "POST" or path not in ALLOWED or not request.raw_path.startswith(f"/model/{path}"):
            return _error(404, "not_found_error", "the gateway does not serve this path")
        key = self.keys.ask(project)
        if isinstance(key, str):
            return _error(401, "authentication_error", key)
        query = request.rel_url.raw_query_string
        url = URL(f"{self._base_url}/{path}" + (f"?{query}" if query else ""), encoded=True)
        session = request.headers.get(SESSION_HEADER, "")[:_MAX_SESSION]
        async with self._bodies.read(request, project, MAX_BODY) as body:
            if body is None:
                return _error(413, "request_too_large", f"more than {MAX_BODY} bytes")
            headers = _headers(request, key)
            counts = path == ALLOWED[0]
            call = _Call(project, session, key, url, headers, body, counts=counts, asked=read(body))
            return await while_connected(request, self._admitted(request, call))

    async def _admitted(self, request: web.Request, call: _Call) -> web.StreamResponse:
        """The answer to a call, if it may go out: 403 is what a client does not try again."""
        reserved = self._prices.most(call.asked) if call.counts else 0.0
        if self._gate is None:
            return await self._relay(request, call)
        if why := await self._gate.enter(call.project, reserved):
            return _error(403, "permission_error", why)
        try:
            return await self._relay(request, call)
        finally:
            self._gate.leave(call.project, reserved, call.cost)

    async def _relay(self, request: web.Request, call: _Call) -> web.StreamResponse:
        try:
            with self._accounted(call) as reader:
                async with await self._call(call) as upstream:
                    reader.begin(upstream.status, upstream.content_type)
                    return await self._answer(request, call, upstream, reader)
        except Unreachable as error:
            log.warning("model API: %s", error)
            response = _error(502, "api_error", "the model's API cannot be reached")
            response.headers["Retry-After"] = str(_RETRY_AFTER_S)
            return response

    async def _answer(
        self, request: web.Request, call: _Call, upstream: aiohttp.ClientResponse, reader: CallReader
    ) -> web.StreamResponse:
        # The project had a part in the request that was refused: the gateway asks again, without it.
        if upstream.status in (401, 403) and await self._probe.refuses(call.key):
            self.keys.was_refused(call.project, call.key)
            return _error(401, "authentication_error", refused(call.key.scope))
        if upstream.status == 429:
            self.keys.was_limited(call.project, call.key, upstream.headers)
        if upstream.status < 300:
            self.keys.was_accepted(call.project, call.key)
        else:
            self.keys.was_undecided(call.project, call.key)
        headers = without(upstream.headers, _NOT_RETURNED)
        return await stream_back(request, upstream, headers, name="model API", stall_s=self.stall_s, see=reader.feed)

    @contextlib.contextmanager
    def _accounted(self, call: _Call) -> Iterator[CallReader]:
        """Account for the call once: when its response is complete, or else at the end of the block, however it
        comes. What never reached the upstream is not a call."""
        told = not call.counts

        def tell() -> None:
            nonlocal told
            if not told:
                told = True
                call.cost = self._prices.cost(call.asked, reader.used, reader.streamed)
                self._account(call.project, call.session, replace(reader.used, usd=call.cost))

        # Before the last bytes go to the project: its turn may end upon them, and then the account is there.
        reader = CallReader(dialogue=call.counts and is_dialogue(call.body), on_complete=tell)
        try:
            yield reader
        except Unreachable:
            told = True
            raise
        finally:
            reader.close()
            tell()

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


def _headers(request: web.Request, key: Credential) -> CIMultiDict[str]:
    named = without(request.headers, HOP_BY_HOP)
    headers = CIMultiDict([(name, value) for name, value in named.items() if _is_forwarded(name.lower())])
    # Uncompressed, so that the tokens can be counted without touching the bytes.
    headers["Accept-Encoding"] = "identity"
    key.sign(headers)
    return headers


def _is_forwarded(name: str) -> bool:
    return name in _FORWARDED or name.startswith(_FORWARDED_OF_THE_SDK)


def _error(status: int, kind: str, message: str) -> web.Response:
    """An error in the shape of the model's API."""
    return web.json_response({"type": "error", "error": {"type": kind, "message": message}}, status=status)
