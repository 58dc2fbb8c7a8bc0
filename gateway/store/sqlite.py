"""SQLite in the state directory: WAL, synchronous FULL, foreign keys, explicit transactions."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from gateway.store import copying, schema
from gateway.store.backend import cause, driver

log = logging.getLogger(__name__)

_BUSY_MS = 5000
#: What SQLite calls a file whose pages, or whose beginning, are not its own.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Sqlite:
    """Implements `Backend` for a file."""

    errors: tuple[type[Exception], ...] = (DBAPIError, sqlite3.Error)
    name = "SQLite"
    advice = "free some space on its disk"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = connect(path)

    def open(self) -> SqliteWriter:
        schema.prepare(self._path)
        copying.check_finished(self._engine)
        return SqliteWriter(self._engine.connect())

    def reader(self) -> Connection:
        return self._engine.connect()

    def begin_reading(self, connection: Connection) -> None:
        driver(connection).execute("BEGIN")

    def is_lost(self, connection: Connection) -> bool:
        return False

    def probe(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA user_version = 0").close()

    def damage(self, error: Exception) -> str:
        if (getattr(cause(error), "sqlite_errorcode", 0) & 0xFF) not in _DAMAGE:
            return ""
        return (
            f"the database is damaged ({cause(error)}), and nothing is written to it any more. Stop the gateway, "
            f"and put a backup in the place of {self._path}; or save what is left, with the command-line tool of "
            f"SQLite: `sqlite3 {self._path} .recover | sqlite3 {self._path}.new`"
        )

    def close(self) -> None:
        self._engine.dispose()


class SqliteWriter:
    """Implements `Writer`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver = driver(connection)

    def begin(self) -> Connection:
        self.say("BEGIN IMMEDIATE")
        return self._connection

    def say(self, word: str) -> None:
        self._driver.execute(word)

    def commit(self) -> None:
        self.say("COMMIT")

    def committed(self) -> bool:
        raise AssertionError("a file says at once what became of a commit")

    def roll_back(self) -> None:
        try:
            self.say("ROLLBACK")
        except sqlite3.Error:
            log.debug("there was nothing to roll back")  # BEGIN itself had failed

    def close(self) -> None:
        self._connection.close()


def connect(path: Path) -> Engine:
    """An engine on `path`."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver's own transactions break SAVEPOINT: we say BEGIN and COMMIT ourselves.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
