"""What is said elsewhere: in a person's other rooms, to be read; and, for operators, everywhere."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gateway.chat import Membership
from gateway.chat.text import shorten
from gateway.config import Role
from gateway.errors import TransportError, UserError
from gateway.intake import Services
from gateway.intake.logins import Person
from gateway.store import Connection, timeline
from gateway.store.timeline import Entry, Said, Spoken
from gateway.web import templates
from gateway.web.changes import Changes
from gateway.web.guard import Guard
from gateway.web.markup import written
from transports.web import NAME

#: Conversations and entries that are shown, and characters of an entry of the flow.
_ROOMS, _ENTRIES, _FLOW, _SHORT = 50, 100, 80, 300
_NOT_YOURS = "There is no such room, or you are not in it."


class Rooms:
    """The routes `/rooms`, `/room/{id}` and `/flow`."""

    def __init__(self, services: Services, guard: Guard, changes: Changes) -> None:
        self._services = services
        self._guard = guard
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        """For whoever is logged in."""
        guarded = self._guard.wrap
        return [
            web.get("/rooms", guarded(self._list)),
            web.get(r"/room/{id:\d{1,9}}", guarded(self._read)),
            web.get("/flow", guarded(self._flow)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        sender = visitor[0].sender
        found = await self._services.store.read(lambda c: timeline.spoken_in(c, sender, _ROOMS))
        elsewhere = [one for one in found if one.room.transport != NAME]
        may = await asyncio.gather(*(self._is_in(one, sender) for one in elsewhere))
        rooms = [self._room(one) for one, is_in in zip(elsewhere, may, strict=True) if is_in]
        return templates.render("rooms.html", person=visitor[0], rooms=rooms)

    async def _read(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        wanted, sender = int(request.match_info["id"]), visitor[0].sender
        found = await self._services.store.read(lambda c: timeline.spoken_in(c, sender, 1, wanted))
        if not found or not await self._is_in(found[0], sender):
            raise UserError(_NOT_YOURS)

        def read(connection: Connection) -> list[Entry]:
            return timeline.newest(connection, wanted, _ENTRIES)

        entries = await self._services.store.read(read)
        rows = await asyncio.to_thread(lambda: [self._row(entry) for entry in entries])
        return templates.render("room.html", person=visitor[0], room=self._room(found[0]), rows=rows)

    async def _is_in(self, one: Spoken, sender: str) -> bool:
        """Whether somebody who wrote in a room reads it now. Where its platform does not say, only the bot's own."""
        transport = self._services.transports.get(one.room.transport)
        if not isinstance(transport, Membership):
            return one.direct
        try:
            return await transport.is_in(one.room, sender)
        except TransportError:
            return False

    def _room(self, one: Spoken) -> dict[str, Any]:
        project = None if one.project_id is None else self._services.projects.by_id(one.project_id)
        return {"id": one.id, "name": str(one.room), "at": one.at, "project": project.name if project else ""}

    def _row(self, entry: Entry) -> dict[str, Any]:
        if isinstance(entry, Said):
            text = "\n".join((entry.text, *(f"[{file.name}]" for file in entry.files))).strip()
            row = {"id": f"in-{entry.id}", "mine": True, "who": entry.name or entry.sender, "html": "", "text": text}
            return {**row, "at": entry.at, "fate": entry.fate.value, **_NOTHING}
        bot = self._services.settings.gateway.bot_name
        state = "" if entry.state == "sent" else entry.state
        row = {"id": f"out-{entry.id}", "mine": False, "who": bot, "html": written(entry.text), "text": ""}
        return {**row, "at": entry.at, "fate": state, **_NOTHING}

    # --- everywhere --------------------------------------------------------------------------------------------------

    async def _flow(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        if visitor[0].role is not Role.OPERATOR:
            told = "Only operators see what is said everywhere. Your own rooms are under Rooms."
            return templates.message(403, told, visitor[0])
        at = str(self._changes.now)
        return templates.render("flow.html", person=visitor[0], at=at, rows=await self._flow_rows())

    async def part(self, person: Person) -> dict[str, str] | None:
        """What a tab that shows the flow is to show now."""
        if person.role is not Role.OPERATOR:
            return None
        return {"id": "flow", "in": "", "html": templates.fragment("flow_rows.html", rows=await self._flow_rows())}

    async def _flow_rows(self) -> list[dict[str, Any]]:
        found = await self._services.store.read(lambda c: timeline.everywhere(c, _FLOW))
        bot = self._services.settings.gateway.bot_name
        return [
            {
                "id": f"flow-{'in' if isinstance(entry, Said) else 'out'}-{entry.id}",
                "is_said": isinstance(entry, Said),
                "who": entry.name or entry.sender if isinstance(entry, Said) else bot,
                "room": str(room),
                "at": entry.at,
                "text": shorten(" ".join(entry.text.split()), _SHORT),
                "fate": entry.fate.value if isinstance(entry, Said) else "" if entry.state == "sent" else entry.state,
            }
            for room, entry in found
        ]


#: What a row has in the page's own conversations alone.
_NOTHING: dict[str, Any] = {"order": "", "files": (), "choices": (), "key": "", "live": False}
