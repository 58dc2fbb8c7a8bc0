"""The database: one writer thread, group commit, and reads beside it.

Every write is a *unit*: a function that gets a connection. Units run in the order in which they were handed in; those
that wait together share one transaction, each in its own savepoint, so a failing unit takes nothing with it. A write's
future resolves after COMMIT, never before: what it returns is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from gateway.errors import StateError
from gateway.store import schema

log = logging.getLogger(__name__)

T = TypeVar("T")
Unit = Callable[[Connection], T]
#: Units of one transaction; bounds how long the first of them waits for the last.
_GROUP = 256
_BUSY_MS = 5000


class Store:
    """The gateway's state. Use from one event loop; `open` before, `close` after."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._units: queue.SimpleQueue[tuple[Unit[Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._reading: Connection | None = None
        self._closed = False
        #: Why the last transaction failed; empty while writes succeed.
        self.problem = ""
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

    def write(self, unit: Unit[T]) -> asyncio.Future[T]:
        """Hand in a unit; the future has its result once that is durable.

        Handing in is synchronous: of two calls, the first one's unit runs first.

        Raises (through the future):
            StateError: the transaction failed (disk full, locked), or the store is closed; nothing of the unit was
                kept.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(StateError("The database is closed; nothing was stored."))
        else:
            self._units.put((unit, future))
        return future

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads; it sees everything committed."""
        return await self._loop.run_in_executor(self._reader, self._read, unit)

    async def close(self) -> None:
        """Finish the writes handed in so far."""
        self._closed = True
        self._units.put(None)
        await asyncio.to_thread(self._writer.join)
        await self._loop.run_in_executor(self._reader, self._close_reader)
        self._reader.shutdown()
        self._engine.dispose()

    def _read(self, unit: Unit[T]) -> T:
        if self._reading is None:
            self._reading = self._engine.connect()
        try:
            return unit(self._reading)
        except OperationalError as error:
            raise StateError(f"the database cannot be read: {error.orig}") from error
        finally:
            self._reading.rollback()

    def _close_reader(self) -> None:
        if self._reading is not None:
            self._reading.close()

    def _write_forever(self) -> None:
        with self._engine.connect() as connection:
            while (first := self._units.get()) is not None:
                group = [first]
                closing = False
                while len(group) < _GROUP and not self._units.empty():
                    more = self._units.get()
                    if more is None:
                        closing = True
                        break
                    group.append(more)
                self._commit(connection, group)
                if closing:
                    return

    def _commit(self, connection: Connection, group: list[tuple[Unit[Any], asyncio.Future[Any]]]) -> None:
        outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            _say(connection, "BEGIN IMMEDIATE")
            if len(group) == 1:  # the common case needs no savepoint: the transaction is the unit
                ((unit, future),) = group
                result, error = _attempt(connection, unit)
                outcomes.append((future, result, error))
                _say(connection, "COMMIT" if error is None else "ROLLBACK")
            else:
                outcomes += [(future, *_in_savepoint(connection, unit)) for unit, future in group]
                _say(connection, "COMMIT")
            self.commits += 1
            self.units += len(group)
            self.problem = ""
        except OperationalError as error:
            self.problem = str(error.orig)
            log.error("the database refuses writes: %s", self.problem)
            _roll_back(connection)
            failure = StateError(f"the database refuses writes: {self.problem}")
            outcomes = [(future, None, failure) for _, future in group]
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


def _say(connection: Connection, word: str) -> None:
    """A word of transaction control, past SQLAlchemy, which would take longer to pass it on than SQLite to obey."""
    try:
        connection.connection.cursor().execute(word)
    except sqlite3.OperationalError as error:
        raise OperationalError(word, None, error) from error


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
    except OperationalError:
        raise  # the disk or the lock, not the unit: the whole transaction is lost
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the unit's own, and goes to its caller
        return None, error


def _roll_back(connection: Connection) -> None:
    try:
        _say(connection, "ROLLBACK")
    except OperationalError:
        log.debug("there was nothing to roll back")  # BEGIN itself had failed


def _resolve(outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, result, error in outcomes:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
