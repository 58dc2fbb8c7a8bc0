"""Lines of JSON between the sled and a runner, over a socket pair that the runner inherits.

    sled   -> runner   Run, Steer, Stop
    runner -> sled     the events of the run under way; Baseline

`Baseline` names the processes that belong to the agent itself when a turn begins: what comes later, the turn started.
"""

from __future__ import annotations

import asyncio
import socket

import msgspec

from sled.protocol import MAX_TEXT, Body, Frame, Run, Steer, Stop, encode

#: Environment variable that holds the runner's end of the socket pair.
FD_VARIABLE = "HUSKIES_CHANNEL_FD"
_LIMIT = 16 * MAX_TEXT


class Baseline(Frame, frozen=True, tag="baseline"):
    """The agent's own processes, before the turn has started any."""

    pids: list[int]


FromRunner = Body | Baseline
ToRunner = Run | Steer | Stop

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

    async def send(self, frame: Frame) -> None:
        """Write a frame. Raises ConnectionError when the other end is gone."""
        self._writer.write(encode(frame).encode() + b"\n")
        await self._writer.drain()

    async def from_runner(self) -> FromRunner | None:
        """The runner's next frame; None when the runner is gone."""
        line = await self._line()
        return _from_runner.decode(line) if line else None

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
