"""The build of one layer."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway import kill_points
from gateway.chat.text import code, plain, seconds
from gateway.engine.docker.build_proxy import Way
from gateway.engine.docker.causes import cause
from gateway.engine.docker.client import Client
from gateway.errors import BuildFailed
from stacks.images import Layer

#: Lines that people are shown, and of the step that failed, in which its cause is looked for: apt goes on for a while.
_TAIL_LINES, _HEARD_LINES = 20, 400
_BUILT = re.compile(r"Successfully built ([0-9a-f]{12,})")
#: What the engine says itself; it begins a line.
_ENGINES = re.compile(r"Step \d+/\d+ : | ---> |Removing intermediate container |Successfully built ")
#: The engine paints each write to standard error, and curl writes its errors letter by letter.
_PAINTED = re.compile(r"\x1b\[91m(.*)\x1b\[0m", re.DOTALL)
#: Characters that are a line without an end: a tool may never write one.
_LONGEST = 8192


class LayerBuild:
    """The build of one layer: its messages become the build log, and progress for people."""

    def __init__(
        self, client: Client, file: Path, layer: Layer, said: Callable[[str], None], *, way: Way, left_s: float | None
    ) -> None:
        self._client = client
        self._file = file
        self._layer = layer
        self._way = way
        self._said = said
        #: Seconds until this layer and those above it are built, as far as earlier builds tell; and since when.
        self._left_s = left_s
        self._began = time.monotonic()
        #: The engine had every instruction of it in its cache: its time says nothing about a build.
        self.cached = True
        self._loop = asyncio.get_running_loop()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._heard: deque[str] = deque(maxlen=_HEARD_LINES)
        self._step = ""
        self._rest = ""
        self._image = ""
        self._error = ""

    async def run(self) -> str:
        """Build; the image's id. Raises BuildFailed, EngineError."""
        arguments = {
            "fileobj": io.BytesIO(self._layer.context()),
            "custom_context": True,
            "buildargs": self._way.arguments(self._layer.arguments),
            "network_mode": self._way.network or None,
            "rm": True,
            "forcerm": True,
        }
        with self._open() as log_file:
            log_file.write(f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} building {self._layer.tag}\n")
            await self._client.build(arguments, lambda message: self._hear(message, log_file))
        if self._error or not self._image:
            last = "\n".join(self._tail)
            where = f"at {self._step or 'its first step'}"
            known = cause([*self._heard, self._error])
            # The line itself, as it may be none of the last: two streams of a tool arrive in any order.
            first = (
                f"building {self._layer.name} failed: {known.why}. It was {where} and said {code(known.line)}"
                if known
                else (f"building {self._layer.name} failed {where}: {self._error.rstrip('.')}")
            )
            raise BuildFailed(f"{first}. The last lines:\n```\n{last.replace('```', '` ` `')}\n```")
        return self._image

    async def label(self, image: str, labels: dict[str, str]) -> str:
        """The image with labels; what it was is below it. Raises BuildFailed, EngineError."""
        context = replace(self._layer, dockerfile=f"FROM {image}\n", files={}).context()
        arguments = {"fileobj": io.BytesIO(context), "custom_context": True, "labels": labels, "rm": True}
        self._image = ""
        with self._open() as log_file:
            await self._client.build(arguments, lambda message: self._hear(message, log_file))
        if self._error or not self._image:
            raise BuildFailed(f"labelling {self._layer.name} failed: {self._error}")
        return self._image

    def _open(self) -> Any:
        try:
            return self._file.open("a", encoding="utf-8", errors="replace", buffering=1)
        except OSError as error:
            raise BuildFailed(f"the build log {self._file} cannot be written: {error.strerror}") from error

    def _hear(self, message: dict[str, Any], log_file: Any) -> None:
        try:
            self._take(message, log_file)
        except OSError as error:
            raise BuildFailed(f"the build log {self._file} cannot be written: {error.strerror}") from error

    def _take(self, message: dict[str, Any], log_file: Any) -> None:
        if identity := (message.get("aux") or {}).get("ID"):
            self._image = identity
        for line in self._lines(message):
            log_file.write(f"{line}\n")
            self._tail.append(line[:500])
            self._heard.append(line[:500])
            if line.startswith(" ---> Running in"):
                self.cached = False
            if found := re.match(r"Step (\d+)/(\d+) : (.*)", line):
                self._heard.clear()
                self._step = f"step {found[1]} of {found[2]} ({found[3][:60]})"
                self._loop.call_soon_threadsafe(kill_points.reach, "project.building")
            if found := _BUILT.search(line):
                self._image = self._image or found[1]
            now = f"Building {self._layer.name}: {self._step}{self._estimate()}\n{line[:120]}"
            self._loop.call_soon_threadsafe(self._said, now)
        if "error" in message:
            self._error = _told(message["error"]).strip()
            log_file.write(f"{self._error}\n")

    def _lines(self, message: dict[str, Any]) -> list[str]:
        """The lines that are whole now: an engine hands on each write, and a write is not a line."""
        piece = str(message.get("stream", ""))
        painted = _PAINTED.fullmatch(piece)
        if self._rest and ("error" in message or (not painted and _ENGINES.match(piece))):
            self._rest += "\n"
        self._rest += painted[1] if painted else piece
        *lines, self._rest = re.split(r"[\r\n]", self._rest)
        if len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = ""
        return [said for line in lines if (said := _told(line)).strip()]

    def _estimate(self) -> str:
        if self._left_s is None:
            return ""
        left = self._left_s - (time.monotonic() - self._began)
        return f", about {seconds(left)} left" if left >= 1 else ", longer than last time"


def _told(text: Any) -> str:
    """What a build says, but for colours and the credentials of a proxy: tools name what they could not reach."""
    return re.sub(r"://[^/@\s]+@", "://[secret]@", plain(str(text)))
