"""Files on their way: from a chat into a project's inbox folder, and from its outbox folder into the chat.

A sled fetches what its run names (`GET /files/<id>`) and uploads what the agent sends (`PUT /files?run=&name=`), over
its project's wire. What it says is untrusted: only the files of its own open turns exist for it, sizes and numbers are
bounded, and a name is only ever shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mimetypes
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aiohttp import web
from sqlalchemy import Connection, select

from gateway.chat.nouns import Attachment, Conversation, OutgoingFile, Transport
from gateway.chat.text import shorten, split
from gateway.delivery.outbox import Outbox
from gateway.errors import DeliveryRefused, TransportError
from gateway.store import Store, messages
from gateway.store import outbox as outbox_rows
from gateway.store.tables import messages as messages_table
from gateway.store.tables import turns
from gateway.store.turns import Turn
from sled.protocol import MAX_FILE, MAX_FILES, File

log = logging.getLogger(__name__)

#: Seconds that a platform may take to hand over a file.
FETCH_WITHIN_S = 120.0
#: Days that a file is kept after it was sent, for a platform that was down.
KEEP_DAYS = 7
#: Characters of an answer that are read in the chat; of a longer one so many, and the whole is a file.
INLINE = 8000
_BEGINNING = 3000
_INCOMING = re.compile(r"m(\d{1,18})-(\d{1,3})")
_OUTGOING = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class Files:
    """See the module. `folder` is the gateway's own."""

    folder: Path
    store: Store
    outbox: Outbox
    transports: Mapping[str, Transport]
    _fetching: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def routes(self, authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
        """The routes for the wire's application."""

        async def get(request: web.Request) -> web.StreamResponse:
            project = authenticate(request)
            return _refuse(401, "unknown project token") if project is None else await self._get(request, int(project))

        async def put(request: web.Request) -> web.StreamResponse:
            project = authenticate(request)
            return _refuse(401, "unknown project token") if project is None else await self._put(request, int(project))

        return [web.get("/files/{id}", get), web.put("/files", put)]

    async def take(self, turn: Turn, file: File) -> None:
        """An agent sent people a file, which is here already. One that is not, or not of this turn, is nothing."""
        path = self.folder / turn.run / file.id
        if not _OUTGOING.fullmatch(file.id) or not path.is_file():
            log.warning("run %s names a file that it did not send", turn.run)
            return
        name = safe_name(file.name)
        mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
        outgoing = OutgoingFile(path, name, mime, path.stat().st_size)
        first = turn.batch[0]

        def unit(connection: Connection) -> None:
            # After a restart of the gateway its sled tells again of all that it sent in this run.
            if not outbox_rows.has_file(connection, turn.id, file.id):
                here, here_id = first.conversation, first.conversation_id
                caption = shorten(file.caption, 500)
                self.outbox.add_file(connection, here, here_id, outgoing, caption, turn_id=turn.id)

        await self.store.write(unit)
        self.outbox.wake(first.conversation)

    def keep(self, name: str, data: bytes) -> OutgoingFile:
        """A file of the gateway's own making, to be sent."""
        folder = self.folder / "own"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / secrets.token_hex(16)
        path.write_bytes(data)
        mime = mimetypes.guess_type(name)[0] or "text/plain"
        return OutgoingFile(path, safe_name(name), mime, len(data))

    def abridge(self, text: str, conversation: Conversation) -> tuple[str, OutgoingFile | None]:
        """What of a long answer is read in the chat, and the file that has the whole, where files can be sent."""
        if len(text) <= INLINE or not self.outbox.can_send_files(conversation):
            return text, None
        try:
            file = self.keep("answer.md", text.encode(errors="replace"))
        except OSError as error:  # a full disk must not keep people from the answer
            log.error("a long answer is sent as messages: %s", error)
            return text, None
        return f"{split(text, _BEGINNING)[0]}\n\n… _The whole answer ({len(text):,} characters) is in the file._", file

    def sweep(self) -> None:
        """Drop what was sent, or was not, days ago."""
        before = time.time() - KEEP_DAYS * 86400
        for path in self.folder.glob("*/*"):
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
        for folder in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                folder.rmdir()

    async def _get(self, request: web.Request, project_id: int) -> web.StreamResponse:
        name = request.match_info["id"]
        found = _INCOMING.fullmatch(name)
        if found is None:
            return _refuse(404, "no such file")
        attached = await self.store.read(lambda c: _attached(c, project_id, int(found[1]), int(found[2])))
        if attached is None:
            return _refuse(404, "no such file")
        transport, attachment = attached
        path = self.folder / "in" / name
        try:
            if not path.is_file():
                # A sled that waits in vain for its first byte asks again; what was begun goes on for it.
                await asyncio.shield(self._fetching.get(name) or self._begin(transport, attachment, path))
        except TransportError as error:
            log.info("file %s: %s", name, error)
            return _refuse(403 if isinstance(error, DeliveryRefused) else 502, str(error))
        return web.FileResponse(path)

    def _begin(self, transport: str, attachment: Attachment, path: Path) -> asyncio.Task[None]:
        """Begin to fetch a file, once however many ask for it."""

        def over(task: asyncio.Task[None]) -> None:
            del self._fetching[path.name]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.debug("file %s: %s", path.name, error)  # whoever waits for it tells

        task = self._fetching[path.name] = asyncio.create_task(self._fetch(transport, attachment, path))
        task.add_done_callback(over)
        return task

    async def _fetch(self, transport: str, attachment: Attachment, path: Path) -> None:
        there = self.transports.get(transport)
        if there is None:
            raise DeliveryRefused(f"{transport} is not configured any more")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_suffix(".partial")
        try:
            async with asyncio.timeout(FETCH_WITHIN_S):
                await there.fetch(attachment, partial, MAX_FILE)
            partial.replace(path)
        except TimeoutError:
            raise DeliveryRefused(f"it did not come within {FETCH_WITHIN_S:.0f} s") from None
        finally:
            partial.unlink(missing_ok=True)

    async def _put(self, request: web.Request, project_id: int) -> web.StreamResponse:
        run = request.query.get("run", "")
        if not await self.store.read(lambda c: _is_open(c, project_id, run)):
            return _refuse(404, "no such run")
        folder = self.folder / run
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sum(1 for _ in folder.iterdir()) >= 2 * MAX_FILES:  # some may be of uploads that were cut off
            return _refuse(409, f"a turn may send {MAX_FILES} files")
        path = folder / secrets.token_hex(16)
        size = 0
        try:
            with path.open("wb") as file:
                async for chunk in request.content.iter_chunked(2**16):
                    size += len(chunk)
                    if size > MAX_FILE:
                        path.unlink()
                        return _refuse(413, f"a file may have {MAX_FILE // 2**20} MiB")
                    file.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return web.json_response({"id": path.name})


def safe_name(name: str) -> str:
    """A file's name, for people and platforms: no path, nothing invisible, at most 120 characters."""
    name = PurePosixPath(name.replace("\\", "/")).name
    name = "".join(character for character in name if character.isprintable()).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    short = f"{stem[: 119 - len(suffix)]}{dot}{suffix}" if dot and len(suffix) < 20 else name[:120]
    return short or "file"


def _attached(connection: Connection, project_id: int, message_id: int, number: int) -> tuple[str, Attachment] | None:
    """A file of a message that an open turn of this project is about, and the transport that has it."""
    turn_id = connection.scalar(select(messages_table.c.turn_id).where(messages_table.c.id == message_id))
    where = (turns.c.id == turn_id, turns.c.project_id == project_id, turns.c.ended_at.is_(None))
    if turn_id is None or connection.scalar(select(turns.c.id).where(*where)) is None:
        return None
    message = messages.by_id(connection, message_id)
    if number >= len(message.files):
        return None
    return message.conversation.transport, message.files[number]


def _is_open(connection: Connection, project_id: int, run: str) -> bool:
    where = (turns.c.run == run, turns.c.project_id == project_id, turns.c.ended_at.is_(None))
    return connection.scalar(select(turns.c.id).where(*where)) is not None


def _refuse(status: int, why: str) -> web.Response:
    return web.Response(status=status, text=why + "\n")
