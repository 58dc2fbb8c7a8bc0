"""Conversations in the page: one with each project, and one with no project, each person's own."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from aiohttp import web

from gateway.chat import Conversation, Message
from gateway.errors import StateError, UserError
from gateway.intake import Inbox, Services
from gateway.intake.logins import Person
from gateway.store import Connection, conversations, timeline
from gateway.store.timeline import Entry, Said
from gateway.web import served, templates, uploads
from gateway.web.changes import Changes
from gateway.web.guard import Guard
from gateway.web.markup import written
from gateway.web.vouched import Vouched
from transports.web import NAME, Web, room_of

#: Entries that a page begins with.
_SHOWN = 60
#: What the conversation without a project is called.
ALL = "all"
_IDENTIFIER = re.compile(r"[A-Za-z0-9-]{8,64}")
_PLACE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)-([01])-(\d{1,9})")
_TOPIC = "room "
T = TypeVar("T")


class Chat:
    """The routes of conversations, and what changed in one of them."""

    def __init__(
        self, services: Services, inbox: Inbox, guard: Guard, changes: Changes, *, transport: Web, vouched: Vouched
    ) -> None:
        self._services = services
        self._vouched = vouched
        self._inbox = inbox
        self._guard = guard
        self._changes = changes
        self._transport = transport

    def routes(self) -> list[web.RouteDef]:
        """Each is about a conversation of whoever asks: nobody names another person's."""
        guarded = self._guard.wrap
        return [
            web.get("/chat/{name}", guarded(self._show)),
            web.post("/chat/{name}", guarded(self._say, "change")),
            web.get(r"/files/said/{message:\d{1,9}}/{number:\d{1,3}}", guarded(self._sent_by_people)),
            web.get(r"/files/told/{row:\d{1,9}}", guarded(self._sent_to_people)),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        name, at = request.match_info["name"], str(self._changes.now)
        here = self._conversation(visitor[0], name)
        found = _PLACE.fullmatch(request.query.get("before", ""))
        until = None if found is None else timeline.Place(float(found[1]), found[2] == "1", int(found[3]))

        def read(connection: Connection) -> list[Entry]:
            known = conversations.find(connection, here)
            return [] if known is None else timeline.newest(connection, known.id, _SHOWN, until)

        entries = await self._services.store.read(read)
        link = self._links(name)
        # Whole documents, and files that are looked for: not on the loop.
        rows = await asyncio.to_thread(lambda: [self._row(entry, link) for entry in entries])
        return templates.render(
            "chat.html",
            person=visitor[0],
            at=at,
            name=name,
            title="huskies" if name == ALL else name,
            rows=rows,
            older=_place(entries[0]) if len(entries) == _SHOWN else "",
            is_past=until is not None,
            identifier=secrets.token_hex(12),
        )

    async def _say(self, request: web.Request) -> web.Response:
        """Take a message, once for each `id`; `presses`: the message whose button was pressed."""
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        name = request.match_info["name"]
        here = self._conversation(visitor[0], name)
        try:
            async with uploads.reading(request, self._transport.folder) as form:
                return await self._take(visitor[0], here, name, form)
        except uploads.TooMuch as error:
            return templates.message(413, str(error))
        except StateError as error:
            return templates.message(503, f"That was not stored: {error}. Send it again.")
        except OSError as error:
            return templates.message(503, f"The files were not stored: {error.strerror}. Send it again.")

    async def _take(self, person: Person, here: Conversation, name: str, form: uploads.Form) -> web.Response:
        """`rest`: what was written beside a button, which is part of what the button says; `about`: the project that it
        is on the page of, as the conversation may have turned to another one."""
        text, rest, identifier, pressed = (form.fields.get(field, "") for field in ("text", "rest", "id", "presses"))
        text = f"{text} {' '.join(rest.split())}".strip() if rest.strip() else text
        if not (text.strip() or form.files) or not _IDENTIFIER.fullmatch(identifier):
            return templates.message(400, "There was nothing in it. Write something, and send it again.")
        message = Message(
            here,
            f"{person.sender} {identifier}",
            person.sender,
            text.replace("\r\n", "\n"),
            sender_name=person.name,
        )
        if (about := form.fields.get("about")) and (other := await self._turned_to(here, about)):
            told = (
                f"Your conversation about {about} is about {other} now. Write `switch {about}` there, and press again."
            )
            return templates.message(409, told)
        if form.files:
            kept = await asyncio.to_thread(form.keep, self._transport.folder, message.external_id)
            message = replace(message, files=kept)
        if pressed:
            message = replace(message, presses=pressed)
        await self._inbox.accept(NAME, [message], None, project_id=await self._project(here, name))
        self.changed(here.room, f"in/{message.external_id}")
        return web.Response(status=303, headers={"Location": f"/chat/{name}"})

    async def _sent_by_people(self, request: web.Request) -> web.StreamResponse:
        number, which = int(request.match_info["number"]), int(request.match_info["message"])
        found = await self._services.store.read(lambda c: timeline.attached(c, which, number))
        file = self._theirs(request, found)
        return await served.give(self._transport.folder / file.ref, file.name, file.mime)

    async def _sent_to_people(self, request: web.Request) -> web.StreamResponse:
        which = int(request.match_info["row"])
        found = await self._services.store.read(lambda c: timeline.handed_out(c, which))
        file = served.decode(self._theirs(request, found))
        return await served.give(file.path, file.name, file.mime)

    def _theirs(self, request: web.Request, found: tuple[Conversation, T] | None) -> T:
        """What was found, for whoever's it is; for everybody else it is as if it were not there. Raises UserError."""
        visitor = self._guard.visitor(request)
        if visitor is None or found is None or found[0].transport != NAME or not _is_of(visitor[0], found[0].room):
            raise UserError(served.GONE)
        return found[1]

    async def _project(self, here: Conversation, name: str) -> int | None:
        """What a conversation begins with; None: what it is about, it is about."""
        if name == ALL:
            return None
        known = await self._services.store.read(lambda c: conversations.find(c, here))
        if known is not None and known.project_id is not None and self._services.projects.by_id(known.project_id):
            return None
        return self._services.projects.get(name).id

    async def _turned_to(self, here: Conversation, name: str) -> str:
        """The project that a conversation is about, if it is another than its name says."""
        known = await self._services.store.read(lambda c: conversations.find(c, here))
        project = None if known is None or known.project_id is None else self._services.projects.by_id(known.project_id)
        return "" if project is None or project.name == name else project.name

    def _conversation(self, person: Person, name: str) -> Conversation:
        """That of a person with a project. Raises UserError."""
        if name != ALL:
            self._services.projects.get(name)
        return Conversation(NAME, room_of(person.sender, name))

    # --- what changed ------------------------------------------------------------------------------------------------

    def changed(self, room: str, what: str) -> None:
        """See `transports.web.Web`."""
        self._changes.tell(topic_of(room, what))

    async def part(self, topic: str, person: Person, name: str) -> dict[str, str] | None:
        """What a tab that shows that conversation of a person's is to show for a topic; None: nothing."""
        room, _, what = topic.removeprefix(_TOPIC).partition("\n")
        if not name or room != room_of(person.sender, name):
            return None
        here, (kind, _, which) = Conversation(NAME, room), what.partition("/")
        store = self._services.store
        entry: Entry | None
        if kind == "in":
            entry = await store.read(lambda c: timeline.said(c, here, which))
        else:
            number = which.split("-")[1] if which.count("-") == 2 else ""
            entry = await store.read(lambda c: timeline.told(c, here, int(number))) if number.isdigit() else None
        if entry is None:
            return None
        row = await asyncio.to_thread(self._row, entry, self._links(name))
        return {"id": str(row["id"]), "in": "rows", "html": templates.fragment("chat_row.html", row=row)}

    def _links(self, name: str) -> Callable[[str], str]:
        """Where the agent's words lead, in the conversation about that project."""
        return self._vouched.links(self._services.projects.get(name)) if name != ALL else lambda _: ""

    def _row(self, entry: Entry, link: Callable[[str], str]) -> dict[str, object]:
        order = f"{entry.at:020.6f}"
        if isinstance(entry, Said):
            who = entry.name or entry.sender
            said = {"id": f"in-{entry.id}", "order": f"{order}-0-{entry.id:012}", "mine": True, "who": who}
            files = served.shown(entry.files, f"/files/said/{entry.id}")
            told = {
                "at": entry.at,
                "html": "",
                "text": entry.text,
                "fate": entry.fate.value,
                "choices": (),
                "live": False,
            }
            return {**said, **told, "files": files}
        live = self._transport.live.get(entry.key)
        text = entry.text if live is None else live
        file = served.decode(entry.file) if entry.file else None
        return {
            "id": f"out-{entry.id}",
            "order": f"{order}-1-{entry.id:012}",
            "mine": False,
            "who": self._services.settings.gateway.bot_name,
            "at": entry.at,
            "html": written(text, link) if live is None else written(text),
            "text": "",
            "fate": "" if entry.state == "sent" else entry.state,
            "choices": entry.choices if live is None else (),
            "live": live is not None,
            "key": entry.key,
            "files": [served.listed(file.name, file.mime, file.size, f"/files/told/{entry.id}")] if file else [],
        }


def _place(entry: Entry) -> str:
    place = timeline.Place.of(entry)
    return f"{place.at!r}-{int(place.is_told)}-{place.id}"


def _is_of(person: Person, room: str) -> bool:
    return room.rpartition(" ")[0] == person.sender


def topic_of(room: str, what: str) -> str:
    """The topic of something in a room."""
    return f"{_TOPIC}{room}\n{what}"


def is_about_a_room(topic: str) -> bool:
    """Whether a topic is one of a conversation."""
    return topic.startswith(_TOPIC)
