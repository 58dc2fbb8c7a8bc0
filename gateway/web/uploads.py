"""What a browser sends with a message: its words, and files, which the gateway keeps as a platform would."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import BodyPartReader, MultipartReader, web

from gateway.chat import Attachment
from gateway.delivery import safe_name
from gateway.errors import UserError
from sled.protocol import MAX_FILE, MAX_FILES

#: Bytes of a field, and of what is written at once; all files of a message.
_MOST_WORDS, _CHUNK = 2**19, 2**18
MOST_TOGETHER = 4 * MAX_FILE


class TooMuch(UserError):
    """More than a message may bring."""


@dataclass(slots=True)
class Form:
    """What was sent. `files`: by what they are called there, where they lie for now."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[Attachment, Path]] = field(default_factory=list)

    def keep(self, folder: Path, key: str) -> tuple[Attachment, ...]:
        """Give the files their lasting places; the same form sent again has the same ones. Call this in a thread."""
        kept = []
        for number, (file, path) in enumerate(self.files):
            ref = hashlib.sha256(f"{key}/{number}".encode()).hexdigest()[:32]
            with contextlib.suppress(FileExistsError):
                os.link(path, folder / ref)
            kept.append(Attachment(file.name, file.mime, file.size, ref))
        if kept:
            at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(at)  # before the message is: what was taken is there after a power cut
            finally:
                os.close(at)
        return tuple(kept)


@contextlib.asynccontextmanager
async def reading(request: web.Request, folder: Path) -> AsyncIterator[Form]:
    """The form of a request. What was not kept goes at the end. Raises TooMuch, OSError."""
    form = Form()
    try:
        if request.content_type == "multipart/form-data":
            await _read(await request.multipart(), folder, form)
        else:
            form.fields.update({name: str(value) for name, value in (await request.post()).items()})
        yield form
    finally:
        for _, path in form.files:
            path.unlink(missing_ok=True)


async def _read(parts: MultipartReader, folder: Path, form: Form) -> None:
    left = MOST_TOGETHER
    while (part := await parts.next()) is not None:
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise TooMuch("That is no message. Open the page, and try again.")
        if part.filename is None:
            form.fields[part.name] = (await _words(part)).decode("utf-8", "replace")
            continue
        if len(form.files) == MAX_FILES:
            raise TooMuch(f"A message may bring {MAX_FILES} files. Send the others with the next one.")
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{secrets.token_hex(16)}.part"
        mime = part.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        name = safe_name(part.filename)
        form.files.append((Attachment(name, mime[:100], 0, ""), path))
        size = await _write(part, path, min(left, MAX_FILE), name)
        if size == 0 and not part.filename:  # a field for files in which there is none
            path.unlink()
            form.files.pop()
            continue
        left -= size
        form.files[-1] = (Attachment(name, mime[:100] or "application/octet-stream", size, ""), path)


async def _words(part: BodyPartReader) -> bytes:
    said = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        said += chunk
        if len(said) > _MOST_WORDS:
            raise TooMuch("That is too long for one message. Send it as a file.")
    return bytes(said)


async def _write(part: BodyPartReader, path: Path, most: int, name: str) -> int:
    """Write a file, to the disk itself; its bytes."""
    size = 0
    with await asyncio.to_thread(path.open, "xb") as file:
        while chunk := await part.read_chunk(_CHUNK):
            size += len(chunk)
            if size > most:
                raise TooMuch(
                    f"{name} is too large: a file may have {MAX_FILE // 2**20} MiB, "
                    f"and all files of a message {MOST_TOGETHER // 2**20} MiB."
                )
            await asyncio.to_thread(file.write, chunk)
        if size:
            await asyncio.to_thread(_sync, file)
    return size


def _sync(file: object) -> None:
    file.flush()  # type: ignore[attr-defined]
    os.fsync(file.fileno())  # type: ignore[attr-defined]
