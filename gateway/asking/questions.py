"""What agents ask of people: a card in the conversation, one outcome, one effect.

The sled only waits. How long, and what comes of it, is decided here and stored before it has any effect, so that
neither a restart nor a second answer changes an outcome. A decision is sent again after each hello of the sled until
the turn ends. What people say to a question is understood in `gateway.asking.answers`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from gateway import clock, kill_points
from gateway.asking import cards
from gateway.asking.people import name_of
from gateway.asking.posting import MAX_CARD, Posting
from gateway.asking.waits import Waits
from gateway.chat import Conversation, Fate
from gateway.chat.text import inline, visible
from gateway.clock import Alarm
from gateway.config import Person
from gateway.delivery import Outbox
from gateway.errors import StateError
from gateway.events import Events, QuestionsChanged
from gateway.store import Connection, Store, messages
from gateway.store import questions as rows
from gateway.store.messages import StoredMessage
from gateway.store.questions import Asked, Outcome
from gateway.store.turns import Turn, open_turns
from gateway.tasks import Tasks, insist
from sled.protocol import Decision, Frame, Question, Withdrawn

log = logging.getLogger(__name__)

#: Seconds that people have at least after a restart of the gateway.
AFTER_RESTART_S = 60.0
#: Questions of one turn that may be open at once.
MAX_OPEN = 20
#: Seconds that a question must be open for, in all, for people to be reminded of it at half that time.
REMIND_FROM_S = 120.0
#: Why nobody is asked a question, for the agent.
_UNASKED = {
    "length": f"it is too long to be shown to a person (at most {MAX_CARD} characters); do it in smaller parts",
    "number": f"{MAX_OPEN} questions are already waiting for an answer; ask one after another",
}
_OPERATOR = "An operator"


@dataclass(slots=True)
class _Open:
    """A question that waits."""

    asked: Asked
    who: str
    timer: Alarm | None = None
    reminder: Alarm | None = None
    least_s: float = 0.0  # for which it is open, whatever its time was


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome that a question is to have, and who gave it."""

    outcome: Outcome
    by: str = ""
    told_by: str = ""  # for people
    word: str = ""  # the reason for a denial, or the rule that was allowed
    rule: str = ""
    answers: tuple[tuple[str, ...], ...] = ()
    message: StoredMessage | None = None  # in which it was said


@dataclass(frozen=True, slots=True)
class Permission:
    """What came of asking for one. `why`: what people, or the gateway, said to a no; `by`: who answered; `shown`: the
    arguments that they saw.
    """

    allowed: bool
    why: str = ""
    by: str = ""
    shown: str = ""

    @property
    def told(self) -> str:
        """The no, for an agent."""
        return f"This was not allowed: {self.why}" if self.why else "This was not allowed."


@dataclass(frozen=True, slots=True)
class Then:
    """What the gateway does itself about the outcome of its own question.

    `within` is part of the unit that settles it: what was said yes to is done, or nobody is told. `after` follows that
    unit, and may be lost with the process.
    """

    after: Callable[[Asked], Awaitable[None]]
    within: Callable[[Connection, Asked], None] = lambda _c, _asked: None


@dataclass(slots=True)
class Questions:
    """See the module. Use from one event loop."""

    store: Store
    outbox: Outbox
    #: Hands a frame to a project's sled; False when that is away: its next hello asks again.
    send: Callable[[int, Frame], Awaitable[bool]]
    people: Mapping[str, Person]
    timeout_s: float
    posting: Posting
    events: Events = field(default_factory=Events)
    _open: dict[int, _Open] = field(default_factory=dict)
    _decided: defaultdict[str, dict[str, Decision]] = field(default_factory=lambda: defaultdict(dict))
    #: How long turns wait for people.
    waits: Waits = field(default_factory=Waits)
    _then: dict[int, Then] = field(default_factory=dict)
    _tasks: Tasks = field(default_factory=lambda: Tasks("the outcome of a question reached nobody"))

    # --- a turn asks -------------------------------------------------------------------------------------------------

    async def permission(
        self, turn: Turn, *, tool: str, arguments: str, rule: str, name: str = "", operators_only: bool = False
    ) -> Permission:
        """Ask for something that only the gateway can do, for a turn.

        With a `name`, whoever asks again under it, after a restart too, waits for the same card, or gets its outcome.
        Without one, a question whose asker is cancelled has no effect any more. Raises StateError.
        """
        identity = f"{rows.LASTING}{name}" if name else f"{rows.OWN}{secrets.token_hex(8)}"
        question = Question(id=identity, kind="permission", tool=tool, arguments=arguments, rule=rule)
        answered: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()

        async def then(asked: Asked) -> None:
            if not answered.done():
                answered.set_result(asked)

        if not await self.asked(turn, question, Then(then), operators_only=operators_only):
            before = await self.store.read(lambda c: rows.of_turn(c, turn.id, identity))
            if before is None:
                return Permission(allowed=False, why="the run is over")
            if before.outcome or before.id not in self._open:
                # Settled before, or just now: by the next read it is.
                return self._permission(await self.store.read(lambda c: rows.by_id(c, before.id)))
            self._then[before.id] = Then(then)
        try:
            return self._permission(await answered)
        finally:
            if not name and (not answered.done() or answered.cancelled()):
                await self.withdrawn(turn, Withdrawn(question=question.id))

    def _permission(self, asked: Asked) -> Permission:
        why = (
            asked.answers[0][0] if asked.outcome == "denied" and asked.answers else _UNASKED.get(asked.answered_by, "")
        )
        if asked.outcome == "expired":
            why = self._expired
        elif asked.outcome == "closed":
            why = "the run is over"
        return Permission(asked.outcome == "allowed", why, asked.answered_by, asked.body.arguments)

    async def asked(
        self, turn: Turn, question: Question, then: Then | None = None, *, operators_only: bool = False
    ) -> bool:
        """An agent asks; False if that is not new, or too late. `then` hears of the outcome.

        Raises StateError: nothing was stored, the sled will say it again.
        """
        if then is None and question.id.startswith(rows.OWN):
            log.warning("run %s asks under a name of the gateway's: %s", turn.run, inline(question.id))
            return False
        first = turn.batch[0]
        who = _OPERATOR if operators_only else _requester_or_operator(turn, self.people)
        attached = None
        if self.posting.may_need_file(question, first.conversation):
            ruled = await self.store.read(lambda c: rows.has_rule(c, turn.id, question))
            attached = None if ruled else await self.posting.attachment(question)

        def unit(connection: Connection) -> tuple[Asked | None, bool]:
            asked = rows.ask(
                connection,
                turn_id=turn.id,
                project_id=turn.key.project_id,
                conversation_id=first.room_id or turn.key.conversation_id,
                body=question,
                requester="" if operators_only else turn.requested_by,
                deadline=clock.now() + self.timeout_s,
            )
            if asked is None:
                return None, False
            if rows.has_rule(connection, turn.id, question):
                return rows.settle(connection, asked.id, "allowed", by="rule"), True
            if rows.count_open(connection, turn.id) > MAX_OPEN:
                return rows.settle(connection, asked.id, "denied", by="number"), True
            if not self.posting.post(connection, asked, who, first.reply_to, attached):
                return rows.settle(connection, asked.id, "denied", by="length"), True
            return rows.by_id(connection, asked.id), False

        asked, settled = await self.store.write(unit)
        if asked is None:
            return False
        if then is not None:
            self._then[asked.id] = then
        if settled:
            await self._tell(asked, _UNASKED.get(asked.answered_by, ""))
            return True
        self._wait(asked, who)
        self.outbox.wake(asked.conversation)
        return True

    async def ask_operator(
        self, project_id: int, conversation_id: int, question: Question, deadline: float, then: Then
    ) -> Asked | None:
        """Ask something of the gateway's own, which operators answer; `then` hears of the outcome."""

        def unit(connection: Connection) -> Asked | None:
            asked = rows.ask(
                connection,
                turn_id=None,
                project_id=project_id,
                conversation_id=conversation_id,
                body=question,
                requester="",
                deadline=deadline,
            )
            if asked is not None:
                self.posting.post(connection, asked, _OPERATOR, "")
            return None if asked is None else rows.by_id(connection, asked.id)

        asked = await self.store.write(unit)
        if asked is not None:
            self._then[asked.id] = then
            self._wait(asked, _OPERATOR)
            self.outbox.wake(asked.conversation)
        return asked

    async def withdrawn(self, turn: Turn, withdrawn: Withdrawn) -> None:
        """The agent waits no longer."""
        for waiting in list(self._open.values()):
            if waiting.asked.turn_id == turn.id and waiting.asked.body.id == withdrawn.question:
                await self.settle(waiting.asked, Answer("closed"))

    def close(self, connection: Connection, turn_id: int) -> None:
        """Within the unit that ends a turn: nobody waits for its answers any more."""
        # What the database knows, not memory: this runs beside the event loop, and one may be on its way there.
        for asked in rows.open_of_turn(connection, turn_id):
            rows.settle(connection, asked.id, "closed")
            self.posting.show(connection, asked, cards.outcome(asked, "closed"))

    def closed(self, turn: Turn) -> None:
        """After that unit."""
        for question_id, waiting in list(self._open.items()):
            if waiting.asked.turn_id == turn.id:
                self._drop(question_id)
                if (then := self._then.pop(question_id, None)) is not None:
                    self._tasks.start(_run(then, replace(waiting.asked, outcome="closed")))
        self._decided.pop(turn.run, None)
        self.waits.forget(turn.id)

    async def forget(self, project_id: int) -> None:
        """A project is deleted: what the gateway itself asked about it can no longer be answered."""
        for waiting in list(self._open.values()):
            if waiting.asked.turn_id is None and waiting.asked.project_id == project_id:
                await self.settle(waiting.asked, Answer("closed"))

    # --- what the dispatcher wants to know ---------------------------------------------------------------------------

    def decisions(self, run: str) -> list[Frame]:
        """What a sled that connects may not have heard."""
        return list(self._decided[run].values()) if run in self._decided else []

    # --- people answer ------------------------------------------------------------------------------------------------

    def everything(self) -> list[Asked]:
        """What waits for an answer anywhere, oldest first."""
        return sorted((waiting.asked for waiting in self._open.values()), key=lambda asked: asked.id)

    def open_in(self, conversation_id: int) -> list[Asked]:
        """What waits for an answer in a conversation, oldest first."""
        found = [waiting.asked for waiting in self._open.values() if waiting.asked.conversation_id == conversation_id]
        return sorted(found, key=lambda asked: asked.id)

    def left_s(self, asked: Asked) -> float:
        """Seconds for which it waits for an answer."""
        waiting = self._open.get(asked.id)
        return 0.0 if waiting is None or waiting.timer is None else waiting.timer.left_s

    def cards_in(self, here: Conversation) -> list[Asked]:
        """What waits for an answer in a room, threads and all, and has a card."""
        waiting = (waiting.asked for waiting in self._open.values())
        room = (here.transport, here.room)
        return [a for a in waiting if a.card_id is not None and (a.conversation.transport, a.conversation.room) == room]

    def who(self, asked: Asked) -> str:
        """Who may answer, for people; empty: nobody, it is closed."""
        return self._open[asked.id].who if asked.id in self._open else ""

    def is_past(self, asked: Asked) -> bool:
        """Whether the first of its queries that `asked` has not answered is answered by now."""
        return asked.id in self._open and self._open[asked.id].asked is not asked

    async def next_query(self, asked: Asked, answer: list[str], message: StoredMessage) -> str:
        """Take the answer to one of several queries: the card shows it, and the next one is asked."""
        told = f"❓ {visible(asked.body.queries[len(asked.answers)].text)}\n✅ {visible(', '.join(answer))}"
        waiting = self._open[asked.id]

        def unit(connection: Connection) -> Asked:
            later = rows.add_answer(connection, asked.id, answer, clock.now() + self.timeout_s)
            if not later.outcome:
                self.posting.show(connection, asked, told)
                self.posting.post(connection, later, waiting.who, "")
                messages.set_fate(connection, [message.id], Fate.ANSWERED)  # so it answers nothing else after a crash
            return rows.by_id(connection, asked.id)

        later = await self.store.write(unit)
        if later.outcome:
            return "That question is closed."
        waiting.asked = later
        self._set_timer(waiting)
        self.outbox.wake(asked.conversation)
        return "" if message.conversation_id == asked.conversation_id else "Taken. The next one is asked there."

    async def settle(self, asked: Asked, answer: Answer) -> str:
        """Give a question its one outcome, and tell everybody; what to say to whoever answered."""
        then = self._then.get(asked.id)
        elsewhere = answer.message is not None and answer.message.conversation_id != asked.conversation_id

        def unit(connection: Connection) -> Asked | None:
            reason = ((answer.word,),) if answer.outcome == "denied" and answer.word else ()
            answers = answer.answers or reason
            settled = rows.settle(connection, asked.id, answer.outcome, by=answer.by, answers=answers)
            if settled is None:
                return None
            if then is not None:
                then.within(connection, settled)
            if answer.rule and settled.session_id is not None:
                rows.add_rule(connection, settled.session_id, answer.rule, answer.by, own=settled.own)
            told = cards.outcome(settled, answer.outcome, by=answer.told_by, word=answer.word)
            if answer.message is None or elsewhere or self.outbox.can_edit(asked.conversation):
                self.posting.show(connection, settled, told)
            else:
                self.outbox.reply(connection, answer.message, told)
            if answer.message is not None:  # at once: after a crash it would be a prompt
                messages.set_fate(connection, [answer.message.id], Fate.ANSWERED)
            return settled

        settled = await self.store.write(unit)
        kill_points.reach("question.settled")
        self._drop(asked.id)
        if settled is None:
            return "That question has already been answered."
        self.outbox.wake(asked.conversation)
        why = answer.word if answer.outcome == "denied" else ""
        if answer.outcome == "expired":
            why = self._expired
        await self._tell(settled, why)
        return cards.outcome(settled, answer.outcome, by=answer.told_by, word=answer.word) if elsewhere else ""

    @property
    def _expired(self) -> str:
        return f"nobody answered within {self.timeout_s:.0f} s"

    async def _tell(self, asked: Asked, why: str) -> None:
        """Let whoever waits for it know the outcome."""
        then = self._then.pop(asked.id, None)
        if then is not None:
            await then.after(asked)
        if not asked.run or asked.outcome == "closed":
            return
        decision = _decision(asked, why)
        self._decided[asked.run][asked.body.id] = decision
        await self.send(asked.project_id, decision)

    # --- time --------------------------------------------------------------------------------------------------------

    async def recover(self, then: Callable[[Asked], Then | None]) -> None:
        """Take up what another gateway process asked; `then` says who hears of a question of the gateway's own."""
        at_least = clock.now() + AFTER_RESTART_S

        def unit(connection: Connection) -> tuple[list[Asked], list[Asked], dict[int | None, Turn]]:
            for asked in rows.all_open(connection):
                rows.extend(connection, asked.id, max(asked.deadline, at_least))
            turns: dict[int | None, Turn] = {turn.id: turn for turn in open_turns(connection)}
            return rows.all_open(connection), rows.settled_of_open_turns(connection), turns

        waiting, settled, turns = await self.store.write(unit)
        for asked in waiting:
            if asked.turn_id is not None and not asked.run and not asked.lasting:  # what waited for it ended
                await self.settle(asked, Answer("closed"))
                continue
            if asked.turn_id is None and (hears := then(asked)) is not None:
                self._then[asked.id] = hears
            turn = turns.get(asked.turn_id)
            who = _requester_or_operator(turn if asked.requester else None, self.people)
            self._wait(asked, who, AFTER_RESTART_S)
        for asked in filter(lambda asked: asked.run, settled):
            why = "nobody answered in time" if asked.outcome == "expired" else ""
            if asked.outcome == "denied" and asked.answers:
                why = asked.answers[0][0]
            self._decided[asked.run][asked.body.id] = _decision(asked, why)

    async def shut(self) -> None:
        """Forget everything in memory; deadlines are stored."""
        for waiting in self._open.values():
            for alarm in (waiting.timer, waiting.reminder):
                if alarm is not None:
                    alarm.cancel()
        await self._tasks.close()

    def _wait(self, asked: Asked, who: str, least_s: float = 0.0) -> None:
        waiting = self._open[asked.id] = _Open(asked, who, least_s=least_s)
        self._set_timer(waiting)
        half = asked.asked_at + (asked.deadline - asked.asked_at) / 2
        # After a restart it may have been said; and nobody is reminded of what they were asked a minute ago.
        if asked.deadline - asked.asked_at >= REMIND_FROM_S and half > clock.now():
            waiting.reminder = Alarm(half, lambda: self._tasks.start(self._remind(waiting)))
        if asked.turn_id is not None:
            self.waits.begin(asked.turn_id, asked.asked_at)
        self.events.tell(QuestionsChanged())

    def _set_timer(self, waiting: _Open) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
        asked = waiting.asked
        # What a turn asks lasts so many seconds, whatever its stamps say: they may be of a clock that was hours ahead
        # when it was asked, or taken up. The gateway's own lasts until some hour, as a budget does.
        most_s = math.inf if asked.turn_id is None else max(self.timeout_s, waiting.least_s)
        waiting.timer = Alarm(asked.deadline, lambda: self._expire(waiting), most_s=most_s)

    async def _remind(self, waiting: _Open) -> None:
        asked = waiting.asked
        try:
            if asked.id in self._open:
                left_s = self.left_s(asked)
                await self.store.write(lambda c: self.posting.remind(c, asked, left_s))
                self.outbox.wake(asked.conversation)
        except StateError as error:  # then nobody is reminded
            log.error("a reminder: %s", error)

    def _expire(self, waiting: _Open) -> None:
        self._tasks.start(self._settle_in_the_end(waiting))

    async def _settle_in_the_end(self, waiting: _Open) -> None:
        async def settle() -> None:
            if waiting.asked.id in self._open:
                await self.settle(waiting.asked, Answer("expired"))

        await insist(settle, "the end of a question")

    def _drop(self, question_id: int) -> None:
        waiting = self._open.pop(question_id, None)
        if waiting is None:
            return
        for alarm in (waiting.timer, waiting.reminder):
            if alarm is not None:
                alarm.cancel()
        if waiting.asked.turn_id is not None:
            self.waits.end(waiting.asked.turn_id)
        self.events.tell(QuestionsChanged())

    # --- small parts -------------------------------------------------------------------------------------------------


async def _run(then: Then, asked: Asked) -> None:
    await then.after(asked)


def _requester_or_operator(turn: Turn | None, people: Mapping[str, Person]) -> str:
    if turn is None:
        return _OPERATOR
    return f"{name_of(turn.batch[0], people)} or an operator"


def _decision(asked: Asked, why: str) -> Decision:
    return Decision(
        run=asked.run,
        question=asked.body.id,
        allow=asked.outcome in ("allowed", "answered"),
        text=why,
        answers=cards.told_of(asked.answers),
    )
