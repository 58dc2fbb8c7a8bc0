"""Whether a turn may begin now: what the provider of the model says, its key, and what is left of a project's budget.

The dispatcher asks before each turn, and is told when an answer may have changed. A budget is never just refused: an
operator is asked for more, once for all that waits in the project.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway import clock
from gateway.asking import Questions, Then, cards
from gateway.clock import Alarm
from gateway.events import Events, MayBegin, TurnOver
from gateway.store import Connection, Store, budgets
from gateway.store.questions import Asked
from gateway.store.turns import SessionKey, Turn
from gateway.tasks import Tasks, insist
from sled.protocol import Finished, Option, Query, Question

log = logging.getLogger(__name__)

#: Minutes until a turn is tried again after the provider refused it without saying for how long, ever longer; and
#: seconds after its beginning when it fails instead.
_TRY_AGAIN_MIN = (1, 2, 5, 10, 15, 30)
GIVE_UP_S = 24 * 3600.0
#: The part of a day's budget that an operator is asked to add.
_STEP = 0.4
#: The part of it that is not enough to begin another turn with.
_RESERVE = 0.1
#: The farthest end of a limit that is believed, seconds.
_FARTHEST_S = 40 * 86400.0
#: Seconds until a turn whose key was refused is tried again.
KEY_AGAIN_S = 61.0


@dataclass(frozen=True, slots=True)
class Parking:
    """A turn continues at `until` (seconds since the epoch); `told` is what people read about it."""

    until: float
    told: str


@dataclass(slots=True)
class Admission:
    """See the module. `budget_usd`: per project and day; 0 for none. Use from one event loop."""

    store: Store
    questions: Questions
    budget_usd: float
    events: Events
    #: Until when the provider does not serve a project, seconds since the epoch; and what is wrong with its key.
    limit_of: Callable[[int], float | None] = lambda _: None
    refusal: Callable[[int], str] = lambda _: ""
    #: The budget of a project that has one of its own; 0 for all others.
    own_budget: Callable[[int], float] = lambda _: 0.0
    #: What is awaited when an operator refuses a project more budget; named in `recover`, as the dispatcher, which
    #: does it, needs this object.
    _refused: Callable[[int, str], Awaitable[None]] | None = None
    #: How often an operator said no to more budget, and how many model calls wait for one to answer, by project.
    refusals: Counter[int] = field(default_factory=Counter)
    held_calls: Counter[int] = field(default_factory=Counter)
    _day: str = ""
    _spent: dict[int, float] = field(default_factory=dict)
    _turns: dict[int, int] = field(default_factory=dict)
    _granted: dict[int, float] = field(default_factory=dict)
    _asking: dict[int, Asked | None] = field(default_factory=dict)
    _alarm: Alarm | None = None
    _midnight: Alarm | None = None
    _tasks: Tasks = field(default_factory=lambda: Tasks("a budget's question was not asked"))

    async def recover(self, refused: Callable[[int, str], Awaitable[None]]) -> None:
        """Read what was spent and allowed today. `refused` is awaited when an operator says no."""
        self._refused = refused
        self._day = _today()
        read = await self.store.read(lambda c: budgets.of_day(c, self._day, _midnight()))
        self._spent, self._turns, self._granted = read

    async def close(self) -> None:
        """Forget everything in memory."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._midnight is not None:
            self._midnight.cancel()
        await self._tasks.close()

    def holds(self, key: SessionKey, *, ask: bool = True) -> str:
        """Why no turn of that session may begin now; empty when one may. `ask`: an operator, for more budget."""
        if (until := self.limited_until(key.project_id)) > clock.now():
            return f"The provider's limit is reached. Continuing {shown(until)}."
        if refusal := self.refusal(key.project_id):
            self._look_again(clock.now() + KEY_AGAIN_S)
            return _sentence(refusal)
        if not self._within_budget(key.project_id):
            if ask:
                self.ask(key)
            return "Today's budget is used up; an operator has been asked."
        return ""

    # --- the provider ------------------------------------------------------------------------------------------------

    def limited_until(self, project_id: int) -> float:
        """When the provider serves a project again, seconds since the epoch; 0, or past: it does.

        Whoever asks is told when that has come.
        """
        until = self.limit_of(project_id) or 0.0
        if until > clock.now():
            self._look_again(until + 0.1)
        return until

    def limit(self, until: float) -> None:
        """The provider does not serve this account, or one of several, before `until`, seconds since the epoch."""
        self._look_again(until + 0.1)

    def resume_at(self, turn: Turn, end: Finished) -> Parking | None:
        """When a turn that its provider stopped continues; None: it does not."""
        project_id = turn.key.project_id
        if end.reason == "model_key":
            told = _sentence(self.refusal(project_id) or "the model key was refused")
            return Parking(clock.now() + KEY_AGAIN_S, f"{told} I'll continue once it works. Type `stop` to cancel.")
        if end.reason != "limit":
            return None
        resets_at = end.resets_at if end.resets_at < clock.now() + _FARTHEST_S else 0.0
        until = max(resets_at, self.limited_until(project_id))
        if resets_at > clock.now():
            self.limit(resets_at)
        if until <= clock.now():
            if clock.now() > turn.started_at + GIVE_UP_S:
                return None
            until = clock.now() + 60.0 * _TRY_AGAIN_MIN[min(turn.parks, len(_TRY_AGAIN_MIN) - 1)]
        return Parking(until, f"The provider's limit is reached. I'll continue {shown(until)}. Type `stop` to cancel.")

    def _look_again(self, at: float) -> None:
        """See to it that what is held is looked at again, at `at` at the latest."""
        if self._alarm is not None and self._alarm.waits and self._alarm.stamp <= at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = Alarm(at, lambda: self.events.tell(MayBegin()))

    # --- budgets -----------------------------------------------------------------------------------------------------

    def spent(self, project_id: int, usd: float) -> None:
        """A turn has ended, and has cost this beyond what its calls were counted as."""
        self._turn_of_day()
        self._spent[project_id] = self._spent.get(project_id, 0.0) + usd
        self._turns[project_id] = self._turns.get(project_id, 0) + 1
        self.events.tell(TurnOver(project_id))

    def metered(self, project_id: int, usd: float) -> None:
        """A model call has cost this, by the gateway's own account."""
        self._turn_of_day()
        self._spent[project_id] = self._spent.get(project_id, 0.0) + usd

    def ask(self, key: SessionKey) -> None:
        """Ask an operator for more budget, unless one is asked already."""
        if key.project_id not in self._asking:
            self._asking[key.project_id] = None
            self._tasks.start(self._ask(key))

    def is_used_up(self, project_id: int) -> bool:
        """Whether a project has spent today all that it may."""
        spent, most = self.left(project_id)
        return self.budget(project_id) > 0 and most <= spent

    def budget(self, project_id: int) -> float:
        """What a project may spend in a day, USD, before anybody allows more; 0: as much as it likes."""
        return self.own_budget(project_id) or self.budget_usd

    def left(self, project_id: int) -> tuple[float, float]:
        """What a project has spent today, and what it may spend, USD."""
        self._turn_of_day()
        return self._spent.get(project_id, 0.0), self.budget(project_id) + self._granted.get(project_id, 0.0)

    def forget(self, project_id: int) -> None:
        """A project is deleted; another one may get its number."""
        for known in (self._spent, self._turns, self._granted, self._asking, self.refusals):
            known.pop(project_id, None)

    def _within_budget(self, project_id: int) -> bool:
        """What is left must be worth beginning a turn with: one like those of today, or a tenth of the budget."""
        if self.budget(project_id) <= 0:
            return True
        spent, most = self.left(project_id)
        typical = spent / self._turns[project_id] if self._turns.get(project_id) else 0.0
        return spent < most - min(typical, self.budget(project_id) * _RESERVE)

    def _turn_of_day(self) -> None:
        if (today := _today()) != self._day:
            self._day = today
            self._spent, self._turns, self._granted = {}, {}, {}

    async def _ask(self, key: SessionKey) -> None:
        spent, most = self.left(key.project_id)
        step = round(self.budget(key.project_id) * _STEP, 2)
        query = Query(
            text=f"{spent:.2f} of {most:.2f} USD used today. Continue with +{step:g}?",
            options=[Option(label=f"Yes, +{step:g} USD"), Option(label="No")],
        )
        question = Question(id=f"budget-{self._day}-{time.time_ns()}", kind="query", queries=[query])
        deadline = _midnight(1)
        then = self._then(key.project_id)
        self._asking[key.project_id] = await insist(
            lambda: self.questions.ask_operator(*key, question, deadline, then), "a budget's question"
        )
        if self._midnight is not None:
            self._midnight.cancel()
        # At midnight everybody has a new budget.
        self._midnight = Alarm(deadline + 1, lambda: self.events.tell(MayBegin()))

    def taken_up(self, asked: Asked) -> Then:
        """A question of an earlier process is still open; what hears of its outcome."""
        self._asking[asked.project_id] = asked
        return self._then(asked.project_id)

    def _then(self, project_id: int) -> Then:
        def within(connection: Connection, asked: Asked) -> None:
            if (usd := self._allowed(asked)) > 0:
                budgets.grant(connection, project_id, _today(), usd, asked.answered_by)

        async def after(asked: Asked) -> None:
            self._asking.pop(project_id, None)
            if (usd := self._allowed(asked)) > 0:
                self._turn_of_day()
                self._granted[project_id] = self._granted.get(project_id, 0.0) + usd
            elif asked.outcome == "answered" and (refused := self._refused) is not None:
                self.refusals[project_id] += 1
                await insist(lambda: refused(project_id, "Today's budget is used up."), "what a budget refuses")
            self.events.tell(MayBegin())

        return Then(after, within)

    def _allowed(self, asked: Asked) -> float:
        """How much more an answer allows, USD: an option, or a number in somebody's own words."""
        if asked.outcome != "answered" or not asked.answers or not asked.answers[0]:
            return 0.0
        said = asked.answers[0][0].strip()
        if (number := cards.AMOUNT.fullmatch(said)) is not None:
            return float(number[1])
        return round(self.budget(asked.project_id) * _STEP, 2) if cards.consent(said) else 0.0


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def shown(at: float) -> str:
    """A point in time for people, in the gateway's time zone: `at 14:05`, or with its day."""
    then, now = datetime.datetime.fromtimestamp(at), datetime.datetime.fromtimestamp(clock.now())
    return f"at {then:%H:%M}" if then.date() == now.date() else f"on {then:%a %d %b at %H:%M}"


def _today() -> str:
    return datetime.date.fromtimestamp(clock.now()).isoformat()


def _midnight(days: int = 0) -> float:
    """When today began, or the day that many days later, seconds since the epoch; not all days have 24 hours."""
    day = datetime.date.fromtimestamp(clock.now()) + datetime.timedelta(days=days)
    return datetime.datetime.combine(day, datetime.time()).timestamp()
