"""The database: one writer thread, group commit, and reads beside it.

Every write is a *unit*: a function that gets a connection. Units run in the order in which they were handed in; those
that wait together share one transaction, each in its own savepoint, so a failing unit takes nothing with it. A write's
future resolves after COMMIT, never before: what it returns is on disk.

What the database refuses (a full disk, a lock) is a StateError for whoever handed in the units of that transaction, and
the writer goes on with the next one. A file that is damaged is written to no more: what is left of it is to be saved.
Should the writer itself end, nothing can be written either: every write is refused at once, and `ended` is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, NotSupportedError, ProgrammingError

from gateway.errors import StateError
from gateway.store import schema

log = logging.getLogger(__name__)

T = TypeVar("T")
Unit = Callable[[Connection], T]
#: Units of one transaction; bounds how long the first of them waits for the last.
_GROUP = 256
#: Seconds that units which nobody waits for are held for others to share their commit with.
_COMPANY_S = 0.05
#: Threads that read: one slow look at a long history holds up no other.
_READERS = 4
_BUSY_MS = 5000
#: What SQLite calls a file whose pages, or whose beginning, are not its own.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
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

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
        self._writer = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Open or make the database at `path`, migrated.

        Raises:
            StateTooNew: a newer version wrote it; it is left as it is.
        """
        await asyncio.to_thread(schema.prepare, path)
        return cls(connect(path))

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
        return self.write(lambda c: c.exec_driver_sql("PRAGMA user_version = 0").close())

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads; it sees everything committed."""
        return await self._loop.run_in_executor(self._readers, self._read, unit)

    async def close(self) -> None:
        """Finish the writes handed in so far."""
        self._closed = True
        self._units.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()

    def _read(self, unit: Unit[T]) -> T:
        connection: Connection | None = getattr(self._reading, "connection", None)
        try:
            if connection is None:
                connection = self._reading.connection = self._engine.connect()
            return unit(connection)
        except (DBAPIError, sqlite3.Error) as error:
            if isinstance(error, _OF_THE_UNIT):
                raise
            raise StateError(self._told(error) or f"the database cannot be read: {_cause(error)}") from error
        finally:
            if connection is not None:
                with contextlib.suppress(DBAPIError, sqlite3.Error):
                    connection.rollback()

    def _told(self, error: Exception) -> str:
        """What to say if this shows that the file is damaged; else empty."""
        if (getattr(_cause(error), "sqlite_errorcode", 0) & 0xFF) in _DAMAGE and not self.damaged:
            path = self._engine.url.database
            self.damaged = (
                f"the database is damaged ({_cause(error)}), and nothing is written to it any more. Stop the gateway, "
                f"and put a backup in the place of {path}; or save what is left, with the command-line tool of SQLite: "
                f"`sqlite3 {path} .recover | sqlite3 {path}.new`"
            )
            log.critical("%s", self.damaged)
        return self.damaged

    def _write_forever(self) -> None:
        group: list[_Waiting] = []
        try:
            with self._engine.connect() as connection:
                while (first := self._units.get()) is not None:
                    group = [first]
                    closing = self._gather(group)
                    self._commit(connection, group)
                    group = []
                    if closing:
                        return
        except BaseException as error:
            log.critical("the database's writer ended", exc_info=error)
            self._loop.call_soon_threadsafe(self._abandon, f"the database's writer ended ({error!r})", group)

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

    def _commit(self, connection: Connection, group: list[_Waiting]) -> None:
        outcomes: list[_Outcome] = []
        try:
            _say(connection, "BEGIN IMMEDIATE")
            first, *others = group
            result, error = _attempt(connection, first.unit)
            outcomes.append((first.future, result, error))
            if error is not None:  # the first needs no savepoint: so far the transaction is all its own
                _say(connection, "ROLLBACK")
                if others:
                    _say(connection, "BEGIN IMMEDIATE")
            outcomes += [(each.future, *_in_savepoint(connection, each.unit)) for each in others]
            if error is None or others:
                _say(connection, "COMMIT")
            self.commits += 1
            self.units += len(group)
            self.problem = ""
        except (DBAPIError, sqlite3.Error) as error:
            self.problem = str(_cause(error))
            log.error("the database refuses writes: %s", self.problem)
            _roll_back(connection)
            failure = StateError(self._told(error) or f"the database refuses writes: {self.problem}")
            outcomes = [(each.future, None, failure) for each in group]
        self._loop.call_soon_threadsafe(_resolve, outcomes)


def connect(path: Path) -> Engine:
    """An engine on `path`: WAL, synchronous FULL, foreign keys, explicit transactions."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver's own transactions break SAVEPOINT: we say BEGIN and COMMIT ourselves.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _cause(error: Exception) -> BaseException:
    """What the driver raised."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _say(connection: Connection, word: str) -> None:
    """A word of transaction control, past SQLAlchemy, which would take longer to pass it on than SQLite to obey."""
    driver: Any = connection.connection.dbapi_connection
    driver.execute(word)


def _in_savepoint(connection: Connection, unit: Unit[T]) -> tuple[T | None, BaseException | None]:
    _say(connection, "SAVEPOINT unit")
    result, error = _attempt(connection, unit)
    if error is not None:
        _say(connection, "ROLLBACK TO unit")
    _say(connection, "RELEASE unit")
    return result, error


def _attempt(connection: Connection, unit: Unit[T]) -> tuple[T | None, BaseException | None]:
    try:
        return unit(connection), None
    except _OF_THE_UNIT as error:
        return None, error
    except (DBAPIError, sqlite3.Error):
        raise  # not the unit's fault: the whole transaction is lost
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the unit's own, and goes to its caller
        return None, error


def _roll_back(connection: Connection) -> None:
    try:
        _say(connection, "ROLLBACK")
    except sqlite3.Error:
        log.debug("there was nothing to roll back")  # BEGIN itself had failed


def _resolve(outcomes: list[_Outcome]) -> None:
    for future, result, error in outcomes:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
