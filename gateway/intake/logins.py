"""Who is logged in to the page in the browser: links that are good once, and the sessions that they begin.

A link logs in the very person for whom it was made, with their name and role: nobody has an account of the page's own.
Links live in memory, for five minutes; a restart ends them. A session is a random token in the browser's cookie, of
which the database has a hash; it ends when nobody used it for a month, or when its person leaves the access lists.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
from dataclasses import dataclass, replace
from typing import Protocol

from gateway import clock
from gateway.chat.text import inline
from gateway.config import Access, Role
from gateway.errors import StateError, UserError
from gateway.store import Connection, Store, audit, web_sessions
from gateway.store.web_sessions import WebSession

log = logging.getLogger(__name__)

#: Seconds that a link is good for, and after which a session that nobody uses ends.
LINK_FOR_S, SESSION_FOR_S = 300.0, 30 * 86400.0
#: Links of one person that are open at once; another one ends the oldest.
MOST_LINKS = 5
#: Sessions of one person; another one ends the one that was not used for the longest.
MOST_SESSIONS = 20
#: Seconds between two notes of when a session was used.
_NOTE_EVERY_S = 3600.0
_BROWSERS = ("Firefox", "Edg", "OPR", "SamsungBrowser", "Chrome", "Safari")
_NAMES = {"Edg": "Edge", "OPR": "Opera", "SamsungBrowser": "Samsung Internet"}
_SYSTEMS = {"iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Mac OS X": "Mac", "Windows": "Windows"}
_SYSTEMS |= {"CrOS": "ChromeOS", "Linux": "Linux"}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is, or can be, logged in. `sender`: `transport:account`, as the access lists name them."""

    sender: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class _Link:
    sender: str
    name: str
    made_at: float  # by the wall's clock, and by the event loop's: one may be set, the other stands still in a sleep
    made_at_loop: float

    @property
    def is_good(self) -> bool:
        passed = max(clock.since(self.made_at), asyncio.get_running_loop().time() - self.made_at_loop)
        return passed < LINK_FOR_S


class Where(Protocol):
    """Where the page lives."""

    @property
    def url(self) -> str:
        """Its address, without a slash at its end."""

    @property
    def is_public(self) -> bool:
        """Whether other machines can open it."""


class Logins:
    """See the module."""

    def __init__(self, store: Store, access: Access, where: Where) -> None:
        self.where = where
        self._store = store
        self._access = access
        self._links: dict[str, _Link] = {}
        self._sessions: dict[str, WebSession] = {}

    async def recover(self) -> None:
        """Read which sessions there are; those that nobody uses any more end."""
        for one in await self._store.read(web_sessions.everything):
            self._sessions[one.token_hash] = one
            if self._is_over(one):
                await self._end(one)

    # --- links -------------------------------------------------------------------------------------------------------

    def link(self, sender: str, name: str) -> str:
        """An address that logs in `sender`, once."""
        self._links = {hashed: link for hashed, link in self._links.items() if link.is_good}
        mine = [hashed for hashed, link in self._links.items() if link.sender == sender]
        for hashed in mine[: max(0, len(mine) - MOST_LINKS + 1)]:
            del self._links[hashed]
        token = secrets.token_urlsafe(32)
        made = _Link(sender, inline(name)[:100], clock.now(), asyncio.get_running_loop().time())
        self._links[_hashed(token)] = made
        return f"{self.where.url}/login/{token}"

    def offered(self, token: str) -> Person | None:
        """Whom a link would log in; None for one that is not good, or no longer. It stays as it is."""
        link = self._links.get(_hashed(token))
        if link is None or not link.is_good:
            return None
        role = self._access.role(link.sender)
        return None if role is Role.NOBODY else Person(link.sender, link.name, role)

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def begin(self, token: str, agent: str) -> str:
        """Use a link up, and begin a session; the token that its browser is to keep. `agent`: what the browser calls
        itself.

        Raises:
            UserError: the link is not good, or no longer.
            StateError: nothing was stored; the link is good as before.
        """
        person = self.offered(token)
        link = self._links.pop(_hashed(token), None)
        if person is None or link is None:
            raise UserError("This link was used, or is too old.")
        kept = secrets.token_urlsafe(32)
        mine = sorted(self.of(person.sender), key=lambda one: one.seen_at)
        ended = mine[: max(0, len(mine) - MOST_SESSIONS + 1)]
        device = device_of(agent)

        def unit(connection: Connection) -> WebSession:
            for one in ended:
                web_sessions.end(connection, one.id)
            audit.add(connection, "done", person.sender, f"logged in to the page with {device}")
            return web_sessions.add(connection, _hashed(kept), person.sender, person.name, device)

        try:
            begun = await self._store.write(unit)
        except StateError:
            self._links[_hashed(token)] = link
            raise
        for one in ended:
            self._sessions.pop(one.token_hash, None)
        self._sessions[begun.token_hash] = begun
        return kept

    def who(self, token: str) -> tuple[Person, WebSession] | None:
        """Whose session a browser's token is; None: nobody's. It is noted that it was used."""
        session = self._sessions.get(_hashed(token))
        if session is None:
            return None
        if self._is_over(session):
            self._end(session)
            return None
        role, now = self._access.role(session.sender), clock.now()
        if abs(now - session.seen_at) > _NOTE_EVERY_S:
            session = self._sessions[session.token_hash] = replace(session, seen_at=now)
            number = session.id
            self._store.write(lambda c: web_sessions.seen(c, number, now), urgent=False).add_done_callback(_noted)
        return Person(session.sender, session.name, role), session

    def of(self, sender: str) -> list[WebSession]:
        """A person's sessions, oldest first."""
        mine = [one for one in self._sessions.values() if one.sender == sender]
        return sorted(mine, key=lambda one: one.id)

    async def end(self, session: WebSession) -> None:
        """Its browser is logged out, from this moment on. Raises StateError: until the next start only."""
        await self._end(session)

    def _is_over(self, session: WebSession) -> bool:
        is_old = clock.since(session.seen_at) > SESSION_FOR_S
        return is_old or self._access.role(session.sender) is Role.NOBODY

    def _end(self, session: WebSession) -> asyncio.Future[None]:
        self._sessions.pop(session.token_hash, None)
        ending = self._store.write(lambda c: web_sessions.end(c, session.id))
        ending.add_done_callback(_noted)
        return ending


def device_of(agent: str) -> str:
    """What a browser calls itself, in a few words for its owner."""
    browser = next((name for name in _BROWSERS if name in agent), "")
    system = next((told for name, told in _SYSTEMS.items() if name in agent), "")
    browser = _NAMES.get(browser, browser)
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or re.sub(r"[^\w./ -]", "", agent)[:40].strip() or "a browser"


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _noted(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        log.warning("a session of the page was not noted: %s", error)
