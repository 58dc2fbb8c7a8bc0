"""Statements that every message runs: compiled once, and handed to SQLite as they are.

SQLAlchemy takes longer to pass such a statement on than SQLite to run it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement


class Prepared:
    """One statement. `given`: the columns that an INSERT gets values for."""

    def __init__(self, statement: ClauseElement, *given: str) -> None:
        self._sql = str(statement.compile(dialect=sqlite.dialect(paramstyle="named"), column_keys=given or None))

    def first(self, connection: Connection, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row of what it returns, as SQLite has it: a boolean is 0 or 1. None where there is none.

        Raises what SQLAlchemy would: OperationalError, IntegrityError.
        """
        try:
            rows = connection.connection.cursor()
            rows.execute(self._sql, values)
            found = rows.fetchall()  # all of them: a statement that is not done holds up the commit
        except sqlite3.Error as error:
            raise DBAPIError.instance(self._sql, None, error, sqlite3.Error) from error
        return found[0] if found else None
