"""The page in the browser: logging in and out, and what a person sees first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web

from gateway.errors import StateError, UserError
from gateway.intake import Inbox, Services
from gateway.intake.logins import SESSION_FOR_S
from gateway.web import home, templates
from gateway.web.changes import Changes
from gateway.web.chat import Chat
from gateway.web.guard import Guard
from gateway.web.live import Live
from gateway.web.needs import Needs
from gateway.web.palette import Palette
from gateway.web.place import Place
from gateway.web.project import ProjectPage
from gateway.web.rooms import Rooms
from gateway.web.usage import Usage
from gateway.web.vouched import Vouched
from transports.web import Web


class Page:
    """The routes of the page. `secrets`: the names of what is secret, by scope; `wrong`: see `Needs`."""

    def __init__(
        self,
        services: Services,
        inbox: Inbox,
        place: Place,
        changes: Changes,
        transport: Web,
        *,
        secrets: Callable[[], Mapping[str, list[str]]],
        wrong: Callable[[], list[str]],
    ) -> None:
        self._services = services
        self._changes = changes
        self._logins = services.logins
        self._guard = Guard(place, services.logins)
        self._vouched = Vouched(services, self._guard)
        self._chat = Chat(services, inbox, self._guard, changes, transport=transport, vouched=self._vouched)
        self._project = ProjectPage(services, self._guard, changes, secrets)
        self._palette = Palette(services, self._guard)
        self._rooms = Rooms(services, self._guard, changes)
        self._needs = Needs(services, changes, wrong)
        self._live = Live(
            services, self._guard, changes, chat=self._chat, project=self._project, needs=self._needs, rooms=self._rooms
        )

    def routes(self) -> list[web.RouteDef]:
        """On the server that strangers can reach: nothing is shown without a login but how to get one."""
        guarded = self._guard.wrap
        return [
            web.get("/", guarded(self._home)),
            web.get("/login/{token}", guarded(self._offer)),
            web.post("/login", guarded(self._log_in, "change")),
            web.post("/logout", guarded(self._log_out, "change")),
            web.get("/live", guarded(self._live.stream, "stream")),
            web.get("/static/{name}", guarded(templates.serve_static, "file")),
            *self._chat.routes(),
            *self._project.routes(),
            *self._palette.routes(),
            *Usage(self._services, self._guard).routes(),
            *self._rooms.routes(),
            *self._vouched.routes(),
            web.get("/manifest.webmanifest", guarded(templates.serve_manifest, "file")),
            web.get("/{anything:.*}", guarded(self._nothing)),
        ]

    async def close(self) -> None:
        """End what streams."""
        await asyncio.gather(self._live.close(), self._project.close())

    async def _nothing(self, _: web.Request) -> web.Response:
        raise UserError("There is no such page.")

    async def _home(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        person, _ = visitor
        at = str(self._changes.now)  # before what is rendered: what changes meanwhile is told again
        needs = await self._needs.of(person)
        return templates.render("home.html", person=person, at=at, projects=home.projects(self._services), **needs)

    async def _offer(self, request: web.Request) -> web.Response:
        """Who would be logged in, and a button. Whatever looks at links before people do does not press it."""
        token = request.match_info["token"]
        person = None if self._guard.is_beset else self._logins.offered(token)
        if person is None:
            return self._no_link()
        return templates.render("login.html", offered=person, token=token)

    async def _log_in(self, request: web.Request) -> web.Response:
        token = str((await request.post()).get("token", ""))
        if self._guard.is_beset:
            return self._no_link()
        before = self._guard.visitor(request)
        try:
            kept = await self._logins.begin(token, request.headers.get("User-Agent", ""))
            if before is not None:
                await self._logins.end(before[1])
        except UserError:
            return self._no_link()
        except StateError as error:
            return templates.message(503, f"You are not logged in yet: {error}. Try the link again.")
        answer = web.Response(status=303, headers={"Location": "/"})
        self._guard.let_in(request, answer, kept, SESSION_FOR_S)
        return answer

    async def _log_out(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is not None:
            await self._logins.end(visitor[1])
        answer = web.Response(status=303, headers={"Location": "/"})
        self._guard.let_out(request, answer)
        return answer

    def _no_link(self) -> web.Response:
        if self._guard.is_beset:
            return templates.message(429, "Too many links were tried that are not good. Wait a minute, and try again.")
        self._guard.failed()
        return templates.render("welcome.html", 410, told="This link was used, or is too old.")
