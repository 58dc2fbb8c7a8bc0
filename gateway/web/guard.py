"""What the page asks of each request, and tells each browser: no other site can read it, frame it, or act by it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.errors import StateError, UserError
from gateway.intake.logins import SESSION_FOR_S, Logins, Person
from gateway.store.web_sessions import WebSession
from gateway.web import templates
from gateway.web.place import Place

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: What a request is for. look: a page. change: it changes something. stream: a WebSocket. file: the same for everybody,
#: under any name of this host.
Kind = Literal["look", "change", "stream", "file"]

#: Nothing inline, nothing from elsewhere, and in nobody's frame.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = CIMultiDict(
    {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
)
_NOT_OURS = "This was not sent by the page itself. Open the page, and try again."
#: Links that are tried in vain in a minute, by everybody together: 32 random bytes are not found by trying, and no log
#: and no database needs to hear of it.
MOST_FAILURES, _MINUTE_S = 30, 60.0
#: Close code of a stream whose person is not logged in any more.
LOGGED_OUT = 4001
#: The cookie's name. The second is kept by browsers only if it is https, this host's alone, and for all paths.
COOKIE, SECURE_COOKIE = "huskies", "__Host-huskies"


class Guard:
    """Wraps each handler of the page."""

    def __init__(self, place: Place, logins: Logins) -> None:
        self.place = place
        self._logins = logins
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)

    def wrap(self, handler: Handler, kind: Kind = "look") -> Handler:
        """The handler behind all checks."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                answer = self._refusal(request, kind) or await handler(request)
            except web.HTTPException as error:  # not found, too large: with our headers, too
                answer = templates.message(error.status, error.reason, self._person(request))
            except UserError as error:  # what was asked about is not there
                answer = templates.message(404, str(error), self._person(request))
            except StateError as error:
                answer = templates.message(503, f"The gateway cannot read or write its state: {error}")
            if kind == "look" and isinstance(answer, web.Response) and self.visitor(request) is not None:
                self.let_in(request, answer, request.cookies[self._cookie(request)], SESSION_FOR_S)  # from now on
            if not answer.prepared:
                answer.headers.update(HEADERS)
                answer.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
            return answer

        return guarded

    def visitor(self, request: web.Request) -> tuple[Person, WebSession] | None:
        """Who is logged in."""
        token = request.cookies.get(self._cookie(request), "")
        return self._logins.who(token) if token else None

    def _person(self, request: web.Request) -> Person | None:
        visitor = self.visitor(request)
        return None if visitor is None else visitor[0]

    def let_in(self, request: web.Request, answer: web.Response, token: str, seconds: float) -> None:
        """Have the browser keep a session's token."""
        answer.set_cookie(
            self._cookie(request),
            token,
            max_age=int(seconds),
            path="/",
            httponly=True,
            secure=self.place.is_secure(_host(request)),
            samesite="Lax",
        )

    def let_out(self, request: web.Request, answer: web.Response) -> None:
        """Have it forget the token."""
        self.let_in(request, answer, "", 0)

    def failed(self) -> None:
        """Somebody came with a link that is not good."""
        self._failures.append(asyncio.get_running_loop().time())

    @property
    def is_beset(self) -> bool:
        """Whether that happened too often in the last minute."""
        full = len(self._failures) == MOST_FAILURES
        return full and asyncio.get_running_loop().time() - self._failures[0] < _MINUTE_S

    def _cookie(self, request: web.Request) -> str:
        return SECURE_COOKIE if self.place.is_secure(_host(request)) else COOKIE

    def _refusal(self, request: web.Request, kind: Kind) -> web.Response | None:
        host = _host(request)
        if kind == "file":
            return None
        if host not in self.place.hosts:  # another name may be somebody else's, who made it lead here
            if self.place.is_also_local(host) and kind == "look":
                return templates.elsewhere(self.place.local_url, str(request.rel_url))
            return templates.message(421, f"This page lives at {self.place.url}.")
        if kind == "look":
            return None
        ours, origin = self.place.origin(host), request.headers.get(hdrs.ORIGIN, "").lower()
        site = request.headers.get("Sec-Fetch-Site")
        if kind == "stream":  # no browser says the site of a WebSocket, and each says its origin
            return None if origin == ours and site in (None, "same-origin") else templates.message(403, _NOT_OURS)
        if site != "same-origin":
            return templates.message(403, f"{_NOT_OURS} Older browsers do not say who sends: then try a newer one.")
        # A plain form of a page without referrers says "null"; so does a frame that has no origin, which is cross-site.
        return None if origin in (ours, "null") else templates.message(403, _NOT_OURS)


def _host(request: web.Request) -> str:
    return request.headers.get(hdrs.HOST, "").lower()
