"""The stream of a page: what changed, as the templates render it, over one WebSocket per tab."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping

from aiohttp import WSCloseCode, WSMsgType, web

from gateway.config import Role
from gateway.intake import Services
from gateway.intake.logins import Person
from gateway.web import home, templates
from gateway.web.changes import FLOW, NEEDS, Changes, Position, project_of
from gateway.web.chat import Chat, is_about_a_room
from gateway.web.guard import LOGGED_OUT, Guard
from gateway.web.needs import Needs
from gateway.web.project import ProjectPage
from gateway.web.rooms import Rooms

#: Close code of ours: the page is to load anew.
ANEW = 4000
#: Seconds between two looks whether the browser is still there, and between two messages to it: what happens within is
#: told together. Streams of one session; more are somebody's mistake.
_HEARTBEAT_S, _PACE_S, _MOST_STREAMS = 20.0, 0.05, 50
#: Rendered parts that are kept for others to whom the same is told.
_MOST_KEPT = 1000


class Live:
    """The route `/live?after=<position>`, with `&chat=<name>` for a tab that shows a conversation, and with
    `&project=<name>` for one that shows a project."""

    def __init__(
        self,
        services: Services,
        guard: Guard,
        changes: Changes,
        *,
        chat: Chat,
        project: ProjectPage,
        needs: Needs,
        rooms: Rooms,
    ) -> None:
        self._services = services
        self._needs = needs
        self._rooms = rooms
        self._chat = chat
        self._project = project
        self._guard = guard
        self._changes = changes
        self._streams: Counter[int] = Counter()
        self._open: set[web.WebSocketResponse] = set()
        #: By topic and role: the number of changes when it was rendered.
        self._kept: dict[tuple[str, Role], tuple[int, dict[str, str]]] = {}

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Tell a tab of everything that changes after its position, until it closes."""
        visitor = self._guard.visitor(request)
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=4096)
        await socket.prepare(request)
        number = -1 if visitor is None else visitor[1].id
        if visitor is None or self._streams[number] >= _MOST_STREAMS:
            await socket.close(code=LOGGED_OUT)
            return socket
        self._streams[number] += 1
        self._open.add(socket)
        telling = asyncio.create_task(self._tell(request, socket, Position.of(request.query.get("after", ""))))
        try:
            async for message in socket:  # it says nothing; this is how its end is heard
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self._open.discard(socket)
            self._streams[number] -= 1
            self._streams += Counter()  # those that have none are forgotten
        return socket

    async def close(self) -> None:
        """End all streams: their pages come again."""
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open))

    async def _tell(self, request: web.Request, socket: web.WebSocketResponse, position: Position) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                visitor = self._guard.visitor(request)
                if visitor is None:
                    await socket.close(code=LOGGED_OUT)
                    return
                topics = self._changes.since(position)
                if topics is None:
                    await socket.close(code=ANEW)
                    return
                position = self._changes.now
                found = [await self._part(topic, visitor[0], request.query) for topic in topics]
                parts = [part for part in found if part is not None]
                await socket.send_json({"at": str(position), "parts": parts})
                await self._changes.wait(position)
                await asyncio.sleep(_PACE_S)

    async def _part(self, topic: str, person: Person, shown: Mapping[str, str]) -> dict[str, str] | None:
        """What a page is to show for a topic now, if anything; of projects, rendered once for all of a role."""
        if "flow" in shown or topic == FLOW:
            return await self._rooms.part(person) if "flow" in shown and topic == FLOW else None
        if is_about_a_room(topic):
            return await self._chat.part(topic, person, shown.get("chat", ""))
        if name := shown.get("project"):
            project = self._services.projects.by_id(project_of(topic) or 0)
            return await self._project.part(project, person) if project is not None and project.name == name else None
        if "chat" in shown:
            return None
        if topic == NEEDS:
            return {"id": "needs", "in": "", "html": templates.fragment("needs.html", **await self._needs.of(person))}
        number, role = self._changes.now.number, person.role
        kept = self._kept.get((topic, role))
        if kept is not None and kept[0] == number:
            return kept[1]
        part = self._rendered(topic)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[topic, role] = (number, part)
        return part

    def _rendered(self, topic: str) -> dict[str, str]:
        project_id = project_of(topic)
        assert project_id is not None  # there is no other topic
        row = home.project(self._services, project_id)
        html = "" if row is None else templates.fragment("project_row.html", project=row)
        return {"id": f"project-{project_id}", "in": "projects", "html": html}
