"""Files for people: those that an agent sends, and those that the gateway makes of what is too long to be read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mimetypes
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gateway.chat import Conversation, OutgoingFile
from gateway.chat.cutting import split
from gateway.chat.text import shorten
from gateway.delivery.outbox import Outbox
from gateway.store import Connection, Store
from gateway.store import outbox as outbox_rows
from gateway.store.turns import Turn
from sled.protocol import CUT, File

log = logging.getLogger(__name__)

#: Days that a file is kept after it was written, sent or not: longer than a platform may be down.
KEEP_DAYS = 7
#: The folder of what people sent with the page: the gateway is its platform.
FROM_PAGE = "web"
#: Characters of an answer that are read in the chat; of a longer one this many, and the whole is a file.
INLINE = 8000
_BEGINNING = 3000
_OUTGOING = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class Files:
    """See the module. `folder` is the gateway's own; `wire/files` fills it, a folder for each run."""

    folder: Path
    store: Store
    outbox: Outbox

    async def take(self, turn: Turn, file: File) -> None:
        """An agent sent people a file, which is here already. One that is not, or not of this turn, is ignored."""
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
                caption = shorten(file.caption, 500)
                self.outbox.add_file(connection, first.destination, outgoing, caption, turn_id=turn.id)

        await self.store.write(unit)
        self.outbox.wake(first.conversation)

    def keep(self, name: str, data: bytes) -> OutgoingFile:
        """A file of the gateway's own making, to be sent. It is written here: call this in a thread."""
        folder = self.folder / "own"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / secrets.token_hex(16)
        path.write_bytes(data)
        mime = mimetypes.guess_type(name)[0] or "text/plain"
        return OutgoingFile(path, safe_name(name), mime, len(data))

    async def abridge(self, text: str, conversation: Conversation) -> tuple[str, OutgoingFile | None]:
        """What of a long answer is read in the chat, and the file that has the whole, where files can be sent."""
        if len(text) <= INLINE or not self.outbox.can_send_files(conversation):
            return text, None
        try:
            file = await asyncio.to_thread(self.keep, "answer.md", text.encode(errors="replace"))
        except OSError as error:  # a full disk must not keep people from the answer
            log.error("a long answer is sent as messages: %s", error)
            return text, None
        told = f"The whole answer ({len(text):,} characters) is in the file."
        if text.endswith(CUT):
            told = f"The file has the first {len(text):,} characters of the answer; the rest was too long to send."
        return f"{split(text, _BEGINNING)[0]}\n\n… _{told}_", file

    def sweep(self, days: int) -> None:
        """Drop the files that were written more than `KEEP_DAYS` ago; `days`: for those that nobody else keeps."""
        now = time.time()
        for path in self.folder.glob("*/*"):
            kept = max(days, KEEP_DAYS) if path.parent.name == FROM_PAGE and not path.suffix else KEEP_DAYS
            if path.stat().st_mtime < now - kept * 86400:
                path.unlink(missing_ok=True)
        for folder in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                folder.rmdir()


def safe_name(name: str) -> str:
    """A file's name, for people and platforms: no path, nothing invisible, at most 120 characters."""
    name = PurePosixPath(name.replace("\\", "/")).name
    name = "".join(character for character in name if character.isprintable()).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    short = f"{stem[: 119 - len(suffix)]}{dot}{suffix}" if dot and len(suffix) < 20 else name[:120]
    return short or "file"
