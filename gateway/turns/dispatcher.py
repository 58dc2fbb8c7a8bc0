"""The dispatcher: messages become turns, one at a time per session. The heart of huskies; read it alone.

A prompt opens a *window* for its session; each further message extends it, up to a limit. When it closes, the session
stands in *line* for a place (`line`); when it has one, everything that waits in the session is claimed as one turn, in
one transaction, and its run goes to the project's sled (`runs`). Messages that come in during the run wait, and go
together when it ends. An idle session has no object here, no task and no timer.

What must never break is held by the database, not by this memory: a message is claimed once because its fate changes
with the claim; a session never has two runs because an index says so. Memory holds what can be rebuilt: windows, the
line, and for each open turn the frame to send again. `recover` rebuilds it, and each sled's hello says what became of
the runs meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any

from gateway import kill_points, tasks
from gateway.chat import Conversation, Fate
from gateway.chat.text import quote
from gateway.errors import StateError, UserError
from gateway.events import ProjectGone
from gateway.store import Connection, messages, turns
from gateway.store.messages import COMPACT, StoredMessage
from gateway.store.turns import SessionKey, Turn
from gateway.tasks import Tasks
from gateway.turns.ahead import Ahead
from gateway.turns.line import Lane, Line
from gateway.turns.progress import Live
from gateway.turns.running import Running, RunSettings, Stopped
from gateway.turns.runs import Around, Runs
from gateway.turns.wording import compose, news_of
from sled.protocol import Event, Forget, Frame, Hello, Steer, Warm, Welcome

log = logging.getLogger(__name__)

#: Seconds that `stop` waits for the sled's word that the run's processes are gone.
STOP_WITHIN_S = 2.5
#: Seconds until a session whose turn could not begin tries again, ever longer.
_AGAIN_S = (1.0, 30.0)
#: Seconds after which people are told why their project is not up, if that is known; and between later looks.
AWAY_TOLD_S = 10.0
#: Who is further back in a line is told their place when they join it, and again when they have come this far.
_PLACES_SHOWN = 20


class Dispatcher:
    """See the module. Use from one event loop. `worth_telling`: whether an agent should hear that people typed this."""

    def __init__(self, around: Around, *, worth_telling: Callable[[str], bool] = lambda _: True) -> None:
        self._around = around
        self._store = around.store
        self._outbox = around.outbox
        self._fates = around.fates
        self._wire = around.wire
        self._limits = around.limits
        self._questions = around.questions
        self._admission = around.admission
        self._worth_telling = worth_telling
        self._tasks = Tasks("the dispatcher stumbled")
        self._line = Line(self._limits.window_s, self._limits.window_max_s, self._stand_in_line)
        self._runs = Runs(around, self._tasks, self._freed)
        self._ahead = Ahead(around)
        #: Sessions whose claim is on its way.
        self._starting: set[SessionKey] = set()
        #: How often in a row a session's turn could not begin.
        self._failures: dict[SessionKey, int] = {}
        self._closing = False

    # --- a message comes in ------------------------------------------------------------------------------------------

    def submit(self, message: StoredMessage, project_id: int, words: str | None = None) -> None:
        """Take a prompt for a project. Returns at once; the message waits in the database from here on.

        `words`: what the agent is to get instead of the message's text.
        """
        key = SessionKey(project_id, message.conversation_id)
        ahead = self._ahead.reserve(key) if self._may_start_ahead(key) else None
        taken = self._store.write(lambda c: self._enqueue(c, message, project_id, words, ahead))
        self._tasks.start(self._queued(message, key, taken, words))
        self._open_window(key, message)

    def _enqueue(
        self,
        connection: Connection,
        message: StoredMessage,
        project_id: int,
        words: str | None,
        ahead: RunSettings | None,
    ) -> tuple[Fate, Warm | None]:
        """Queue the message; what to tell the sled if its agent is to be started `ahead`, with these settings."""
        key = SessionKey(project_id, message.conversation_id)
        if messages.enqueue(connection, message.id, key, self._limits.queue):
            if words is not None:
                messages.set_text(connection, message.id, words)
            return Fate.QUEUED, None if ahead is None else self._ahead.warm(connection, key, ahead)
        fate = messages.by_id(connection, message.id).fate
        if fate is not Fate.RECEIVED:
            return fate, None  # taken back before it was routed
        messages.set_fate(connection, [message.id], Fate.REFUSED)
        most = f"{self._limits.queue} messages, or {messages.MAX_QUEUED_TEXT:,} characters"
        self._outbox.reply(connection, message, f"The queue is full ({most}). Send it again later, or type `stop`.")
        return Fate.REFUSED, None

    async def _queued(
        self,
        message: StoredMessage,
        key: SessionKey,
        taken: asyncio.Future[tuple[Fate, Warm | None]],
        words: str | None,
    ) -> None:
        try:
            fate, warm = await taken
        except StateError:
            self._ahead.take(key)  # no sled was told of it
            await asyncio.sleep(tasks.RETRY_S)
            self.submit(message, key.project_id, words)  # it is committed as received; take it up again
            return
        self._fates.changed([message], fate)
        if warm is not None:
            await self._ahead.start(key, warm)
        if fate is Fate.REFUSED:
            self._outbox.wake(message.conversation)
        elif (running := self._runs.of(key)) and message.id > running.turn.batch[-1].id:
            said = message if words is None else replace(message, text=words)
            if self._limits.mode == "steer" and said.text != COMPACT and not said.files:
                text = compose([said], self._around.people)
                await self._wire.send(key.project_id, Steer(run=running.frame.run, message=message.id, text=text))
            elif self._limits.mode == "interrupt":
                await self._runs.end(running, "Interrupted by a newer message.")

    def withdrawn(self, message: StoredMessage) -> None:
        """A waiting message was taken back; its session's claim will not find it."""
        self._fates.changed([message], Fate.DISCARDED)

    def typing(self, conversation: Conversation, senders: Collection[str]) -> None:
        """Those of a room that are typing now: a window may end sooner."""
        self._line.typing(conversation, senders)

    # --- the window, and the line for a place ------------------------------------------------------------------------

    def _open_window(self, key: SessionKey, message: StoredMessage) -> None:
        lane = self._line.add(key, message)
        if key not in self._line and not self._busy(key):
            self._line.open_window(lane, message.sender)
        # Else no window: the turn takes what there is when the place, or the session, is free.

    def _stand_in_line(self, lane: Lane) -> None:
        self._line.join(lane)
        self.fill()
        if lane.key in self._line and lane.live is None:
            self._show_waiting(lane, f"Waiting for a free place: number {len(self._line)} in line.")

    def fill(self) -> None:
        """Give free places to whoever is first in line and can use one."""
        if self._closing:
            return
        self._runs.go_on(starting=len(self._starting))
        load = self._runs.load()
        load.update(key.project_id for key in (*self._starting, *self._ahead))
        busy = len(self._starting) + self._runs.at_work + len(self._ahead)
        ahead = 0
        for lane in self._line:
            if busy >= self._limits.runs and ahead >= _PLACES_SHOWN:
                return
            key = lane.key
            has_place = key in self._ahead
            taken, of_project = busy - has_place, load[key.project_id] - has_place
            full = taken >= self._limits.runs or of_project >= self._limits.runs_per_project
            why, held = self._waits_for(lane, full=full, ahead=ahead)
            if why:
                if has_place:  # others can use it
                    load[key.project_id], busy = of_project, taken
                    self._tasks.start(self._ahead.end(key, self._ahead.take(key)))
                self._show_waiting(lane, why)
                if held:
                    self._tell_held(lane, why)
                ahead += 1
                continue
            load[key.project_id], busy = of_project + 1, taken + 1
            self._is_back(lane)
            lane.ahead = self._ahead.take(key)
            self._line.leave(lane)
            self._starting.add(key)
            self._claim(lane)

    def _may_start_ahead(self, key: SessionKey) -> bool:
        """Whether an agent can be started while its people still write: a window opens, and a place is free."""
        opens = self._limits.window_s > 0 and self._line.get(key) is None and not self._busy(key)
        if not opens or self._closing or key in self._ahead or self._wire.journal(key.project_id) is None:
            return False
        load = self._runs.load()
        load.update(one.project_id for one in (*self._starting, *self._ahead))
        busy = len(self._starting) + self._runs.at_work + len(self._ahead)
        if busy >= self._limits.runs or load[key.project_id] >= self._limits.runs_per_project or len(self._line):
            return False
        return not self._admission.holds(key, ask=False)

    def _waits_for(self, lane: Lane, *, full: bool, ahead: int) -> tuple[str, bool]:
        """Why a session cannot use a place now, empty when it can; and whether that may last."""
        key = lane.key
        if self._wire.journal(key.project_id) is None:
            if lane.watch is None:
                lane.watch = asyncio.get_running_loop().call_later(AWAY_TOLD_S, self._tell_away, lane)
            return lane.away or "Waiting for the project to come up.", False
        if full or self._busy(key):
            return f"Waiting for a free place: number {ahead + 1} in line.", False
        return self._admission.holds(key), True

    def _show_waiting(self, lane: Lane, why: str) -> None:
        if lane.live is None:
            lane.live = Live(self._store, self._outbox, lane.to, lane.reply_to, quiet=lane.quiet)
        lane.live.waiting(why)

    def _tell_held(self, lane: Lane, why: str) -> None:
        """Say why a session waits for long also where nothing live is shown; once."""
        assert lane.live is not None
        if why != lane.told and not lane.live.enabled:
            self._tasks.start(lane.live.tell(why))
        lane.told = why

    def _tell_away(self, lane: Lane) -> None:
        """A session waits for its project for long: say why, once, also where nothing live is shown."""
        if lane.key not in self._line or self._wire.journal(lane.key.project_id) is not None:
            lane.watch = None
            return
        assert lane.live is not None
        why = self._wire.trouble(lane.key.project_id)
        if not why:  # it may still be coming up
            lane.watch = asyncio.get_running_loop().call_later(AWAY_TOLD_S, self._tell_away, lane)
            return
        lane.away = f"Waiting for the project to come up: {why.rstrip('.')}."
        if lane.live.enabled:
            lane.live.waiting(lane.away)
        else:
            self._tasks.start(lane.live.tell(lane.away))

    def _is_back(self, lane: Lane) -> None:
        """A session goes on: whoever was told that it waits for its project is told that, too."""
        if lane.away and lane.live is not None and not lane.live.enabled:
            self._tasks.start(self._outbox.say(lane.to, "The project is up again. I'll continue."))
        lane.away = ""

    def place(self, key: SessionKey) -> int | None:
        """How many sessions are ahead of this one in line; None when it does not stand in line."""
        return self._line.place(key)

    # --- a turn begins -----------------------------------------------------------------------------------------------

    def _claim(self, lane: Lane) -> None:
        """Hand in the claim at once: with a window of 0 it shares the transaction of its last message."""
        key = lane.key
        lane.settings = self._around.run_settings(key.project_id)
        agent = lane.settings.agent
        journal = self._wire.journal(key.project_id) or ""
        run_id = self._runs.new_id()
        slots = self._limits.runs_per_project
        claimed = self._store.write(
            lambda c: turns.claim(c, key, run=run_id, agent=agent, journal=journal, slots=slots)
        )
        self._tasks.start(self._start(lane, claimed))

    async def _start(self, lane: Lane, claimed: asyncio.Future[Turn | None]) -> None:
        key = lane.key
        try:
            turn = await claimed
        except Exception as error:  # noqa: BLE001 - whatever it is, neither the session nor its place may be lost
            self._put_back(lane, error)
            return
        kill_points.reach("turn.claimed")
        self._starting.discard(key)
        self._failures.pop(key, None)
        if turn is None:  # everything was withdrawn, or taken by an earlier turn
            await self._ahead.end(key, lane.ahead)
            if lane.live is not None:
                await lane.live.retire("Taken back; there is nothing left to do.")
            self._freed(key)
            return
        quiet = all(message.quiet for message in turn.batch)
        live = lane.live or Live(self._store, self._outbox, lane.to, lane.reply_to, quiet=quiet)
        try:
            news = news_of(turn, self._worth_telling)
            running = self._runs.adopt(turn, live, elapsed_s=0.0, news=news, settings=lane.settings)
        except Exception as error:
            log.exception("turn %s cannot begin", turn.id)
            await self._runs.give_up(turn, f"it could not begin ({type(error).__name__}; the gateway's log has more)")
            return
        if turn.rest:  # joins the line when this turn ends
            self._line.add(key, turn.rest[0], lane.opened_at)
        await self._wire.send(key.project_id, running.frame)  # first: nobody waits for a mark
        if not running.finishing:
            self._fates.changed(turn.batch, Fate.RUNNING)
        await live.begin(turn.id)

    def _put_back(self, lane: Lane, error: Exception) -> None:
        """A turn could not begin: the session waits as before, and tries again later."""
        foreseen = isinstance(error, (StateError, turns.NoFreeSlot))
        log.error("a turn could not begin: %s", error, exc_info=None if foreseen else error)
        failures = self._failures[lane.key] = self._failures.get(lane.key, 0) + 1
        shortest, longest = _AGAIN_S
        self._starting.discard(lane.key)
        self._line.again(lane, min(longest, shortest * 2 ** min(failures - 1, 10)))

    def _freed(self, key: SessionKey | None) -> None:
        """A place is free, and the session's own when it is named."""
        lane = self._line.get(key) if key is not None else None
        if lane is not None and lane.timer is None:
            self._line.join(lane)
        self.fill()

    # --- the sled speaks ---------------------------------------------------------------------------------------------

    def on_hello(self, project_id: int, hello: Hello) -> tuple[Welcome, list[Frame]]:
        """See `gateway.wire.sleds.Listener`."""
        return self._runs.on_hello(project_id, hello)

    def on_connected(self, project_id: int) -> None:
        """A sled can be sent to: sessions of its project may have waited for it."""
        self.fill()

    async def on_event(self, project_id: int, event: Event) -> None:
        """See `gateway.wire.sleds.Listener`."""
        await self._runs.on_event(project_id, event)

    def key_changed(self) -> None:
        """There is another model key: what waits for one need not wait any longer."""
        self._runs.key_changed()
        self.fill()

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

        # Claims handed in before this unit have resolved when it has: their runs are open by now.
        discarded = await self._discard(concerns, reason, by_caller)
        ending: list[Running] = [running for running in self._runs if concerns(running.turn.key)]
        for running in ending:
            running.quiet = by_caller(running.turn.key.conversation_id)
            await self._runs.end(running, reason)
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
        lanes = self._line.take_out(concerns)
        for key in self._ahead:
            if concerns(key):
                self._tasks.start(self._ahead.end(key, self._ahead.take(key)))
        self._failures = {key: failures for key, failures in self._failures.items() if not concerns(key)}

        def discard(connection: Connection) -> list[StoredMessage]:
            waiting = [
                message
                for message in messages.with_fate(connection, Fate.QUEUED)
                if message.project_id is not None and concerns(SessionKey(message.project_id, message.conversation_id))
            ]
            for message in waiting:
                if by_caller(message.conversation_id):
                    messages.discard(connection, [message.id])
                else:
                    messages.set_fate(connection, [message.id], Fate.DISCARDED)
                    self._outbox.reply(connection, message, f"⏹ {reason} Not run: {quote(message.text)}")
            return waiting

        try:
            discarded = await self._store.write(discard)
        except StateError:  # they wait as before
            for lane in lanes:
                self._line.again(lane, 0)
            raise
        kill_points.reach("waiting.discarded")
        for lane in lanes:
            if lane.live is not None:
                self._tasks.start(lane.live.retire("⏹ Stopped."))
        self._fates.changed(discarded, Fate.DISCARDED)
        for message in discarded:
            self._outbox.wake(message.conversation)
        self.fill()  # a place that an agent had ahead of its turn is free
        return discarded

    async def retry(self, key: SessionKey) -> Turn:
        """Run a session's last turn again, if it was interrupted or failed. Raises UserError."""
        if self._busy(key):
            raise UserError("A run is under way. Type `stop` first, or wait until it ends.")

        def unit(connection: Connection) -> Turn | None:
            turn = turns.last_unfinished_business(connection, key)
            if turn is not None:
                turns.requeue(connection, turn)
            return turn

        turn = await self._store.write(unit)
        if turn is None:
            raise UserError("There is no interrupted or failed run to retry here.")
        self._stand_in_line(self._line.add(key, turn.batch[0]))
        return turn

    async def reset(self, key: SessionKey, agent_session: str = "") -> None:
        """The session's next turn begins a new dialogue, or continues an older one. Stop it first."""
        old = await self._store.write(lambda c: turns.reset(c, key, agent_session))
        await self._wire.send(key.project_id, Forget(session=old))

    async def forget(self, project_id: int) -> None:
        """A project is deleted: nobody needs to answer what was asked about it, and another one may get its number."""
        await self._questions.forget(project_id)
        self._admission.forget(project_id)
        self._admission.events.tell(ProjectGone(project_id))

    # --- what is under way -------------------------------------------------------------------------------------------

    def projects_with_work(self) -> set[int]:
        """The projects that have open turns, or messages that wait."""
        return {running.turn.key.project_id for running in self._runs} | {key.project_id for key in self._line.sessions}

    def is_at_work(self, project_id: int) -> bool:
        """Whether a turn of the project is open, or begins."""
        return bool(self.at_work(project_id))

    def at_work(self, project_id: int) -> list[SessionKey]:
        """The sessions of a project whose turn is open, or begins; those whose agent was started ahead, too."""
        keys = [*self._starting, *self._ahead, *(turn.key for turn in self.running_in(project_id))]
        return [key for key in keys if key.project_id == project_id]

    def running_in(self, project_id: int) -> list[Turn]:
        """The open turns of a project."""
        return [running.turn for running in self._runs.in_project(project_id)]

    def waiting_in(self, project_id: int) -> int:
        """Conversations of a project that have messages which no turn has taken yet."""
        return sum(key.project_id == project_id for key in self._line.sessions)

    def people_served(self, project_id: int) -> set[str]:
        """At whose word a project works now."""
        return set().union(*(running.people for running in self._runs.in_project(project_id)))

    def interrupt_all(self, project_id: int) -> list[Coroutine[Any, Any, None]]:
        """The project's sled is gone for good: what ends its open turns."""
        return self._runs.interrupt(project_id)

    def agent_words(self, project_id: int) -> frozenset[str] | None:
        """What a project's agent understands after a slash; None while it has not said so."""
        return self._runs.words.get(project_id)

    @property
    def load(self) -> tuple[int, int]:
        """Runs under way, and sessions in line."""
        return len(self._runs), len(self._line)

    @property
    def problem(self) -> str:
        """What keeps turns from beginning, for `huskies doctor`; empty while nothing does."""
        if not self._failures:
            return ""
        return f"some turns cannot begin (sessions: {len(self._failures)}); the gateway's log says why"

    def _busy(self, key: SessionKey) -> bool:
        return key in self._starting or self._runs.of(key) is not None

    # --- start and end of the process --------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take up what another gateway process left: open turns, messages that wait, and what it did not get to say."""
        await self._store.write(self._tell_discarded)
        for turn in await self._store.read(turns.open_turns):
            self._runs.take_up(turn)
        for message in await self._store.read(lambda c: messages.with_fate(c, Fate.QUEUED)):
            if message.project_id is not None:
                self._fates.changed([message], Fate.QUEUED)
                self._open_window(SessionKey(message.project_id, message.conversation_id), message)

    def _tell_discarded(self, connection: Connection) -> None:
        """A gateway ended between discarding messages and the reply that would have named them."""
        for message in messages.with_fate(connection, Fate.DISCARDED):
            messages.set_fate(connection, [message.id], Fate.DISCARDED)
            told = f"⏹ Discarded before the gateway restarted, and not run: {quote(message.text)}"
            self._outbox.reply(connection, message, told)

    async def close(self) -> None:
        """Forget everything in memory; runs go on in their sleds."""
        self._closing = True
        self._line.close()
        self._runs.close()
        await self._tasks.close()
