"""Random sequences of what people, sleds, the provider and the disk do: in the end everything is settled and forgotten.

Each seed is one sequence; a failing one is repeated by its number.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway import tasks
from gateway.chat import Fate
from gateway.config import Role
from gateway.errors import StateError, UserError
from gateway.store import messages
from gateway.store import questions as question_rows
from gateway.store.messages import COMPACT, StoredMessage
from gateway.store.turns import SessionKey
from gateway.testing import FakeTransport, patience
from gateway.turns import admission, dispatcher
from gateway.turns.running import Limits
from sled.protocol import Body, Event, Finished, Question, Run, RunState
from tests.conftest import World, close_world, make_world

LIMITS = Limits(window_s=0.01, window_max_s=0.05, silence_s=60, turn_s=60, runs=2)
STEPS = 60
#: The part of all writes that the disk refuses.
REFUSED = 0.08
#: What may happen, and how often.
WEIGHTS = {
    "say": 8.0,
    "compact": 3.0,
    "limit": 3.0,
    "endless": 1.0,
    "key": 1.0,
    "finish": 5.0,
    "spend": 2.0,
    "crash": 0.5,
    "ask": 4.0,
    "answer": 3.0,
    "stop": 1.0,
    "restart": 1.0,
    "away": 1.0,
    "reset": 0.5,
    "wait": 5.0,
}
ENDS: dict[str, Callable[[random.Random], Finished]] = {
    "limit": lambda r: Finished(
        ending="failed", reason="limit", resets_at=time.time() + r.random() / 5, agent_session="s"
    ),
    "endless": lambda _: Finished(ending="failed", reason="limit"),
    "key": lambda _: Finished(ending="failed", reason="model_key"),
    "finish": lambda _: Finished(ending="answered", text="ok"),
    "spend": lambda _: Finished(ending="answered", cost_usd=0.3),
    "crash": lambda _: Finished(ending="interrupted", reason="crashed"),
}


class Sequence:
    """Two projects, three rooms, a disk that refuses now and then."""

    def __init__(self, seed: int, path: Path) -> None:
        self.random = random.Random(seed)
        self.path = path
        self.world: World
        self.projects: list[int] = []
        self.runs: dict[str, tuple[int, Run]] = {}
        self.numbers: dict[str, int] = {}
        self.count = 0
        self.refuses = False
        #: Until when the provider serves nobody, seconds since the epoch: what the proxy's ledger would know.
        self.limited = 0.0

    async def play(self) -> None:
        await self.open(FakeTransport(serving=True))
        self.projects = [await self.world.project(name) for name in ("a", "b")]
        for room, project in (("r0", 0), ("r1", 1), ("r2", 0)):
            await self.world.activate(self.projects[project], room=room)
        self.refuses = True
        for _ in range(STEPS):
            await self.step()
        self.refuses = False

    async def open(self, transport: FakeTransport) -> None:
        self.world = await make_world(self.path, LIMITS, transport, budget_usd=0.5)
        self.world.admission.limit_of = lambda _: self.limited
        write = self.world.store.write

        def sometimes(unit: Callable[[Connection], Any], *, urgent: bool = True) -> asyncio.Future[Any]:
            if not self.refuses or self.random.random() > REFUSED:
                return write(unit, urgent=urgent)
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(StateError("the disk refused"))
            return refused

        self.world.store.write = sometimes  # type: ignore[method-assign]

    async def step(self) -> None:
        self.collect()
        what = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if what in ENDS and self.runs:
            await self.end(self.random.choice(list(self.runs)), ENDS[what](self.random))
        elif what == "ask" and self.runs:
            question = Question(id=self.name("q"), kind="permission", tool="Bash", arguments="{}")
            await self.tell(self.random.choice(list(self.runs)), question)
        elif hasattr(self, f"_{what}"):
            await getattr(self, f"_{what}")()
        await asyncio.sleep(self.random.choice([0, 0.005, 0.02]))  # the pace of the sequence, not a wait for a result

    async def _say(self, text: str = "") -> None:
        try:
            name = self.name("m")
            await self.world.say(text or name, name, room=f"r{self.random.randrange(3)}")
        except StateError:
            return  # the platform sends it again

    async def _compact(self) -> None:
        await self._say(COMPACT)

    async def _answer(self, *, all_of_them: bool = False) -> None:
        here = {m.conversation_id for m in self.world.accepted}
        here |= {waiting.asked.conversation_id for waiting in self.world.questions._open.values()}
        for conversation in here:
            while asked := self.world.questions.open_in(conversation):
                await self.decide(asked[0])
                if not all_of_them:
                    return

    async def decide(self, asked: question_rows.Asked) -> None:
        said = replace(self.world.transport.message("x", self.name("a")), conversation=asked.conversation)
        stored = await self.accept(said)
        here, number = self.world.answers, str(asked.number)
        try:
            if asked.turn_id is None:
                await here.answer(stored, Role.OPERATOR, number, self.random.choice(["yes", "no"]))
            elif self.random.random() < 0.5:
                await here.allow(stored, Role.OPERATOR, number, session=False)
            else:
                await here.deny(stored, Role.OPERATOR, number, "")
        except (UserError, StateError):
            await asyncio.sleep(0)  # it stays open, and is answered another time

    async def accept(self, message: Any) -> StoredMessage:
        before, refuses = len(self.world.accepted), self.refuses
        self.refuses = False
        await self.world.inbox.accept("fake", [message], None)
        self.refuses = refuses
        return self.world.accepted[before]

    async def _stop(self) -> None:
        if not self.world.accepted:
            return
        here = self.random.choice(self.world.accepted).conversation_id
        stopping = asyncio.create_task(self.world.dispatcher.stop("Stopped.", conversations=[here]))
        while not stopping.done():
            self.collect()
            await self.obey()
            await asyncio.sleep(0.005)
        assert stopping.exception() is None or isinstance(stopping.exception(), StateError)

    async def _reset(self) -> None:
        if self.world.accepted:
            try:
                await self.world.dispatcher.reset(SessionKey(self.projects[0], self.world.accepted[0].conversation_id))
            except StateError:
                return

    async def _restart(self) -> None:
        self.refuses = False
        await close_world(self.world)
        await self.open(FakeTransport(serving=True))
        await self.world.questions.recover(self.world.admission.taken_up)
        await self.world.dispatcher.recover()
        self.world.projects.update(a=self.projects[0], b=self.projects[1])
        for project in self.projects:
            self.connect(project)
        self.refuses = True

    async def _away(self) -> None:
        project = self.random.choice(self.projects)
        self.world.sleds.disconnect(project)
        await asyncio.sleep(0.02)
        self.connect(project)

    # --- the sleds ---------------------------------------------------------------------------------------------------

    def connect(self, project: int) -> None:
        held = [run for run, (theirs, _) in self.runs.items() if theirs == project]
        states = [RunState(run=run, last=self.numbers.get(run, 0), finished=False) for run in held]
        self.world.sleds.connect(project, runs=states)

    def collect(self) -> None:
        while not self.world.sleds.runs.empty():
            project, run = self.world.sleds.runs.get_nowait()
            self.runs.setdefault(run.run, (project, run))

    async def obey(self) -> None:
        while not self.world.sleds.stops.empty():
            run = self.world.sleds.stops.get_nowait().run
            if run in self.runs:
                await self.end(run, Finished(ending="interrupted", reason="stopped"))

    async def tell(self, run: str, body: Body) -> None:
        project = self.runs[run][0]
        if self.world.sleds.journal(project) is None:
            self.connect(project)
        self.numbers[run] = self.numbers.get(run, 0) + 1
        while True:  # a sled says again what could not be taken
            try:
                await self.world.dispatcher.on_event(project, Event(run=run, seq=self.numbers[run], body=body))
                return
            except StateError:
                await asyncio.sleep(0.001)

    async def end(self, run: str, end: Finished) -> None:
        self.limited = max(self.limited, end.resets_at)
        await self.tell(run, end)
        self.runs.pop(run, None)

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    async def settle(self) -> list[StoredMessage]:
        """Whatever runs ends well, whoever is asked answers; what is left in the end."""
        for project in self.projects:
            if self.world.sleds.journal(project) is None:
                self.connect(project)
        self.collect()
        await self.obey()
        for run in list(self.runs):
            await self.end(run, Finished(ending="answered", text="x"))
        await self._answer(all_of_them=True)
        return await self.world.store.read(
            lambda c: messages.with_fate(c, Fate.QUEUED) + messages.with_fate(c, Fate.RUNNING)
        )


@pytest.mark.parametrize("seed", range(12))
async def test_in_the_end_everything_is_settled(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admission, "KEY_AGAIN_S", 0.05)
    monkeypatch.setattr(admission, "_TRY_AGAIN_MIN", (0.001,))
    monkeypatch.setattr(tasks, "RETRY_S", 0.01)
    monkeypatch.setattr(dispatcher, "_AGAIN_S", (0.01, 0.01))
    sequence = Sequence(seed, tmp_path)
    await sequence.play()
    world = sequence.world
    async with asyncio.timeout(20 * patience()):
        while await sequence.settle() or world.dispatcher.projects_with_work():
            await asyncio.sleep(0.01)
    assert [asked for asked in await world.store.read(question_rows.all_open) if asked.turn_id] == []
    assert world.questions.waits._clocks == {}
    assert not any(world.questions._decided.values())
    await close_world(world)
    assert [record for record in caplog.records if record.exc_info] == [], "nobody stumbled"
