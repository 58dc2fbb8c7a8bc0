"""Statements that every message runs: compiled once for each kind of database, and handed to its driver as they are.

SQLAlchemy takes longer to build and pass on such a statement than SQLite to run it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

_SQLITE = sqlite.dialect(paramstyle="named")


class Prepared:
    """One statement. `given`: the columns that an INSERT or UPDATE gets values for, by their names.

    Rows are as the driver has them: SQLite's booleans are 0 or 1. Every call raises what SQLAlchemy would:
    OperationalError, IntegrityError.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete, *given: str) -> None:
        self._statement = statement
        self._given = given or None
        self._texts: dict[str, tuple[str, Mapping[str, Any]]] = {}

    @cached_property
    def row(self) -> Callable[[tuple[Any, ...]], Any]:
        """Makes a row of what a driver returns."""
        names = [str(name) for name in self._statement.exported_columns.keys()]  # noqa: SIM118 - no dictionary
        made: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
        made_of: Callable[[tuple[Any, ...]], Any] = made._make
        return made_of

    def text(self, dialect: Dialect) -> tuple[str, Mapping[str, Any]]:
        """Its text for a kind of database, and the values that it says itself; made when it is first run there."""
        known = self._texts.get(dialect.name)
        if known is None:
            kind = _SQLITE if dialect.name == "sqlite" else dialect
            compiled = self._statement.compile(dialect=kind, column_keys=self._given)
            constants = {name: value for name, value in compiled.params.items() if value is not None}
            known = self._texts[dialect.name] = str(compiled), constants
        return known

    def all(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """The rows that it returns, by the names of their columns."""
        row = self.row
        # All at once: a statement that is not done holds up the commit.
        return [row(found) for found in self._run(connection, values).fetchall()]

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first row of what it returns; None where there is none."""
        found = self._run(connection, values).fetchall()
        return self.row(found[0]) if found else None

    def scalar(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first column of the first row; None where there is none."""
        found = self._run(connection, values).fetchall()
        return found[0][0] if found else None

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Change something; how many rows."""
        return int(self._run(connection, values).rowcount)

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        text, constants = self.text(connection.dialect)
        rows: Any = connection.connection.cursor()
        try:
            rows.execute(text, {**constants, **values})
        except Exception as error:
            driver: Any = connection.dialect.dbapi
            if not isinstance(error, driver.Error):
                raise
            raise DBAPIError.instance(text, None, error, driver.Error) from error
        return rows
