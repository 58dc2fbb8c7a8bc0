"""Open turns: what their sleds say of them, how long they may take, and how they end.

A turn is open from its claim to its end, over any number of restarts and of runs: one that its provider stopped is
parked, and continues in another run. Each is here with the frame to send again; the database has the rest.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from msgspec.structs import replace as replace_frame

from gateway import clock, kill_points
from gateway.asking import Questions
from gateway.chat import Conversation, Fate, OutgoingFile
from gateway.chat.text import quote, seconds
from gateway.clock import Alarm
from gateway.config import Person
from gateway.delivery import Fates, Outbox
from gateway.errors import StateError
from gateway.events import SledIgnores, TurnBegan
from gateway.store import Connection, Store, conversations, dialogues, messages, turns
from gateway.store.messages import StoredMessage
from gateway.store.turns import SessionKey, Turn
from gateway.tasks import Tasks, insist
from gateway.turns.admission import Admission, Parking
from gateway.turns.progress import Live
from gateway.turns.running import Limits, Running, RunSettings, Waker, Wire
from gateway.turns.wording import answer, attached_to, compose, fate_of, go_on, standing_facts
from sled.protocol import (
    Ack,
    Body,
    Event,
    File,
    Finished,
    Frame,
    Hello,
    Question,
    Run,
    Started,
    Steered,
    Stop,
    Tool,
    ToolDone,
    Welcome,
    Withdrawn,
)

log = logging.getLogger(__name__)

#: Seconds that an agent gets to end by itself before it is killed.
GRACE_S = 1.0
#: Seconds after which a sled that was told to end a run, and has not, is replaced; whoever told it.
OBEY_S = 15.0

#: A long answer as it is read in a chat, and the file that has the whole.
Abridge = Callable[[str, Conversation], Awaitable[tuple[str, OutgoingFile | None]]]


@dataclass(frozen=True, slots=True)
class Around:
    """What the turns of a gateway need of its other parts.

    `run_settings` tells what a project's runs are like, anew for each; `take_file` sends people what an agent made.
    """

    store: Store
    outbox: Outbox
    fates: Fates
    wire: Wire
    limits: Limits
    run_settings: Callable[[int], RunSettings]
    people: Mapping[str, Person]
    questions: Questions
    admission: Admission
    take_file: Callable[[Turn, File], Awaitable[None]]
    abridge: Abridge
    waker: Waker | None = None


class Runs:
    """See the module. `freed` is called when a session, or a place, is free again."""

    def __init__(self, around: Around, tasks: Tasks, freed: Callable[[SessionKey | None], None]) -> None:
        self._store = around.store
        self._outbox = around.outbox
        self._fates = around.fates
        self._wire = around.wire
        self._limits = around.limits
        self._run_settings = around.run_settings
        self._people = around.people
        self._questions = around.questions
        self._admission = around.admission
        self._take_file = around.take_file
        self._abridge = around.abridge
        self._waker = around.waker
        self._tasks = tasks
        self._freed = freed
        self._open: dict[str, Running] = {}
        #: By project: what its agent understands after a slash, as it last said.
        self.words: dict[int, frozenset[str]] = {}
        # Run ids are unique over all processes, and cost no system call each.
        self._series = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Running]:
        """Every open turn."""
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def of(self, key: SessionKey) -> Running | None:
        """The open turn of a session."""
        return next((running for running in self._open.values() if running.turn.key == key), None)

    def in_project(self, project_id: int) -> list[Running]:
        """The open turns of a project."""
        return [running for running in self._open.values() if running.turn.key.project_id == project_id]

    @property
    def at_work(self) -> int:
        """How many take a place: all but those that are parked."""
        return sum(1 for running in self._open.values() if not running.parked_at)

    def load(self) -> Counter[int]:
        """Open turns by project."""
        return Counter(running.turn.key.project_id for running in self._open.values())

    def new_id(self) -> str:
        """A fresh id for a run."""
        return f"r{self._series}-{next(self._numbers)}"

    # --- a turn begins, or is taken up -------------------------------------------------------------------------------

    def adopt(
        self, turn: Turn, live: Live, *, elapsed_s: float, news: str = "", settings: RunSettings | None = None
    ) -> Running:
        """A turn is open from now on. `news`: what its agent should know to have happened since the last one;
        `settings`: those with which it was claimed.
        """
        frame = self._frame(turn, news, settings)
        now = asyncio.get_running_loop().time()
        people = {message.at_the_word_of for message in turn.batch}
        running = Running(turn, frame, live, now - elapsed_s, now, stop_reason=turn.stop_reason, people=people)
        self._open[turn.run] = running
        self._watch(running)
        self._admission.events.tell(TurnBegan(turn.key.project_id))
        return running

    def take_up(self, turn: Turn) -> None:
        """A turn of another gateway process continues."""
        live = Live.resumed(self._store, self._outbox, turn)
        running = self.adopt(turn, live, elapsed_s=turn.worked_s)
        if turn.stop_reason:
            self._tasks.start(self._see_it_end(running))
        if turn.parked_until is not None:
            self._hold(running)
            running.parked_at += turn.parked_until - clock.now()  # what it has waited includes the wait until then
        self._fates.changed(turn.batch, Fate.RUNNING)

    async def give_up(self, turn: Turn, why: str) -> None:
        """A turn that was claimed cannot begin: it ends, and people are told."""
        live = Live.resumed(self._store, self._outbox, turn)
        now = asyncio.get_running_loop().time()
        frame = Run(run=turn.run, session=turn.session, prompt="", agent=turn.agent)
        running = self._open[turn.run] = Running(turn, frame, live, now, now)
        await self._finish(running, Finished(ending="failed", error=why))

    def _frame(self, turn: Turn, news: str = "", settings: RunSettings | None = None) -> Run:
        """What the sled is told about a turn; one that was parked continues, with the files that are there already."""
        settings = settings or self._run_settings(turn.key.project_id)
        prompt = compose(turn.batch, self._people)
        files = [attached for message in turn.batch for attached in attached_to(message)]
        return Run(
            run=turn.run,
            session=turn.session,
            prompt=go_on(prompt) if turn.parks else prompt,
            news=news,
            files=[] if turn.parks else files,
            agent=turn.agent,
            resume=turn.agent_session,
            permissions=settings.permissions,
            isolated=settings.isolated,
            model=settings.model,
            context=standing_facts(settings, turn.batch, self._people),
            warm_s=self._limits.warm_s,
            door=settings.door,
            mcp=list(settings.mcp),
        )

    # --- the sled speaks ---------------------------------------------------------------------------------------------

    def on_hello(self, project_id: int, hello: Hello) -> tuple[Welcome, list[Frame]]:
        """Settle with a sled that connected what became of every run."""
        held = {state.run: state for state in hello.runs}
        seen: dict[str, int] = {}
        then: list[Frame] = []
        for running in self.in_project(project_id):
            run = running.turn.run
            running.heard_at = asyncio.get_running_loop().time()
            if running.parked_at:
                continue  # no sled has heard of its next run yet
            if run in held:
                seen[run] = running.seen
                then += self._questions.decisions(run)
            elif running.turn.journal == hello.journal:
                then.append(running.frame)  # it never arrived
            else:
                lost = Finished(ending="interrupted", reason="crashed")
                self._tasks.start(self._finish(running, lost))
                continue
            if running.stop_reason:
                then.append(Stop(run=run, grace_s=GRACE_S))
        for run, state in held.items():
            if run not in self._open:
                then.append(Ack(run=run) if state.finished else Stop(run=run, grace_s=GRACE_S))
        return Welcome(seen=seen, agent=self._run_settings(project_id).agent), then

    async def on_event(self, project_id: int, event: Event) -> None:
        """An event of a run; known ones are skipped, as a sled replays what it is not sure of."""
        running = self._open.get(event.run)
        if running is None or running.turn.key.project_id != project_id:
            if isinstance(event.body, Finished):
                await self._wire.send(project_id, Ack(run=event.run))
            return
        if event.seq <= running.seen:
            return
        running.heard_at = asyncio.get_running_loop().time()
        within = not running.allowance.exceeded
        if isinstance(event.body, Finished) or running.allowance.take(event.body):
            await self._take(running, event.body)
        elif within:
            told = f"Ended: the run sent {running.allowance.exceeded}. `retry` runs it again."
            self._tasks.start(self.end(running, told))
        if running.turn.run == event.run:  # not if it was parked just now
            running.seen = event.seq  # only now: what could not be committed is to be replayed

    async def _take(self, running: Running, body: Body) -> None:
        turn = running.turn
        match body:
            case Started(agent_session=session):
                running.dialogue = session
                if body.words:
                    self.words[turn.key.project_id] = frozenset(body.words)
                # Handed in, and not waited for: what comes of the run is written after it.
                running.noting = self._store.write(lambda c: _note_dialogue(c, turn, session), urgent=False)
                running.noting.add_done_callback(partial(_noted, running))
            case Steered(message=message_id):
                if await self._store.write(lambda c: turns.take(c, turn, message_id)):
                    message = await self._store.read(lambda c: messages.by_id(c, message_id))
                    running.people.add(message.at_the_word_of)
                    self._fates.changed([message], Fate.RUNNING)
            case Finished():
                await self._finish(running, body)
            case Question():
                await self._questions.asked(turn, body)
            case Withdrawn():
                await self._questions.withdrawn(turn, body)
            case File():
                await self._take_file(turn, body)
            case Tool(id=tool):
                running.tools.add(tool)
            case ToolDone(id=tool):
                running.tools.discard(tool)
        running.live.take(body)

    # --- a turn ends, or is parked -----------------------------------------------------------------------------------

    async def _finish(self, running: Running, end: Finished) -> None:
        if running.finishing:
            return
        turn, fate = running.turn, fate_of(end)
        parking = self._admission.resume_at(turn, end)
        running.finishing = True
        if running.timer is not None:
            running.timer.cancel()
        if parking is not None and not running.stop_reason:
            await self._park(running, end, parking)
            return
        try:
            cost, batch, woken = await self._commit_end(running, end, fate)
        except BaseException:
            running.finishing = False  # the sled will say it again
            raise
        kill_points.reach("turn.finished")
        if self._waker is not None:
            self._waker.hand(woken)
        self._open.pop(turn.run, None)
        self._questions.closed(turn)
        self._admission.spent(turn.key.project_id, cost)
        running.over.set()
        self._fates.changed(batch, fate)
        self._outbox.wake(turn.batch[0].conversation)
        await self._wire.send(turn.key.project_id, Ack(run=turn.run))
        self._freed(turn.key)

    async def _commit_end(
        self, running: Running, end: Finished, fate: Fate
    ) -> tuple[float, tuple[StoredMessage, ...], StoredMessage | None]:
        """The turn's end, its messages' fates and the reply as one transaction; its cost in USD, its messages, and what
        the lead is to know.
        """
        turn = running.turn
        beginning, file = await self._abridge(end.text, turn.batch[0].conversation)
        text = answer(replace_frame(end, text=beginning), running.stop_reason)
        replaces = await running.live.close()
        told_already = running.quiet and replaces is None and not end.text and not end.survivors

        def unit(connection: Connection) -> tuple[float, tuple[StoredMessage, ...], StoredMessage | None]:
            woken = None
            cost = turns.finish(connection, turn, end, fate)
            if cost is not None:
                if running.dialogue:  # its own note was refused
                    _note_dialogue(connection, turn, running.dialogue)
                self._questions.close(connection, turn.id)
                if end.agent_session:
                    turns.set_agent_session(connection, turn.key, turn.session, end.agent_session)
                hushed = end.ending == "answered" and replaces is None and turns.is_hushed(connection, turn.id)
                if not told_already and not hushed:
                    self._answer(connection, running, text, replaces, fate)
                if file is not None:
                    self._outbox.add_file(connection, turn.batch[0].destination, file, "", turn_id=turn.id)
                if end.reason == "crashed" and not running.stop_reason and self._waker is not None:
                    told = f"A run ended with its sled, in the middle of: {quote(turn.batch[0].text)}"
                    woken = self._waker.wake(connection, turn.key.project_id, f"turn/{turn.id}", told)
            return cost or 0.0, tuple(messages.of_turn(connection, turn.id)), woken

        return await insist(lambda: self._store.write(unit), f"the end of turn {turn.id}")

    def _answer(self, connection: Connection, running: Running, text: str, replaces: int | None, fate: Fate) -> None:
        """Within a unit: the answer, in place of the live message; or below it, so that phones ring.

        No platform rings for an edit. A turn that took long, or during which people went on writing, is told of in a
        new message, and the live one is left as one line.
        """
        turn, first = running.turn, running.turn.batch[0]
        took = clock.since(turn.started_at)
        is_news = took > self._limits.told_after_s or messages.came_after(connection, turn.id)
        if replaces is None or not is_news or running.stop_reason:  # whoever ended it looks at it
            notifies = took > self._limits.told_after_s
            self._outbox.reply(connection, first, text, turn_id=turn.id, replaces=replaces, notifies=notifies)
            return
        here = conversations.by_id(connection, first.conversation_id)
        asked = dict.fromkeys(message.sender.partition(":")[2] for message in turn.batch)
        mentions = () if here.direct else tuple(asked)
        self._outbox.reply(connection, first, text, turn_id=turn.id, notifies=True, mentions=mentions)
        left = running.live.summary(took, well=fate is Fate.ANSWERED)
        self._outbox.add(connection, first.destination, left, kind="progress", replaces=replaces)

    async def _park(self, running: Running, end: Finished, parking: Parking) -> None:
        """The provider does not serve us: the turn stays open, and continues in another run."""
        before, until = running.turn, parking.until
        resume = end.agent_session or before.agent_session
        turn = replace(
            before,
            run=self.new_id(),
            agent_session=resume,
            parked_until=until,
            parks=before.parks + 1,
            reason=end.reason,
        )

        def unit(connection: Connection) -> float:
            cost = turns.park(connection, before, end, run=turn.run, until=until) or 0.0
            if end.agent_session:
                turns.set_agent_session(connection, turn.key, turn.session, end.agent_session)
            self._questions.close(connection, turn.id)
            return cost

        try:
            cost = await insist(lambda: self._store.write(unit), f"turn {turn.id}, which is parked,")
        finally:
            running.finishing = False
        running.began_at += self._questions.waits.total_s(turn.id)  # which is forgotten with its questions
        self._questions.closed(before)
        self._admission.spent(turn.key.project_id, cost)
        self._open.pop(before.run, None)
        self._open[turn.run] = running
        running.turn, running.frame, running.seen = turn, self._frame(turn), 0
        running.tools.clear()
        self._hold(running)
        await running.live.tell(parking.told)
        await self._wire.send(turn.key.project_id, Ack(run=before.run))
        if running.stop_reason:  # told to end in the meantime
            await self.end(running, running.stop_reason)
        self._freed(None)

    def key_changed(self) -> None:
        """There is another model key: turns that wait for one need not wait any longer."""
        for running in self._open.values():
            if running.parked_at and running.turn.reason == "model_key":
                running.turn = replace(running.turn, parked_until=None)

    def interrupt(self, project_id: int) -> list[Coroutine[Any, Any, None]]:
        """The project's sled is gone for good: what ends its open turns."""
        gone = Finished(ending="interrupted", reason="crashed")
        return [self._finish(running, gone) for running in self.in_project(project_id)]

    def _hold(self, running: Running) -> None:
        """A turn is parked; look at it again when its time has come."""
        running.parked_at = asyncio.get_running_loop().time()
        until = running.turn.parked_until or 0.0
        left = max(0.0, until - clock.now())
        running.held_until = running.parked_at + left
        if running.timer is not None:
            running.timer.cancel()
        running.timer = Alarm(until + 0.1, lambda: self._freed(None), most_s=left + 0.1)

    def go_on(self, starting: int) -> None:
        """Parked turns whose time has come go on, oldest first, while there are places; `starting` are taken, too."""
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        busy = starting + self.at_work
        for running in sorted(self._open.values(), key=lambda running: running.turn.id):
            turn = running.turn
            parked, limited = turn.parked_until or 0.0, self._admission.limited_until(turn.key.project_id)
            waits = parked > clock.now() and running.held_until > loop.time()
            early = waits or limited > max(parked, clock.now())
            journal = self._wire.journal(turn.key.project_id)
            if not running.parked_at or early or journal is None or running.finishing or busy >= self._limits.runs:
                continue
            busy += 1
            waited, running.parked_at = loop.time() - running.parked_at, 0.0
            running.turn = replace(turn, parked_until=None, journal=journal)
            running.frame = self._frame(running.turn)  # what people set in the meantime holds
            running.began_at += waited
            running.heard_at = loop.time()
            running.live.go_on()
            unit = partial(turns.go_on, turn_id=turn.id, journal=journal)
            self._tasks.start(self._send_on(running, self._store.write(unit)))
            self._watch(running)

    async def _send_on(self, running: Running, noted: asyncio.Future[None]) -> None:
        try:
            await noted
        except StateError as error:
            log.error("a restart would have turn %s wait once more: %s", running.turn.id, error)
        if not running.finishing:
            await self._wire.send(running.turn.key.project_id, running.frame)

    async def end(self, running: Running, reason: str) -> None:
        """End a run. The reason is committed first, so that a restart does not forget the wish."""
        if running.parked_at and not running.finishing:
            running.stop_reason = reason
            await self._finish(running, Finished(ending="interrupted", reason="stopped"))
            return
        if not running.stop_reason:
            running.stop_reason = reason
            self._tasks.start(self._see_it_end(running))
            try:
                await self._store.write(lambda c: turns.set_stop_reason(c, running.turn.id, reason))
            except StateError as error:
                log.error("a restart would forget that run %s is to end: %s", running.turn.run, error)
        # Sent again each time it is asked for: a sled takes repeats as one.
        await self._wire.send(running.turn.key.project_id, Stop(run=running.turn.run, grace_s=GRACE_S))

    async def _see_it_end(self, running: Running) -> None:
        """A sled that does not end a run when it is told to is ended itself, with all that it runs."""
        try:
            async with asyncio.timeout(OBEY_S):
                await running.over.wait()
        except TimeoutError:
            log.error("run %s was told to end, and goes on: its sled is replaced", running.turn.run)
            self._admission.events.tell(SledIgnores(running.turn.key.project_id))

    def _watch(self, running: Running) -> None:
        """End a run that is silent for too long while its model is awaited, or that takes too long."""
        loop = asyncio.get_running_loop()
        turn_id = running.turn.id
        away = self._wire.journal(running.turn.key.project_id) is None
        held = self._admission.held_calls[running.turn.key.project_id] > 0
        if running.tools or away or held or self._questions.waits.now(turn_id):
            running.heard_at = loop.time()  # the model is not awaited, or cannot be heard
        heard_at = max(running.heard_at, self._questions.waits.last_heard(turn_id))
        silence = heard_at + self._limits.silence_s - loop.time()
        whole = running.began_at + self._questions.waits.total_s(turn_id) + self._limits.turn_s - loop.time()
        if silence <= 0:
            told = f"Ended: the agent was silent for {seconds(self._limits.silence_s)}. `retry` runs it again."
            self._tasks.start(self.end(running, told))
        elif whole <= 0:
            told = f"Ended: the run took longer than {seconds(self._limits.turn_s)}. `retry` runs it again."
            self._tasks.start(self.end(running, told))
        else:
            running.timer = loop.call_later(min(silence, whole) + 0.01, self._watch, running)

    def close(self) -> None:
        """Forget everything in memory; runs go on in their sleds."""
        for running in self._open.values():
            if running.timer is not None:
                running.timer.cancel()


def _noted(running: Running, noting: asyncio.Future[None]) -> None:
    """A dialogue is committed; one that was refused is noted with the end of its turn."""
    if noting.cancelled():
        return
    if (error := noting.exception()) is None:
        running.dialogue = ""
    else:
        log.error("the dialogue of turn %s is noted later: %s", running.turn.id, error)


def _note_dialogue(connection: Connection, turn: Turn, agent_session: str) -> None:
    turns.set_agent_session(connection, turn.key, turn.session, agent_session)
    title = turn.batch[0].text or "(a file)"
    dialogues.note(connection, turn.session_id, agent=turn.agent, agent_session=agent_session, title=title)
