"""The database: one writer thread, group commit, and reads beside it.

Every write is a *unit*: a function that gets a connection. Units run in the order in which they were handed in; those
that wait together share one transaction, each in its own savepoint, so a failing unit takes nothing with it. A write's
future resolves after COMMIT, never before: what it returns is on disk.

What the database refuses (a full disk, a lock, a lost connection) is a StateError for whoever handed in the units of
that transaction, and the writer goes on with the next one. A commit whose outcome nobody knows is settled before
anything else is written. A file that is damaged is written to no more: what is left of it is to be saved. Should the
writer itself end, nothing can be written either: every write is refused at once, and `ended` is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DataError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
    SQLAlchemyError,
)

from gateway.errors import StateError
from gateway.store import audit
from gateway.store.backend import Backend, OutcomeUnknown, Writer, cause, driver
from gateway.store.seal import Seal

log = logging.getLogger(__name__)

T = TypeVar("T")
Unit = Callable[[Connection], T]
#: Units of one transaction; bounds how long the first of them waits for the last.
_GROUP = 256
#: Seconds that units which nobody waits for are held for others to share their commit with.
#: Seconds within which the audit's head is noted outside of the database, however much there is to write.
_NOTED_WITHIN_S = 1.0
_COMPANY_S = 0.05
#: Threads that read: one slow look at a long history holds up no other.
_READERS = 4
#: Seconds between two looks at what became of a commit, and for which a store that closes still looks.
_SETTLE_EVERY_S, _SETTLE_AT_END_S = 0.5, 5.0
#: Of what a driver raises, what is the unit's own fault. All else is the disk's, the lock's or the file's.
_OF_THE_UNIT = (DataError, IntegrityError, InterfaceError, NotSupportedError, ProgrammingError)

_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A unit that was handed in. Somebody waits for an `urgent` one."""

    unit: Unit[Any]
    future: asyncio.Future[Any]
    urgent: bool


class Store:
    """The gateway's state. Use from one event loop; `open` before, `close` after."""

    def __init__(self, backend: Backend, writer: Writer, seal: Seal | None = None) -> None:
        self._backend = backend
        self._seal = seal
        self._book = audit.Book(b"" if seal is None else seal.key())
        #: The newest row of the audit, until it is noted outside of the database; and when one was last.
        self._unnoted: audit.Head | None = None
        self._noted_at = 0.0
        self._refusals: tuple[type[Exception], ...] = (StateError, *backend.errors)
        self._units: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(_READERS, "store-reader")
        self._reading = threading.local()
        self._closed = False
        #: Why the last transaction failed; empty while writes succeed.
        self.problem = ""
        #: That the file is damaged, and what to do; empty while it is not known to be.
        self.damaged = ""
        #: Set when nothing will be written any more, though nobody closed the store: a defect.
        self.ended = asyncio.Event()
        #: Transactions and units committed, for metrics and the group commit's test.
        self.commits = 0
        self.units = 0
        #: Transactions that the database refused.
        self.refusals = 0
        self._writer = threading.Thread(target=self._write_forever, args=[writer], name="store-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, where: Path | str, seal: Seal | None = None) -> Store:
        """Open or make the database at `where`, migrated: a file of SQLite's, or an address of PostgreSQL's.

        `seal`: what the audit keeps outside of it; without one, nothing of it is noted there.

        Raises:
            StateTooNew: a newer version wrote it; it is left as it is.
            StateError: it cannot be used; the text says what to do.
        """
        backend = await asyncio.to_thread(backend_of, where)
        return cls(backend, await asyncio.to_thread(backend.open), seal)

    @property
    def kind(self) -> str:
        """What it is, and where, for people."""
        return self._backend.name

    @property
    def advice(self) -> str:
        """What to do while it refuses writes."""
        return self._backend.advice

    def write(self, unit: Unit[T], *, urgent: bool = True) -> asyncio.Future[T]:
        """Hand in a unit; the future has its result once that is durable.

        Handing in is synchronous: of two calls, the first one's unit runs first. One that is not `urgent` waits for the
        next that is, for 50 ms at most, and shares its commit.

        Raises (through the future):
            StateError: the transaction failed (disk full, locked), or the store is closed; nothing of the unit was
                kept.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed or self.damaged:
            why = self.damaged or self.problem or "the database is closed; nothing was stored"
            future.set_exception(StateError(why))
        else:
            self._units.put(_Waiting(unit, future, urgent))
        return future

    def probe(self) -> asyncio.Future[None]:
        """A write that changes nothing but takes room on the disk, as every message does. Raises StateError."""
        return self.write(self._backend.probe)

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads; it sees everything committed."""
        return await self._loop.run_in_executor(self._readers, self._read, unit)

    async def close(self) -> None:
        """Finish the writes handed in so far."""
        self._closed = True
        self._units.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._backend.close()

    def _read(self, unit: Unit[T]) -> T:
        try:
            try:
                return self._look(unit)
            except self._backend.errors:
                if getattr(self._reading, "connection", None) is not None:
                    raise
            return self._look(unit)  # the connection was lost, perhaps long ago: a look does no harm twice
        except self._backend.errors as error:
            if isinstance(error, _OF_THE_UNIT):
                raise
            raise StateError(self._told(error) or f"the database cannot be read: {cause(error)}") from error

    def _look(self, unit: Unit[T]) -> T:
        """Run a unit on this thread's connection, as the database is now; a connection that is lost is forgotten."""
        connection: Connection | None = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._reading.connection = self._backend.reader()
        try:
            self._backend.begin_reading(connection)
            return unit(connection)
        finally:
            with contextlib.suppress(SQLAlchemyError, *self._backend.errors):
                driver(connection).rollback()
                connection.rollback()
            if self._backend.is_lost(connection):
                self._reading.connection = None
                connection.invalidate()
                connection.close()

    def _told(self, error: Exception) -> str:
        """What to say if this shows that the database is damaged; else empty."""
        if not self.damaged and (told := self._backend.damage(error)):
            self.damaged = told
            log.critical("%s", told)
        return self.damaged

    def _write_forever(self, writer: Writer) -> None:
        group: list[_Waiting] = []
        try:
            with contextlib.closing(writer):
                while (first := self._first()) is not None:
                    group = [first]
                    closing = self._gather(group)
                    self._commit(writer, group)
                    group = []
                    if closing:
                        break
                self._note()
        except BaseException as error:
            log.critical("the database's writer ended", exc_info=error)
            self._loop.call_soon_threadsafe(self._abandon, f"the database's writer ended ({error!r})", group)

    def _first(self) -> _Waiting | None:
        """The next unit. Whoever waits for the last ones has heard: the audit's head is noted behind their backs."""
        if self._units.empty() or time.monotonic() - self._noted_at > _NOTED_WITHIN_S:
            self._note()
        return self._units.get()

    def _note(self) -> None:
        if self._seal is not None and self._unnoted is not None:
            self._seal.note(self._unnoted)
            self._noted_at = time.monotonic()
        self._unnoted = None

    def _gather(self, group: list[_Waiting]) -> bool:
        """Add to the group what waits; True when the store is being closed."""
        until, urgent = time.monotonic() + _COMPANY_S, group[0].urgent
        while len(group) < _GROUP:
            try:
                more = self._units.get(timeout=0.0 if urgent else max(0.0, until - time.monotonic()))
            except queue.Empty:
                return False
            if more is None:
                return True
            group.append(more)
            urgent |= more.urgent
        return False

    def _abandon(self, why: str, group: list[_Waiting]) -> None:
        """Nothing will be written any more: whoever waits for that is told, and so is everybody after them."""
        self._closed = True
        self.problem = why
        while not self._units.empty():
            group += [waiting] if (waiting := self._units.get()) is not None else []
        _resolve([(each.future, None, StateError(why)) for each in group if not each.future.done()])
        self.ended.set()

    def _commit(self, writer: Writer, group: list[_Waiting]) -> None:
        outcomes: list[_Outcome] = []
        try:
            try:
                self._run(writer, group, outcomes)
            except OutcomeUnknown as error:
                self._settle(writer, error)
            self._unnoted = self._book.head or self._unnoted
            self.commits += 1
            self.units += len(group)
            self.problem = ""
        except self._refusals as error:
            self.problem = str(cause(error))
            self.refusals += 1
            log.error("the database refuses writes: %s", self.problem)
            writer.roll_back()
            failure = StateError(self._told(error) or f"the database refuses writes: {self.problem}")
            outcomes = [(each.future, None, failure) for each in group]
        self._loop.call_soon_threadsafe(_resolve, outcomes)

    def _run(self, writer: Writer, group: list[_Waiting], outcomes: list[_Outcome]) -> None:
        """One transaction; what came of each unit."""
        connection = writer.begin()
        connection.info[audit.BOOK] = self._book
        self._book.head = None
        first, *others = group
        result, error = self._attempt(connection, first.unit)
        outcomes.append((first.future, result, error))
        if error is not None:  # the first needs no savepoint: so far the transaction is all its own
            writer.say("ROLLBACK")
            self._book.head = None
            if others:
                connection = writer.begin()
                connection.info[audit.BOOK] = self._book
        for each in others:
            writer.say("SAVEPOINT unit")
            before = self._book.head
            result, error = self._attempt(connection, each.unit)
            outcomes.append((each.future, result, error))
            if error is not None:
                writer.say("ROLLBACK TO unit")
                self._book.head = before
            writer.say("RELEASE unit")
        if others or error is None:
            writer.commit()

    def _attempt(self, connection: Connection, unit: Unit[T]) -> tuple[T | None, BaseException | None]:
        try:
            return unit(connection), None
        except _OF_THE_UNIT as error:
            return None, error
        except self._backend.errors:
            raise  # not the unit's fault: the whole transaction is lost
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the unit's own, and goes to its caller
            return None, error

    def _settle(self, writer: Writer, error: OutcomeUnknown) -> None:
        """Find out what became of a commit, however long that takes; meanwhile all other writes are refused.

        Raises StateError: nothing was kept, or the store closes before anybody can say.
        """
        self.problem = f"the connection was lost during a commit ({error}); finding out what became of it"
        log.error("%s", self.problem)
        closing_since: float | None = None
        while True:
            try:
                if writer.committed():
                    return
                raise StateError(f"the connection was lost during a commit, and nothing of it was kept ({error})")
            except self._backend.errors as trouble:
                log.warning("it is not known yet what became of a commit: %s", cause(trouble))
            if self._closed:
                closing_since = closing_since or time.monotonic()
                if time.monotonic() > closing_since + _SETTLE_AT_END_S:
                    raise StateError("it is not known whether the last commit was kept")
            self._refuse_others()
            time.sleep(_SETTLE_EVERY_S)

    def _refuse_others(self) -> None:
        """Refuse what waits; the word to close stays."""
        refused: list[_Waiting] = []
        closing = False
        with contextlib.suppress(queue.Empty):
            while True:
                waiting = self._units.get_nowait()
                if waiting is None:
                    closing = True
                else:
                    refused.append(waiting)
        if closing:
            self._units.put(None)
        failure = StateError(f"the database refuses writes: {self.problem}")
        outcomes: list[_Outcome] = [(each.future, None, failure) for each in refused]
        self._loop.call_soon_threadsafe(_resolve, outcomes)


def backend_of(where: Path | str) -> Backend:
    """The database at a place, not opened yet. Raises StateError."""
    if isinstance(where, Path):
        from gateway.store.sqlite import Sqlite

        return Sqlite(where)
    try:
        from gateway.store.postgres import Postgres  # its driver is not everybody's
    except ModuleNotFoundError as error:
        raise StateError(
            f"PostgreSQL needs a package that is missing ({error.name}); type: pip install 'huskies[postgres]'"
        ) from error
    return Postgres(where)


def _resolve(outcomes: list[_Outcome]) -> None:
    for future, result, error in outcomes:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
