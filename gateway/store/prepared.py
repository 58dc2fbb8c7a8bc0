"""Statements that every message runs: compiled once, and handed to SQLite as they are.

SQLAlchemy takes longer to build and pass on such a statement than SQLite to run it.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

_DIALECT = sqlite.dialect(paramstyle="named")


class Prepared:
    """One statement. `given`: the columns that an INSERT or UPDATE gets values for, by their names.

    Rows are as SQLite has them: a boolean is 0 or 1. Every call raises what SQLAlchemy would: OperationalError,
    IntegrityError.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete, *given: str) -> None:
        self._statement = statement
        self._given = given or None

    @cached_property
    def compiled(self) -> tuple[str, Mapping[str, Any], Callable[[tuple[Any, ...]], Any]]:
        """Its text, the values that it says itself, and what makes a row; made when it is first run."""
        compiled = self._statement.compile(dialect=_DIALECT, column_keys=self._given)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        names = [str(name) for name in self._statement.exported_columns.keys()]  # noqa: SIM118 - no dictionary
        made: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
        return str(compiled), constants, made._make

    def all(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """The rows that it returns, by the names of their columns."""
        row = self.compiled[2]
        # All at once: a statement that is not done holds up the commit.
        return [row(found) for found in self._run(connection, values).fetchall()]

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first row of what it returns; None where there is none."""
        found = self._run(connection, values).fetchall()
        return self.compiled[2](found[0]) if found else None

    def scalar(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first column of the first row; None where there is none."""
        found = self._run(connection, values).fetchall()
        return found[0][0] if found else None

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Change something; how many rows."""
        return self._run(connection, values).rowcount

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> sqlite3.Cursor:
        text, constants, _ = self.compiled
        try:
            rows: sqlite3.Cursor = connection.connection.cursor()  # type: ignore[assignment]
            return rows.execute(text, {**constants, **values})
        except sqlite3.Error as error:
            raise DBAPIError.instance(text, None, error, sqlite3.Error) from error
