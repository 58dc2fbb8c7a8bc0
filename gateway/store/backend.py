"""What the store asks of a kind of database. `sqlite.py` and `postgres.py` answer."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class OutcomeUnknown(Exception):
    """The connection went while a commit was on its way: `Writer.committed` finds out what became of it."""


class Superseded(Exception):
    """Another gateway has written to this database since this one opened it."""


class Unready(Exception):
    """The database cannot be written now; it may be later."""


class Writer(Protocol):
    """The connection that writes. It belongs to one thread."""

    def begin(self) -> Connection:
        """Begin a transaction. Raises what the driver raises; Unready; Superseded, for good."""

    def say(self, word: str) -> None:
        """Say a word of transaction control: SAVEPOINT and the like. Raises what the driver raises."""

    def commit(self) -> None:
        """End the transaction. Raises what the driver raises: nothing of it was kept; OutcomeUnknown."""

    def committed(self) -> bool:
        """Whether the commit whose outcome was unknown took place. Raises as `begin` does while nobody can say."""

    def roll_back(self) -> None:
        """Give up the transaction, if there is one; never raises."""

    def close(self) -> None:
        """Let go of the database."""


class Backend(Protocol):
    """A database, and what is particular about its kind."""

    #: What its driver raises, wrapped by SQLAlchemy or as it is; and Unready.
    errors: tuple[type[Exception], ...]
    #: What it is, for people; without a password.
    name: str
    #: What to do when it refuses writes.
    advice: str

    def open(self) -> Writer:
        """Migrate it, and make this gateway the one that writes. Raises StateError."""

    def reader(self) -> Connection:
        """A connection that reads. Raises what the driver raises."""

    def begin_reading(self, connection: Connection) -> None:
        """Let a connection see the database as it is now, until it rolls back. Raises what the driver raises."""

    def is_lost(self, connection: Connection) -> bool:
        """Whether a connection is good for nothing any more."""

    def probe(self, connection: Connection) -> None:
        """Change nothing, but need room on the disk for it, as every message does. Raises what the driver raises."""

    def damage(self, error: Exception) -> str:
        """What to say and do if an error shows that the database is damaged; else empty."""

    def close(self) -> None:
        """Let go of all connections that read."""


def cause(error: Exception) -> BaseException:
    """What the driver raised."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def driver(connection: Connection) -> Any:
    """The driver's own connection: control words go past SQLAlchemy, which takes longer to pass them on."""
    return connection.connection.dbapi_connection
