"""What the `huskies` command asks of the running gateway, over a socket that only its user can open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from gateway import clock
from gateway.chat import Fate, Message
from gateway.chat.finding import Finding
from gateway.delivery import Fates
from gateway.errors import StateError, UserError
from gateway.intake import Inbox, Services
from gateway.projects.recipes import stored
from gateway.store import Store, messages, outbox
from gateway.store.projects import Project
from gateway.web.parts import Part

#: Seconds between two looks at what became of a message.
_LOOK_S = 0.2


class Speaker(Protocol):
    """Whose words come by the socket: the command line's own transport."""

    sender: str

    def message(self, text: str, conversation: str, external_id: str) -> Message:
        """What somebody sent."""


class LocalApi:
    """`checks` asks the platforms."""

    def __init__(
        self,
        services: Services,
        inbox: Inbox,
        fates: Fates,
        speaker: Speaker,
        *,
        parts: Callable[[], Awaitable[list[Part]]],
        checks: Callable[[], Awaitable[list[Finding]]],
    ) -> None:
        self._services = services
        self._store: Store = services.store
        self._inbox = inbox
        self._fates = fates
        self._speaker = speaker
        self._parts = parts
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        """The routes of the socket."""
        return [
            web.post("/send", self._send),
            web.get("/projects", self._projects),
            web.get("/projects/{name}", self._project),
            web.post("/login", self._login),
            web.get("/doctor", self._doctor),
            web.get("/checks", self._check),
        ]

    async def _send(self, request: web.Request) -> web.Response:
        """Accept a message (once per id), wait until it is settled, answer with its replies.

        If the conversation is told something meanwhile, after row `seen` of the outbox (a question, or why it has to
        wait), that is the answer; ask again with what is `seen` now.
        """
        body = await request.json()
        text, conversation, external_id = (str(body[key]) for key in ("text", "conversation", "id"))
        seen = int(body.get("seen", -1))
        message = self._speaker.message(text, conversation, external_id)
        try:
            if seen < 0:
                seen = await self._store.read(outbox.newest)
            # Settling needs the loop; there is no await between the hand-over and asking for the fate.
            accepted = await self._inbox.accept(message.conversation.transport, [message], None)
            settled = self._fates.settled(accepted[0]) if accepted else None
            stored = await self._store.read(lambda c: messages.of_event(c, message))
            here = stored.conversation_id
            while not stored.fate.final:
                if told := await self._store.read(lambda c: outbox.notices(c, here, seen)):
                    return web.json_response({"seen": told[-1][0], "notices": [text for _, text in told]})
                if settled is None:  # sent before, by a call that was cut off, or to hear what an agent asked
                    await asyncio.sleep(_LOOK_S)
                else:
                    await asyncio.wait([settled], timeout=_LOOK_S)
                stored = await self._store.read(lambda c: messages.of_event(c, message))
            replies = await self._store.read(lambda c: outbox.texts_for(c, stored.id, stored.turn_id))
        except StateError as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response({"fate": stored.fate, "replies": replies, "ok": stored.fate is Fate.ANSWERED})

    async def _projects(self, _: web.Request) -> web.Response:
        return web.json_response([self._describe(project) for project in self._services.projects.all()])

    async def _project(self, request: web.Request) -> web.Response:
        try:
            project = self._services.projects.get(request.match_info["name"])
        except UserError as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.json_response(self._describe(project))

    async def _login(self, _: web.Request) -> web.Response:
        """A link that logs in whoever may open this socket."""
        sender = self._speaker.sender
        return web.json_response({"link": self._services.logins.link(sender, sender.partition(":")[2])})

    async def _doctor(self, _: web.Request) -> web.Response:
        parts = await self._parts()
        projects = self._services.projects
        for project in projects.all():
            if trouble := projects.trouble(project.id):
                parts.append(Part(f"project {project.name}", False, trouble))
        return web.json_response([{"name": p.name, "ok": p.ok, "text": p.text} for p in parts])

    async def _check(self, _: web.Request) -> web.Response:
        """What the platforms say, asked now: it takes seconds."""
        found = await self._checks()
        return web.json_response([{"name": f.name, "verdict": f.verdict, "text": f.text} for f in found])

    def _ssh(self, project: Project) -> dict[str, object]:
        """How to get in; empty where there is no SSH."""
        way = self._services.projects.access(project)
        return {} if way is None else {"alias": way.alias, "line": way.line, "port": way.port}

    def _describe(self, project: Project) -> dict[str, object]:
        projects = self._services.projects
        return {
            "name": project.name,
            "state": projects.state(project),
            "path": str(project.path),
            "stack": project.stack,
            "versions": {stack: told.version for stack, told in stored(project).told.items()},
            "engine": projects.engine.kind,
            "permissions": project.permissions,
            "last_error": project.last_error,
            "ssh": self._ssh(project),
            "running": [
                {"for_s": round(clock.since(turn.started_at), 1), "by": turn.requested_by}
                for turn in self._services.dispatcher.running_in(project.id)
            ],
        }
