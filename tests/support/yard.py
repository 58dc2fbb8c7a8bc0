"""A sled as a process, on a real wire, with a gateway's end that records what it says."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Unpack

import psutil
from aiohttp import web

from gateway.testing import patience
from gateway.wire import Sleds
from sled.protocol import Ack, Body, Decision, Event, Finished, Frame, Hello, Question, Run, Stop, TextDelta, Welcome
from tests.support.order import Order
from tests.support.processes import Zoo, alive, command_line, until, zoo

Routes = Callable[[Callable[[web.Request], str | None]], Iterable[web.RouteDef]]
PROJECT = 1
TOKEN = "wire-token"

#: A sled whose runners can host agents that misbehave.
ODD = (str(Path(__file__).parent / "odd_sled.py"),)


class Gateway:
    """What a dispatcher does at the wire's end: it remembers how far each run got, and checks that nothing doubles."""

    def __init__(self, wire: Path) -> None:
        self.wire = wire
        self.routes: Routes | None = None
        self.sleds = Sleds()
        self.hellos: list[Hello] = []
        self.events: list[Event] = []
        self.seen: dict[str, int] = {}
        self.agent = ""
        self.then: list[Frame] = []
        self.replayed: list[Event] = []

    async def open(self) -> None:
        """Begin to listen; after `close`, again."""
        self.sleds = Sleds()
        await self.sleds.start(self, self.routes)
        await self.sleds.open(PROJECT, TOKEN, self.wire)

    async def close(self) -> None:
        """Go away."""
        await self.sleds.stop()

    def on_hello(self, project_id: int, hello: Hello) -> tuple[Welcome, list[Frame]]:
        self.hellos.append(hello)
        return Welcome(seen=dict(self.seen), agent=self.agent), self.then

    def on_connected(self, project_id: int) -> None:
        pass

    async def on_event(self, project_id: int, event: Event) -> None:
        if event.seq <= self.seen.get(event.run, 0):
            self.replayed.append(event)
            return
        self.seen[event.run] = event.seq
        self.events.append(event)

    def of(self, run: str) -> list[Body]:
        """What happened in a run, by now."""
        return [event.body for event in self.events if event.run == run]

    def end_of(self, run: str) -> Finished | None:
        """The end of a run. There is never a second."""
        ends = [body for body in self.of(run) if isinstance(body, Finished)]
        assert len(ends) <= 1
        return ends[0] if ends else None

    async def finished(self, run: str, within_s: float = 15.0) -> Finished:
        """Wait for the end of a run."""
        return await until(lambda: self.end_of(run), within_s)

    async def said(self, run: str, text: str, within_s: float = 15.0) -> None:
        """Wait until a run streamed a text."""
        await until(
            lambda: text in "".join(b.delta for b in self.of(run) if isinstance(b, TextDelta)),
            within_s,
        )


class Yard:
    """One project: folders, gateway, and the sleds that are started on it."""

    def __init__(self, folder: Path, animals: Zoo) -> None:
        self.home = folder / "home"
        self.workspace = folder / "workspace"
        self.wire = folder / "w"
        self.log = folder / "sled.log"
        self.animals = animals
        self.gateway = Gateway(self.wire)
        self._numbers = itertools.count(1)
        for path in (self.home, self.workspace):
            path.mkdir()

    def sled(
        self, *, token: str = TOKEN, program: tuple[str, ...] = ("-I", "-m", "sled"), **env: str
    ) -> psutil.Process:
        """Start a sled."""
        with self.log.open("ab") as log:
            child = self.animals.start(
                sys.executable,
                *program,
                env={
                    "HOME": str(self.home),
                    "HUSKIES_WIRE": str(self.wire),
                    "HUSKIES_TOKEN": token,
                    "HUSKIES_WORKSPACE": str(self.workspace),
                    **env,
                },
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.child = child
        return psutil.Process(child.pid)

    async def arrival(self) -> None:
        """Wait until the sled is connected."""
        await self.gateway.sleds.arrival(PROJECT, 20)

    async def send(self, frame: Frame) -> bool:
        """Send the sled a frame."""
        return await self.gateway.sleds.send(PROJECT, frame)

    async def run(self, prompt: str, **how: Unpack[Order]) -> str:
        """Start a run; its id."""
        run = f"r{next(self._numbers)}"
        order: Order = {"session": "s", "agent": "scripted", "warm_s": 60.0, **how}
        assert await self.send(Run(run=run, prompt=prompt, **order))
        return run

    async def answer(self, prompt: str, **how: Unpack[Order]) -> Finished:
        """Run to the end."""
        return await self.gateway.finished(await self.run(prompt, **how))

    async def stop(self, run: str, within_s: float = 2.0) -> Finished:
        """Stop a run; it must end in time."""
        began = time.monotonic()
        await self.send(Stop(run=run))
        end = await self.gateway.finished(run)
        assert time.monotonic() - began < within_s * patience()
        return end

    async def decide(self, run: str, question: Question, allow: bool, *answers: str, text: str = "") -> None:
        """Answer a question; all that is chosen of its one query."""
        answer = Decision(run=run, question=question.id, allow=allow, text=text, answers=[list(answers)])
        await self.send(answer)

    async def asked(self, run: str) -> Question:
        """Wait for the newest question of a run."""
        found = await until(lambda: [body for body in self.gateway.of(run) if isinstance(body, Question)])
        return found[-1]

    async def ack(self, run: str) -> None:
        """The end of a run is committed."""
        await self.send(Ack(run=run))

    def runners(self, sled: psutil.Process) -> list[psutil.Process]:
        """The sled's runners that live."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [p for p in sled.children() if alive(p.pid) and "runner" in command_line(p)]
        return []

    def pid(self, name: str) -> int:
        """A pid that a run wrote into the workspace; 0 while it has not."""
        path = self.workspace / name
        text = path.read_text().strip() if path.exists() else ""
        return int(text) if text else 0

    async def process(self, name: str) -> psutil.Process:
        """That process, looked after."""
        return self.animals.adopt(await until(lambda: self.pid(name), 15))


@contextlib.asynccontextmanager
async def make_yard(routes: Routes | None = None) -> AsyncIterator[Yard]:
    """In a folder with a short name, for the socket's path. `routes`: what else the gateway serves on the wire."""
    with tempfile.TemporaryDirectory(prefix="huskies-") as name, zoo() as animals:
        made = Yard(Path(name), animals)
        made.gateway.routes = routes
        await made.gateway.open()
        try:
            yield made
        finally:
            animals.close()
            async with asyncio.timeout(20 * patience()):
                await made.gateway.close()
