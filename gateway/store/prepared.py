"""Statements that every message runs: compiled once, and handed to SQLite as they are.

SQLAlchemy takes longer to build and pass on such a statement than SQLite to run it.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError


class Prepared:
    """One statement. `given`: the columns that an INSERT or UPDATE gets values for, by their names.

    Rows are as SQLite has them: a boolean is 0 or 1. Every call raises what SQLAlchemy would: OperationalError,
    IntegrityError.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete, *given: str) -> None:
        compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"), column_keys=given or None)
        self._sql = str(compiled)
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        names = [str(name) for name in statement.exported_columns.keys()]  # noqa: SIM118 - no dictionary
        self._row = _row_type(names)

    def all(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """The rows that it returns, by the names of their columns."""
        # All at once: a statement that is not done holds up the commit.
        return [self._row(row) for row in self._run(connection, values).fetchall()]

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first row of what it returns; None where there is none."""
        found = self._run(connection, values).fetchall()
        return self._row(found[0]) if found else None

    def scalar(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first column of the first row; None where there is none."""
        found = self._run(connection, values).fetchall()
        return found[0][0] if found else None

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Change something; how many rows."""
        return self._run(connection, values).rowcount

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> sqlite3.Cursor:
        try:
            rows: sqlite3.Cursor = connection.connection.cursor()  # type: ignore[assignment]
            return rows.execute(self._sql, {**self._constants, **values})
        except sqlite3.Error as error:
            raise DBAPIError.instance(self._sql, None, error, sqlite3.Error) from error


def _row_type(names: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    """What makes a row of values something with these names."""
    made: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
    return made._make
