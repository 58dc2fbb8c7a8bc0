"""Files of conversations, for the browsers of those who may read them: what people sent, and what they were sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from gateway.chat import Attachment, OutgoingFile
from gateway.errors import UserError

#: Pictures that a browser shows, by how their bytes begin. No SVG: it is a document with scripts.
_PICTURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}
GONE = "That file is not here, or is not kept any more."


def is_picture(mime: str) -> bool:
    """Whether what calls itself that is shown where it stands."""
    return mime in _PICTURES


def decode(stored: str) -> OutgoingFile:
    """What an outbox row says of its file."""
    told = json.loads(stored)
    return OutgoingFile(Path(told["path"]), told["name"], told["mime"], told["size"])


def shown(files: tuple[Attachment, ...], address: str) -> list[dict[str, object]]:
    """Files as the templates want them; each one's address ends with its number."""
    return [listed(file.name, file.mime, file.size, f"{address}/{number}") for number, file in enumerate(files)]


def listed(name: str, mime: str, size: int, address: str) -> dict[str, object]:
    """One of them."""
    return {"name": name, "size": size, "address": address, "is_picture": is_picture(mime)}


async def give(path: Path, name: str, mime: str) -> web.StreamResponse:
    """A file: shown if it is a picture by its own bytes, downloaded otherwise. Raises UserError if it is gone."""
    kind = picture(await asyncio.to_thread(_beginning, path))
    if kind and kind == mime:
        return web.FileResponse(path, headers={"Content-Type": kind, "Content-Disposition": "inline"})
    headers = {"Content-Type": "application/octet-stream", "Content-Disposition": download(name)}
    return web.FileResponse(path, headers=headers)


def picture(beginning: bytes) -> str:
    """The type of the picture that bytes begin; empty if they begin none that a browser is to show."""
    kind = next((kind for kind, marks in _PICTURES.items() if beginning.startswith(marks)), "")
    return "" if kind == "image/webp" and beginning[8:12] != b"WEBP" else kind


def download(name: str) -> str:
    """The header that has a browser keep a file under its name, whatever it is."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(12)
    except OSError:
        raise UserError(GONE) from None
