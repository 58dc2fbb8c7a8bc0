"""Schedules: a message to a project's agent that is due at times.

What is due becomes one message, in the transaction that moves the schedule to its next time; from there on it is a
message like any other, at the word of whoever made the schedule. Times that passed while the gateway was away become
one message, which says so. One alarm waits for the next time of all; nothing polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal

from gateway import clock, kill_points
from gateway.chat import Fate, Message
from gateway.chat.text import inline, quote, shorten
from gateway.clock import Alarm
from gateway.config import SCHEDULE, Access, Person, Role
from gateway.delivery import Fates, Outbox
from gateway.errors import StateError, UserError
from gateway.hive.times import MOST_MISSED, Times, moment, shown
from gateway.store import Connection, Store, messages, outbox, schedules, turns
from gateway.store.conversations import Destination
from gateway.store.messages import StoredMessage
from gateway.store.schedules import Schedule
from gateway.tasks import Tasks, insist
from gateway.turns import Waker

log = logging.getLogger(__name__)

#: Schedules of one project, characters of a text, and failures in a row after which one rests.
MOST, MAX_TEXT, MOST_FAILURES = 50, 10_000, 5
#: Seconds by which a message may be late without being told so.
_LATE_S = 90.0
#: Seconds until what could not be written is tried again.
_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes a schedule, at whose word, for which project, and where what comes of it is read."""

    actor: str
    word: str
    project_id: int
    to: Destination


class Schedules:
    """See the module. `hand_on` takes each message once it is committed; `name_of`: a living project's name."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        access: Access,
        *,
        people: Mapping[str, Person],
        fates: Fates,
        hand_on: Callable[[StoredMessage], None],
        name_of: Callable[[int], str],
        waker: Waker,
    ) -> None:
        self._waker = waker
        self._store = store
        self._outbox = outbox
        self._access = access
        self._people = people
        self._fates = fates
        self._hand_on = hand_on
        self._name_of = name_of
        self._alarm: Alarm | None = None
        self._looking = asyncio.Lock()
        self._tasks = Tasks("a schedule stumbled")

    async def recover(self) -> None:
        """Take up what another process left; call it before messages are handed on, and `begin` after that."""
        for one in await self._store.read(schedules.under_way):
            if one.message_id is not None:
                self._await_fate(one.message_id, one.id)
                self._tasks.start(self._account(one.message_id, one.id))

    async def begin(self) -> None:
        """Send what was due meanwhile, and wait for what is due next."""
        await self._look()

    async def close(self) -> None:
        """Forget everything in memory."""
        if self._alarm is not None:
            self._alarm.cancel()
        await self._tasks.close()

    # --- what people and agents ask for ------------------------------------------------------------------------------

    def zone(self, person: str) -> ZoneInfo:
        """What the clocks of a person show."""
        known = self._people.get(person)
        return ZoneInfo(known.tz) if known is not None and known.tz else local_zone()

    async def once(self, maker: Maker, words: str, text: str) -> str:
        """Make one that is due once; what to tell. Raises UserError."""
        zone = self.zone(maker.word)
        at = await asyncio.to_thread(moment, words, clock.now(), zone)
        number = await self._make(maker, text, times=words, cron="", every_s=0.0, zone=zone.key, quiet=False, due=at)
        return f"Reminder {number}: {shown(at, zone)}. `cancel {number}` takes it back."

    async def recurring(self, maker: Maker, words: str, text: str, *, quiet: bool) -> str:
        """Make one that is due again and again; what to tell. Raises UserError."""
        zone = self.zone(maker.word)
        times, now = Times.of(words, zone.key), clock.now()
        due, _ = times.next(now, now)
        if due is None:
            raise UserError(f"`{words}` is never: no day is like that.")
        values = {"times": words, "cron": times.cron, "every_s": times.every_s, "zone": zone.key}
        number = await self._make(maker, text, **values, quiet=quiet, due=due)
        return f"Schedule {number}: next on {shown(due, zone)}. `cancel {number}` ends it."

    async def find(self, number: int) -> Schedule:
        """The one of that number, of a living project. Raises UserError."""
        found = await self._store.read(lambda c: schedules.by_id(c, number))
        if found is None or not self._name_of(found.project_id):
            raise UserError(f"There is no schedule {number}. Type `schedules` to see them all.")
        return found

    async def of_project(self, project_id: int | None) -> list[Schedule]:
        """Those of a project, or of all: what is due next comes first."""
        found = await self._store.read(lambda c: schedules.of_project(c, project_id))
        return [one for one in found if self._name_of(one.project_id)]

    async def cancel(self, one: Schedule) -> None:
        """End one; what it has sent already goes on."""
        await self._store.write(lambda c: schedules.drop(c, one.id))
        await self._look()

    async def wake(self, one: Schedule) -> str:
        """One that rests, or failed, is tried again now, and goes on; what to tell."""
        now = clock.now()
        due, _ = Times(one.cron, one.every_s, one.zone).next(now, now) if one.recurs else (None, 0)

        def unit(connection: Connection) -> StoredMessage | None:
            values = {"failures": 0, "rests": False, "due": due}
            schedules.change(connection, one.id, **values)
            return self._send(connection, one, now, missed=0)

        self._hand(await self._store.write(unit), one)
        await self._look()
        follows = f", and then again on {shown(due, ZoneInfo(one.zone))}" if due is not None else ""
        return f"Schedule {one.id} is sent now{follows}."

    async def _make(self, maker: Maker, text: str, **values: object) -> int:
        if not text:
            raise UserError("Say what it is about: `remind 2h look at the build`, `every weekdays 8:30 run the tests`.")
        if len(text) > MAX_TEXT:
            raise UserError(f"A schedule's text has at most {MAX_TEXT:,} characters.")

        def unit(connection: Connection) -> int:
            if schedules.count(connection, maker.project_id) >= MOST:
                raise UserError(f"This project has {MOST} schedules. `cancel` one first; `schedules` shows them all.")
            return schedules.add(
                connection,
                project_id=maker.project_id,
                conversation_id=maker.to.id,
                made_by=maker.actor,
                word=maker.word,
                text=text,
                **values,
            )

        number = await self._store.write(unit)
        kill_points.reach("schedule.made")
        await self._look()
        return number

    # --- time --------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Send what is due, and wait for what is due next."""
        async with self._looking:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None
            try:
                for one in await self._store.read(lambda c: schedules.due_by(c, clock.now())):
                    await self._fire(one)
                due = await self._store.read(schedules.next_due)
            except StateError as error:
                log.error("schedules wait for the disk: %s", error)
                due = clock.now() + _AGAIN_S
            if due is not None:
                self._alarm = Alarm(due, lambda: self._tasks.start(self._look()))

    async def _fire(self, one: Schedule) -> None:
        now, was_due = clock.now(), one.due or 0.0
        following, missed = Times(one.cron, one.every_s, one.zone).next(was_due, now) if one.recurs else (None, 0)

        def unit(connection: Connection) -> StoredMessage | None:
            current = schedules.by_id(connection, one.id)
            if current is None or current.due != one.due or current.rests:
                return None  # cancelled, or changed, meanwhile
            if self._access.role(one.word) is Role.NOBODY:
                told = f"{one.word} may no longer use this gateway."
                schedules.change(connection, one.id, due=following, rests=True, last_error=told)
                return None
            schedules.change(connection, one.id, due=following)
            return self._send(connection, one, was_due, missed=missed)

        message = await self._store.write(unit)
        kill_points.reach("schedule.fired")
        self._hand(message, one)

    def _send(self, connection: Connection, one: Schedule, due: float, *, missed: int) -> StoredMessage | None:
        """Within a unit: the message of a time that was due; None if it has been sent."""
        message = Message(
            conversation=one.conversation,
            external_id=f"{SCHEDULE}{one.id}/{due:.3f}{'/quiet' if one.quiet else ''}",
            sender=f"{SCHEDULE}{one.id}",
            sender_name=f"Schedule {one.id}",
            text=one.text,
            direct=one.direct,
            quoted=self._preface(one, due, missed),
            word=one.word,
        )
        stored = messages.add(connection, message, one.conversation_id, one.project_id, direct=one.direct)
        if stored is None:
            return None
        schedules.change(connection, one.id, message_id=stored.id)
        if not one.quiet:
            late = f" ({_told_missed(missed)})" if missed else ""
            self._outbox.add(connection, one.destination, f"⏰ {quote(one.text, 200)}{late}")
        return stored

    def _preface(self, one: Schedule, due: float, missed: int) -> str:
        """What the agent should know, before the text."""
        zone = ZoneInfo(one.zone)
        who = self._people.get(one.word)
        told = [f"Schedule {one.id} of {who.name if who else one.word}, due {shown(due, zone)}."]
        if missed:
            told.append(f"{_told_missed(missed).capitalize()}: this is the one message for all of them.")
        elif clock.now() - due > _LATE_S:
            told.append("The gateway was away then; it is late.")
        if one.quiet:
            told.append("If people need not hear of it, run `huskies quiet`, and your answer is not sent.")
        return f"[{' '.join(told)}]"

    def _hand(self, message: StoredMessage | None, one: Schedule) -> None:
        if message is not None:
            self._await_fate(message.id, one.id)
            self._outbox.wake(one.conversation)
            self._hand_on(message)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def _await_fate(self, message_id: int, number: int) -> None:
        settled = self._fates.settled(message_id)
        settled.add_done_callback(lambda _: self._tasks.start(self._account(message_id, number)))

    async def _account(self, message_id: int, number: int) -> None:
        """Look at what was sent: one that failed too often in a row rests, and people are told."""
        told, woken = await insist(
            lambda: self._store.write(lambda c: self._take_account(c, message_id, number)),
            f"what came of schedule {number}",
        )
        self._waker.hand(woken)
        if told is not None:
            self._outbox.wake(told.conversation)

    def _take_account(
        self, connection: Connection, message_id: int, number: int
    ) -> tuple[Schedule | None, StoredMessage | None]:
        """Within a unit; the schedule, if people are to be told something, and what its lead is told."""
        one, message = schedules.by_id(connection, number), messages.by_id_if_any(connection, message_id)
        if one is None or one.message_id != message_id or (message is not None and not message.fate.final):
            return None, None  # it was cancelled, or has sent more since; or this is not over yet
        reason, error = turns.end_of(connection, None if message is None else message.turn_id)
        if message is None or reason == "stopped" or message.fate in (Fate.ANSWERED, Fate.DISCARDED):
            if one.due is None and not one.rests:
                schedules.drop(connection, one.id)
            else:
                schedules.change(connection, one.id, message_id=None, failures=0, last_error="")
            return None, None
        failures, why = one.failures + 1, _why(connection, message, error)
        rests = failures >= MOST_FAILURES or one.due is None
        schedules.change(connection, one.id, message_id=None, failures=failures, last_error=why, rests=rests)
        if not rests or one.rests:
            return None, None
        self._outbox.add(connection, one.destination, _told_rests(one, failures), notifies=True)
        told = f"{_told_rests(one, failures)} It said: {why}"
        woken = self._waker.wake(connection, one.project_id, f"schedule/{one.id}/{message_id}", told)
        return one, woken


def _told_missed(missed: int) -> str:
    times = f"more than {MOST_MISSED:,}" if missed > MOST_MISSED else str(missed)
    return f"the gateway was away for {times} more time{'s' if missed != 1 else ''}"


def _told_rests(one: Schedule, failures: int) -> str:
    often = f"failed {failures} times in a row and rests" if one.recurs else "failed"
    more = f"`schedules` has its last error, `retry {one.id}` tries again."
    return f"⏰ Schedule {one.id} {often}: {quote(one.text)}. {more}"


def _why(connection: Connection, message: StoredMessage, error: str) -> str:
    """Why a message failed: what its turn says, or else what people were told."""
    told = [error] if error else outbox.texts_for(connection, message.id, message.turn_id)
    return shorten(inline(told[-1]), 300) if told else str(message.fate)


def is_scheduled(message: StoredMessage) -> bool:
    """Whether a schedule sent it."""
    return message.sender.startswith(SCHEDULE)


@cache
def local_zone() -> ZoneInfo:
    """What the clocks of this host show."""
    try:
        return ZoneInfo(tzlocal.get_localzone_name())
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
