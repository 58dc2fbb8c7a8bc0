"""Lines of JSON between the sled and a runner, over a socket pair that the runner inherits.

    sled   -> runner   Warm, Run, Ready, Steer, Decision, Stop
    runner -> sled     the events of the run under way; Baseline

`Ready` says that the agent may change files from now on. `Baseline` names the processes that were there before the
turn began: whatever comes later, the turn started.
"""

from __future__ import annotations

import asyncio
import logging
import socket

import msgspec

from sled.protocol import (
    MAX_FRAME,
    MAX_TEXT,
    Body,
    Decision,
    Finished,
    Frame,
    Id,
    Note,
    Run,
    Steer,
    Stop,
    TextDelta,
    Tool,
    Warm,
    encode,
)

log = logging.getLogger(__name__)

#: Environment variable that holds the runner's end of the socket pair.
FD_VARIABLE = "HUSKIES_CHANNEL_FD"
_LIMIT = 16 * MAX_TEXT
_MAX_SHORT = 2000
#: Bytes of one text in JSON; the rest of the frame is for everything else.
_TEXT_BYTES = MAX_FRAME - 2**16
_CUT = "\n[the rest was too long and is cut off]"

#: The texts that an agent fills, and how many characters of each the wire takes.
_TEXTS: dict[type[Frame], dict[str, int]] = {
    Finished: {"text": MAX_TEXT, "error": _MAX_SHORT},
    TextDelta: {"delta": MAX_TEXT},
    Tool: {"name": _MAX_SHORT, "detail": _MAX_SHORT},
    Note: {"text": _MAX_SHORT},
}


class Baseline(Frame, frozen=True, tag="baseline"):
    """The runner's processes before the turn has started any."""

    pids: list[int]


class Ready(Frame, frozen=True, tag="ready"):
    """The snapshot that the run starts from is taken, or given up."""

    run: Id


FromRunner = Body | Baseline
ToRunner = Warm | Run | Ready | Steer | Decision | Stop

_from_runner: msgspec.json.Decoder[FromRunner] = msgspec.json.Decoder(FromRunner)
_to_runner: msgspec.json.Decoder[ToRunner] = msgspec.json.Decoder(ToRunner)


class Channel:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Channel:
        """Wrap one half of a socket pair."""
        return cls(*await asyncio.open_connection(sock=sock, limit=_LIMIT))

    def post(self, frame: Frame) -> None:
        """Write a frame without waiting for the other end, which may be stuck; nothing happens if it is gone."""
        self._writer.write(encode(frame).encode() + b"\n")

    async def send(self, frame: Frame) -> None:
        """Write a frame, as fast as the other end reads. Raises ConnectionError when it is gone."""
        self.post(frame)
        await self._writer.drain()

    async def from_runner(self) -> FromRunner | None:
        """The runner's next frame; None when the runner is gone, or sent something that is not a frame."""
        line = await self._line()
        try:
            return _from_runner.decode(line) if line else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("a runner sent something that is not a frame: %s", error)
            return None

    async def from_sled(self) -> ToRunner | None:
        """The sled's next frame; None when the sled is gone."""
        line = await self._line()
        return _to_runner.decode(line) if line else None

    async def _line(self) -> bytes:
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):
            return b""
        return line if line.endswith(b"\n") else b""

    def close(self) -> None:
        self._writer.close()


def fit(body: Body) -> Body:
    """Cut the texts of an event so that it fits into a frame: one that does not would close the wire for ever."""
    changes = {}
    for name, characters in _TEXTS.get(type(body), {}).items():
        text = getattr(body, name)
        if (cut := _cut(text, characters)) != text:
            changes[name] = cut
    return msgspec.structs.replace(body, **changes) if changes else body


def _cut(text: str, characters: int) -> str:
    if not text.isascii():
        text = text.encode(errors="replace").decode()  # half a surrogate pair is not text
    if len(text) <= characters and _size(text) <= _TEXT_BYTES:
        return text
    text = text[: characters - len(_CUT)]
    while (size := _size(text)) > _TEXT_BYTES - len(_CUT) - 2:
        text = text[: len(text) * (_TEXT_BYTES - len(_CUT) - 2) // size]
    return text + _CUT


def _size(text: str) -> int:
    """Bytes of a text in JSON: a control character takes six."""
    return len(msgspec.json.encode(text))
