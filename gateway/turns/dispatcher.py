"""The dispatcher: messages become turns, one at a time per session. The heart of huskies; read it alone.

A prompt opens a *window* for its session; each further message extends it, up to a limit. When it closes, the session
stands in line for a place; when it has one, everything that waits in the session is claimed as one turn, in one
transaction, and its run goes to the project's sled. Messages that come in during the run wait, and go together when it
ends. An idle session has no object here, no task and no timer.

What must never break is held by the database, not by this memory: a message is claimed once because its fate changes
with the claim; a session never has two runs because an index says so. Memory holds what can be rebuilt: windows, the
line, and for each open turn the frame to send again. `recover` rebuilds it, and each sled's hello says what became of
the runs meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from msgspec.structs import replace as replace_frame

from gateway import kill_points
from gateway.asking import Questions
from gateway.chat import Conversation, Fate, OutgoingFile
from gateway.chat.text import quote, seconds
from gateway.config import Person
from gateway.delivery import Fates, Outbox
from gateway.errors import StateError, UserError
from gateway.store import Connection, Store, dialogues, messages, turns
from gateway.store.messages import COMPACT, StoredMessage
from gateway.store.turns import NoFreeSlot, SessionKey, Turn
from gateway.turns.admission import Gate, Parking
from gateway.turns.progress import Live
from gateway.turns.running import Lane, Limits, Running, RunSettings, Stopped, Wire
from gateway.turns.wording import answer, attached_to, compose, fate_of, go_on, news_of, standing_facts
from sled.protocol import (
    Ack,
    Body,
    Event,
    File,
    Finished,
    Forget,
    Frame,
    Hello,
    Question,
    Run,
    Started,
    Steer,
    Steered,
    Stop,
    Tool,
    ToolDone,
    Welcome,
    Withdrawn,
)

log = logging.getLogger(__name__)

#: Seconds that `stop` waits for the sled's word that the run's processes are gone.
STOP_WITHIN_S = 2.5
#: Seconds that an agent gets to end by itself before it is killed.
GRACE_S = 1.0
_RETRY_WRITE_S = 1.0
#: Who is further back in a line is told their place when they join it, and again when they have come this far.
_PLACES_SHOWN = 20


class Dispatcher:
    """See the module. Use from one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        outbox: Outbox,
        fates: Fates,
        wire: Wire,
        limits: Limits,
        run_settings: Callable[[int], RunSettings],
        people: Mapping[str, Person],
        questions: Questions,
        gate: Gate,
        take_file: Callable[[Turn, File], Awaitable[None]],
        abridge: Callable[[str, Conversation], tuple[str, OutgoingFile | None]] = lambda text, _: (text, None),
        worth_telling: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._fates = fates
        self._wire = wire
        self._limits = limits
        self._run_settings = run_settings
        self._people = people
        self._questions = questions
        self._gate = gate
        self._take_file = take_file
        self._abridge = abridge
        self._worth_telling = worth_telling
        gate.changed = self._fill
        gate.refused = self.refuse
        self._lanes: dict[SessionKey, Lane] = {}
        self._line: dict[SessionKey, Lane] = {}  # in order of arrival: first come, first served
        self._starting: set[SessionKey] = set()
        self._running: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        # Run ids are unique over all processes, and cost no system call each.
        self._series = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    # --- a message comes in ------------------------------------------------------------------------------------------

    def submit(self, message: StoredMessage, project_id: int, words: str | None = None) -> None:
        """Take a prompt for a project. Returns at once; the message waits in the database from here on.

        `words`: what the agent is to get instead of the message's text.
        """
        key = SessionKey(project_id, message.conversation_id)
        taken = self._store.write(lambda c: self._enqueue(c, message, project_id, words))
        self._in_background(self._queued(message, key, taken, words))
        self._open_window(key, message)

    def _enqueue(self, connection: Connection, message: StoredMessage, project_id: int, words: str | None) -> Fate:
        key = SessionKey(project_id, message.conversation_id)
        if messages.enqueue(connection, message.id, key, self._limits.queue):
            if words is not None:
                messages.set_text(connection, message.id, words)
            return Fate.QUEUED
        fate = messages.by_id(connection, message.id).fate
        if fate is not Fate.RECEIVED:
            return fate  # taken back before it was routed
        messages.set_fate(connection, [message.id], Fate.REFUSED)
        most = f"{self._limits.queue} messages, or {messages.MAX_QUEUED_TEXT:,} characters"
        self._reply(connection, message, f"The queue is full ({most}). Send it again later, or `stop`.")
        return Fate.REFUSED

    async def _queued(
        self, message: StoredMessage, key: SessionKey, taken: asyncio.Future[Fate], words: str | None
    ) -> None:
        try:
            fate = await taken
        except StateError:
            await asyncio.sleep(_RETRY_WRITE_S)
            self.submit(message, key.project_id, words)  # it is committed as received; take it up again
            return
        self._fates.changed([message], fate)
        if fate is Fate.REFUSED:
            self._outbox.wake(message.conversation)
        elif (running := self._run_of(key)) and message.id > running.turn.batch[-1].id:
            if self._limits.mode == "steer" and message.text != COMPACT and not message.files:
                text = compose([message], self._people)
                await self._wire.send(key.project_id, Steer(run=running.frame.run, message=message.id, text=text))
            elif self._limits.mode == "interrupt":
                await self._end(running, "Interrupted by a newer message.")

    def withdrawn(self, message: StoredMessage) -> None:
        """A waiting message was taken back; its session's claim will not find it."""
        self._fates.changed([message], Fate.DISCARDED)

    # --- the window, and the line for a place ------------------------------------------------------------------------

    def _open_window(self, key: SessionKey, message: StoredMessage) -> None:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(key)
        if lane is None:
            lane = Lane(key, message.conversation, message.external_id, loop.time())
            self._lanes[key] = lane
        if key in self._line or self._busy(key):
            return  # no window: the turn takes what there is when the place, or the session, is free
        if lane.timer is not None:
            lane.timer.cancel()
        left = lane.opened_at + self._limits.window_max_s - loop.time()
        delay = min(self._limits.window_s, left)
        if delay <= 0:
            self._stand_in_line(lane)
        else:
            lane.timer = loop.call_later(delay, self._stand_in_line, lane)

    def _stand_in_line(self, lane: Lane) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        self._join_line(lane)
        self._fill()
        if lane.key in self._line and lane.live is None:
            self._show_waiting(lane, f"Waiting for a free place: number {len(self._line)} in line.")

    def _join_line(self, lane: Lane) -> None:
        """First come, first served: what counts is when a session's oldest waiting message came."""
        last = next(reversed(self._line.values()), None)
        self._line[lane.key] = lane
        if last is not None and last.opened_at > lane.opened_at:
            self._line = dict(sorted(self._line.items(), key=lambda item: item[1].opened_at))

    def _fill(self) -> None:
        """Give free places to whoever is first in line and can use one."""
        if self._closing:
            return
        self._go_on()
        load = Counter(key.project_id for key in (*self._starting, *(r.turn.key for r in self._running.values())))
        busy = load.total() - sum(1 for running in self._running.values() if running.parked_at)
        ahead = 0
        for key, lane in list(self._line.items()):
            if busy >= self._limits.runs and ahead >= _PLACES_SHOWN:
                return
            full = busy >= self._limits.runs or load[key.project_id] >= self._limits.runs_per_project
            why, held = self._waits_for(key, full=full, ahead=ahead)
            if why:
                self._show_waiting(lane, why)
                if held:
                    self._tell_held(lane, why)
                ahead += 1
                continue
            load[key.project_id] += 1
            busy += 1
            del self._line[key], self._lanes[key]
            self._starting.add(key)
            self._claim(lane)

    def _waits_for(self, key: SessionKey, *, full: bool, ahead: int) -> tuple[str, bool]:
        """Why a session cannot use a place now, empty when it can; and whether that may last."""
        if self._wire.journal(key.project_id) is None:
            return "Waiting for the project to be up.", False
        if full or self._busy(key):
            return f"Waiting for a free place: number {ahead + 1} in line.", False
        return self._gate.holds(key), True

    def _show_waiting(self, lane: Lane, why: str) -> None:
        if lane.live is None:
            lane.live = Live(self._store, self._outbox, lane.conversation, lane.key.conversation_id, lane.reply_to)
        lane.live.waiting(why)

    def _tell_held(self, lane: Lane, why: str) -> None:
        """Say why a session waits for long also where nothing live is shown; once."""
        assert lane.live is not None
        if why != lane.told and not lane.live.enabled:
            self._in_background(lane.live.tell(why))
        lane.told = why

    def place(self, key: SessionKey) -> int | None:
        """How many sessions are ahead of this one in line; None when it does not stand in line."""
        return list(self._line).index(key) if key in self._line else None

    # --- a turn begins -----------------------------------------------------------------------------------------------

    def _claim(self, lane: Lane) -> None:
        """Hand in the claim at once: with a window of 0 it shares the transaction of its last message."""
        key = lane.key
        settings = self._run_settings(key.project_id)
        journal = self._wire.journal(key.project_id) or ""
        run_id = self._new_run()
        claimed = self._store.write(
            lambda c: turns.claim(
                c, key, run=run_id, agent=settings.agent, journal=journal, slots=self._limits.runs_per_project
            )
        )
        self._in_background(self._start(lane, claimed))

    async def _start(self, lane: Lane, claimed: asyncio.Future[Turn | None]) -> None:
        key = lane.key
        try:
            turn = await claimed
        except (StateError, NoFreeSlot) as error:
            log.error("a turn could not begin: %s", error)
            self._starting.discard(key)
            self._lanes[key] = lane
            # As its window, so that `stop` finds it.
            lane.timer = asyncio.get_running_loop().call_later(_RETRY_WRITE_S, self._stand_in_line, lane)
            return
        kill_points.reach("turn.claimed")
        self._starting.discard(key)
        if turn is None:  # everything was withdrawn, or taken by an earlier turn
            if lane.live is not None:
                await lane.live.retire("Withdrawn; nothing is left to do.")
            if (later := self._lanes.get(key)) is not None:
                self._join_line(later)
            self._fill()
            return
        live = lane.live or Live(self._store, self._outbox, lane.conversation, key.conversation_id, lane.reply_to)
        running = self._adopt(turn, live, elapsed_s=0.0, news=news_of(turn, self._worth_telling))
        if turn.rest:  # joins the line when this turn ends
            self._lanes.setdefault(key, Lane(key, lane.conversation, turn.rest[0].external_id, lane.opened_at))
        self._fates.changed(turn.batch, Fate.RUNNING)
        await self._wire.send(key.project_id, running.frame)
        await live.begin(turn.id)

    def _frame(self, turn: Turn, news: str = "") -> Run:
        """What the sled is told of a turn; one that was parked goes on, with the files that are there already."""
        settings = self._run_settings(turn.key.project_id)
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
            context=standing_facts(settings.project, turn.batch, self._people),
            warm_s=self._limits.warm_s,
        )

    def _adopt(self, turn: Turn, live: Live, *, elapsed_s: float, news: str = "") -> Running:
        frame = self._frame(turn, news)
        now = asyncio.get_running_loop().time()
        running = Running(turn, frame, live, now - elapsed_s, now, stop_reason=turn.stop_reason)
        self._running[turn.run] = running
        self._watch(running)
        return running

    # --- the sled speaks ---------------------------------------------------------------------------------------------

    def on_hello(self, project_id: int, hello: Hello) -> tuple[Welcome, list[Frame]]:
        """Settle with a sled that connected what became of every run."""
        held = {state.run: state for state in hello.runs}
        seen: dict[str, int] = {}
        then: list[Frame] = []
        for running in [r for r in self._running.values() if r.turn.key.project_id == project_id]:
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
                self._in_background(self._finish(running, lost))
                continue
            if running.stop_reason:
                then.append(Stop(run=run, grace_s=GRACE_S))
        for run, state in held.items():
            if run not in self._running:
                then.append(Ack(run=run) if state.finished else Stop(run=run, grace_s=GRACE_S))
        return Welcome(seen=seen), then

    def on_connected(self, project_id: int) -> None:
        """A sled can be sent to: sessions of its project may have waited for it."""
        self._fill()

    async def on_event(self, project_id: int, event: Event) -> None:
        """An event of a run; known ones are skipped, for a sled replays what it is not sure of."""
        running = self._running.get(event.run)
        if running is None or running.turn.key.project_id != project_id:
            if isinstance(event.body, Finished):
                await self._wire.send(project_id, Ack(run=event.run))
            return
        if event.seq <= running.seen:
            return
        running.heard_at = asyncio.get_running_loop().time()
        await self._take(running, event.body)
        if running.turn.run == event.run:  # not if it was parked just now
            running.seen = event.seq  # only now: what could not be committed is to be replayed

    async def _take(self, running: Running, body: Body) -> None:
        turn = running.turn
        match body:
            case Started(agent_session=session):
                await self._store.write(lambda c: _note_dialogue(c, turn, session))
            case Steered(message=message_id):
                if await self._store.write(lambda c: turns.take(c, turn, message_id)):
                    message = await self._store.read(lambda c: messages.by_id(c, message_id))
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

    # --- a turn ends -------------------------------------------------------------------------------------------------

    async def _finish(self, running: Running, end: Finished) -> None:
        if running.finishing:
            return
        turn, fate = running.turn, fate_of(end)
        parking = self._gate.resume_at(turn, end)
        running.finishing = True
        if running.timer is not None:
            running.timer.cancel()
        if parking is not None and not running.stop_reason:
            await self._park(running, end, parking)
            return
        here = turn.batch[0].conversation
        beginning, file = self._abridge(end.text, here)
        text = answer(replace_frame(end, text=beginning), running.stop_reason)
        replaces = await running.live.close()
        told_already = running.quiet and replaces is None and not end.text and not end.survivors

        cost = 0.0

        def unit(connection: Connection) -> tuple[StoredMessage, ...]:
            nonlocal cost
            if (spent := turns.finish(connection, turn, end, fate)) is not None:
                cost = spent
                self._questions.close(connection, turn.id)
                if end.agent_session:
                    turns.set_agent_session(connection, turn.key, turn.session, end.agent_session)
                if not told_already:
                    self._reply(connection, turn.batch[0], text, turn_id=turn.id, replaces=replaces)
                if file is not None:
                    here_id = turn.key.conversation_id
                    self._outbox.add_file(connection, here, here_id, file, "", turn_id=turn.id)
            return tuple(messages.of_turn(connection, turn.id))

        try:
            batch = await self._insist(unit)
        except BaseException:
            running.finishing = False  # the sled will say it again
            raise
        kill_points.reach("turn.finished")
        self._running.pop(turn.run, None)
        self._questions.closed(turn)
        self._gate.spent(turn.key.project_id, cost)
        running.over.set()
        self._fates.changed(batch, fate)
        self._outbox.wake(turn.batch[0].conversation)
        await self._wire.send(turn.key.project_id, Ack(run=turn.run))
        if (lane := self._lanes.get(turn.key)) is not None and lane.timer is None:
            self._join_line(lane)
        self._fill()

    async def _insist(self, unit: Callable[[Connection], tuple[StoredMessage, ...]]) -> tuple[StoredMessage, ...]:
        """Commit, however long the database refuses: the sled keeps the run until we acknowledge its end."""
        while True:
            try:
                return await self._store.write(unit)
            except StateError:
                await asyncio.sleep(_RETRY_WRITE_S)

    async def _park(self, running: Running, end: Finished, parking: Parking) -> None:
        """The provider does not serve us: the turn stays open, and goes on in another run."""
        before, until = running.turn, parking.until
        resume = end.agent_session or before.agent_session
        turn = replace(
            before,
            run=self._new_run(),
            agent_session=resume,
            parked_until=until,
            parks=before.parks + 1,
            reason=end.reason,
        )

        cost = 0.0

        def unit(connection: Connection) -> tuple[StoredMessage, ...]:
            nonlocal cost
            cost = turns.park(connection, before, end, run=turn.run, until=until) or 0.0
            if end.agent_session:
                turns.set_agent_session(connection, turn.key, turn.session, end.agent_session)
            self._questions.close(connection, turn.id)
            return ()

        try:
            await self._insist(unit)
        finally:
            running.finishing = False
        running.began_at += self._questions.waits.total_s(turn.id)  # which is forgotten with its questions
        self._questions.closed(before)
        self._gate.spent(turn.key.project_id, cost)
        self._running.pop(before.run, None)
        self._running[turn.run] = running
        running.turn, running.frame, running.seen = turn, self._frame(turn), 0
        running.tools.clear()
        self._hold(running)
        await running.live.tell(parking.told)
        await self._wire.send(turn.key.project_id, Ack(run=before.run))
        if running.stop_reason:  # told to end in the meantime
            await self._end(running, running.stop_reason)
        self._fill()

    def key_changed(self) -> None:
        """There is another model key: what waits for one need not wait any longer."""
        for running in self._running.values():
            if running.parked_at and running.turn.reason == "model_key":
                running.turn = replace(running.turn, parked_until=None)
        self._fill()

    def _hold(self, running: Running) -> None:
        """A turn is parked; have it looked at again when its time has come."""
        loop = asyncio.get_running_loop()
        running.parked_at = loop.time()
        left = max(0.0, (running.turn.parked_until or 0.0) - time.time())
        running.timer = loop.call_later(left + 0.1, self._fill)

    def _go_on(self) -> None:
        """Parked turns whose time has come go on, oldest first, while there are places."""
        loop = asyncio.get_running_loop()
        busy = len(self._starting) + sum(1 for running in self._running.values() if not running.parked_at)
        for running in sorted(self._running.values(), key=lambda running: running.turn.id):
            turn = running.turn
            served_at = max(turn.parked_until or 0.0, self._gate.limited_until(turn.key.project_id))
            early = served_at > time.time()
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
            self._in_background(self._send_on(running, self._store.write(unit)))
            self._watch(running)

    async def _send_on(self, running: Running, noted: asyncio.Future[None]) -> None:
        try:
            await noted
        except StateError as error:
            log.error("a restart would have turn %s wait once more: %s", running.turn.id, error)
        if not running.finishing:
            await self._wire.send(running.turn.key.project_id, running.frame)

    async def _end(self, running: Running, reason: str) -> None:
        """Have a run end. The reason is committed first, so that a restart does not forget the wish."""
        if running.parked_at and not running.finishing:
            running.stop_reason = reason
            await self._finish(running, Finished(ending="interrupted", reason="stopped"))
            return
        if not running.stop_reason:
            running.stop_reason = reason
            try:
                await self._store.write(lambda c: turns.set_stop_reason(c, running.turn.id, reason))
            except StateError as error:
                log.error("a restart would forget that run %s shall end: %s", running.turn.run, error)
        # Sent again each time it is asked for: a sled takes repeats as one.
        await self._wire.send(running.turn.key.project_id, Stop(run=running.turn.run, grace_s=GRACE_S))

    def _watch(self, running: Running) -> None:
        """End a run that is silent for too long while its model is awaited, or that goes on for too long."""
        loop = asyncio.get_running_loop()
        turn_id = running.turn.id
        away = self._wire.journal(running.turn.key.project_id) is None
        if running.tools or away or self._questions.waits.now(turn_id):
            running.heard_at = loop.time()  # the model is not awaited, or cannot be heard
        heard_at = max(running.heard_at, self._questions.waits.last_heard(turn_id))
        silence = heard_at + self._limits.silence_s - loop.time()
        whole = running.began_at + self._questions.waits.total_s(turn_id) + self._limits.turn_s - loop.time()
        if silence <= 0:
            told = f"Ended: the agent was silent for {seconds(self._limits.silence_s)}. `retry` runs it again."
            self._in_background(self._end(running, told))
        elif whole <= 0:
            told = f"Ended: the run took longer than {seconds(self._limits.turn_s)}. `retry` runs it again."
            self._in_background(self._end(running, told))
        else:
            running.timer = loop.call_later(min(silence, whole) + 0.01, self._watch, running)

    # --- what people ask for -----------------------------------------------------------------------------------------

    async def stop(
        self,
        reason: str,
        *,
        project_id: int | None = None,
        conversations: Collection[int],
        told: Collection[int] | None = None,
    ) -> Stopped:
        """Empty windows and queues and end runs, of one project or of some conversations.

        The caller tells the conversations in `told` (all, when left out) what was stopped; the others are told here.
        Returns when the processes of each run are verified gone, or after `STOP_WITHIN_S`.
        """

        def concerns(key: SessionKey) -> bool:
            return key.project_id == project_id or key.conversation_id in conversations

        def by_caller(conversation_id: int) -> bool:
            return told is None or conversation_id in told

        # Claims handed in before this unit have resolved when it has: their runs are in `_running` by now.
        discarded = await self._discard(concerns, reason, by_caller)
        ending = [running for running in self._running.values() if concerns(running.turn.key)]
        for running in ending:
            running.quiet = by_caller(running.turn.key.conversation_id)
            await self._end(running, reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S):
                for running in ending:
                    await running.over.wait()
        return Stopped(
            [message for message in discarded if by_caller(message.conversation_id)],
            [running.turn for running in ending if running.over.is_set()],
            [running.turn for running in ending if not running.over.is_set()],
        )

    async def refuse(self, project_id: int, reason: str) -> None:
        """Discard what waits in a project, and tell everybody; its runs go on."""
        await self._discard(lambda key: key.project_id == project_id, reason, lambda _: False)

    async def _discard(
        self, concerns: Callable[[SessionKey], bool], reason: str, by_caller: Callable[[int], bool]
    ) -> list[StoredMessage]:
        """Empty windows and queues; conversations that no caller tells are told here what is not run."""
        lanes = [self._lanes.pop(key) for key in list(self._lanes) if concerns(key)]
        for lane in lanes:
            self._line.pop(lane.key, None)
            if lane.timer is not None:
                lane.timer.cancel()
                lane.timer = None

        def discard(connection: Connection) -> list[StoredMessage]:
            waiting = [
                message
                for message in messages.with_fate(connection, Fate.QUEUED)
                if message.project_id is not None and concerns(SessionKey(message.project_id, message.conversation_id))
            ]
            messages.set_fate(connection, [message.id for message in waiting], Fate.DISCARDED)
            for message in waiting:
                if not by_caller(message.conversation_id):
                    self._reply(connection, message, f"⏹ {reason} Not run: {quote(message.text)}")
            return waiting

        try:
            discarded = await self._store.write(discard)
        except StateError:  # they wait as before
            for lane in lanes:
                self._stand_in_line(self._lanes.setdefault(lane.key, lane))
            raise
        for lane in lanes:
            if lane.live is not None:
                self._in_background(lane.live.retire("⏹ Stopped."))
        self._fates.changed(discarded, Fate.DISCARDED)
        for message in discarded:
            self._outbox.wake(message.conversation)
        return discarded

    async def retry(self, key: SessionKey) -> Turn:
        """Run a session's last turn again, if it was interrupted or failed. Raises UserError."""
        if self._busy(key):
            raise UserError("A run is under way; `stop` it first, or wait for it.")

        def unit(connection: Connection) -> Turn | None:
            turn = turns.last_unfinished_business(connection, key)
            if turn is not None:
                turns.requeue(connection, turn)
            return turn

        turn = await self._store.write(unit)
        if turn is None:
            raise UserError("There is no interrupted or failed run here to run again.")
        first = turn.batch[0]
        loop = asyncio.get_running_loop()
        lane = self._lanes.setdefault(key, Lane(key, first.conversation, first.external_id, loop.time()))
        self._stand_in_line(lane)
        return turn

    async def reset(self, key: SessionKey, agent_session: str = "") -> None:
        """The session's next turn begins a new dialogue, or goes on with an older one. Stop it first."""
        old = await self._store.write(lambda c: turns.reset(c, key, agent_session))
        await self._wire.send(key.project_id, Forget(session=old))

    async def forget(self, project_id: int) -> None:
        """A project is deleted: nobody need answer what was asked about it, and its number may be another one's."""
        await self._questions.forget(project_id)
        self._gate.forget(project_id)

    def projects_with_work(self) -> set[int]:
        """The projects that have open turns, or messages that wait."""
        return {running.turn.key.project_id for running in self._running.values()} | {
            key.project_id for key in self._lanes
        }

    def running_in(self, project_id: int) -> list[Turn]:
        """The open turns of a project."""
        return [r.turn for r in self._running.values() if r.turn.key.project_id == project_id]

    def interrupt_all(self, project_id: int) -> list[Coroutine[Any, Any, None]]:
        """The project's sled is gone for good: what ends its open turns."""
        gone = Finished(ending="interrupted", reason="crashed")
        return [self._finish(r, gone) for r in self._running.values() if r.turn.key.project_id == project_id]

    @property
    def load(self) -> tuple[int, int]:
        """Runs under way, and sessions in line."""
        return len(self._running), len(self._line)

    # --- start and end of the process --------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take up what another gateway process left: open turns, and messages that wait."""
        open_turns = await self._store.read(turns.open_turns)
        for turn in open_turns:
            live = Live.resumed(self._store, self._outbox, turn)
            running = self._adopt(turn, live, elapsed_s=time.time() - turn.started_at - turn.waited_s)
            if turn.parked_until is not None:
                if running.timer is not None:
                    running.timer.cancel()
                self._hold(running)
                running.parked_at += turn.parked_until - time.time()  # what it has waited includes the wait until then
            self._fates.changed(turn.batch, Fate.RUNNING)
        for message in await self._store.read(lambda c: messages.with_fate(c, Fate.QUEUED)):
            if message.project_id is not None:
                self._fates.changed([message], Fate.QUEUED)
                self._open_window(SessionKey(message.project_id, message.conversation_id), message)

    async def close(self) -> None:
        """Forget everything in memory; runs go on in their sleds."""
        self._closing = True
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()
        for running in self._running.values():
            if running.timer is not None:
                running.timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- small parts -------------------------------------------------------------------------------------------------

    def _new_run(self) -> str:
        return f"r{self._series}-{next(self._numbers)}"

    def _busy(self, key: SessionKey) -> bool:
        return key in self._starting or self._run_of(key) is not None

    def _run_of(self, key: SessionKey) -> Running | None:
        return next((running for running in self._running.values() if running.turn.key == key), None)

    def _reply(
        self,
        connection: Connection,
        message: StoredMessage,
        text: str,
        *,
        turn_id: int | None = None,
        replaces: int | None = None,
    ) -> None:
        self._outbox.add(
            connection,
            message.conversation,
            message.conversation_id,
            text,
            reply_to=message.external_id,
            message_id=message.id,
            turn_id=turn_id,
            replaces=replaces,
        )

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the dispatcher stumbled", exc_info=error)


def _note_dialogue(connection: Connection, turn: Turn, agent_session: str) -> None:
    turns.set_agent_session(connection, turn.key, turn.session, agent_session)
    title = turn.batch[0].text or "(a file)"
    dialogues.note(connection, turn.session_id, agent=turn.agent, agent_session=agent_session, title=title)
