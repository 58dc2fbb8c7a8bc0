"""SQL that SQLite and PostgreSQL say in different words."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Index, Integer, String, cast, func
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.dialects.sqlite.dml import OnConflictDoNothing, OnConflictDoUpdate
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.functions import GenericFunction, ReturnTypeFromArgs

__all__ = ["any_of", "greatest", "joined", "partial_index", "upsert"]


class greatest(ReturnTypeFromArgs[Any]):
    """The largest of several values of one row."""

    inherit_cache = True


@compiles(greatest, "sqlite")
def _max(element: greatest, compiler: Any, **options: Any) -> str:
    return f"max{compiler.process(element.clause_expr, **options)}"


class joined(GenericFunction[str]):
    """A column of all rows of a group, as text with commas between."""

    type = String()
    inherit_cache = True


@compiles(joined, "sqlite")
def _group_concat(element: joined, compiler: Any, **options: Any) -> str:
    return f"group_concat{compiler.process(element.clause_expr, **options)}"


@compiles(joined, "postgresql")
def _string_agg(element: joined, compiler: Any, **options: Any) -> str:
    return f"string_agg({compiler.process(element.clauses, **options)}::text, ',')"


def any_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """1 if a condition holds for any row of a group, else 0."""
    return func.max(cast(condition, Integer))


def partial_index(name: str, *columns: str, where: TextClause, unique: bool = False) -> Index:
    """An index of the rows for which a condition holds."""
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


# An INSERT with ON CONFLICT is of one dialect or the other; these two are the same in both, but for what PostgreSQL's
# compiler looks for in its own.
@compiles(OnConflictDoNothing, "postgresql")
def _do_nothing(element: Any, compiler: Any, **options: Any) -> str:
    element.constraint_target = None
    return str(compiler.visit_on_conflict_do_nothing(element, **options))


@compiles(OnConflictDoUpdate, "postgresql")
def _do_update(element: Any, compiler: Any, **options: Any) -> str:
    element.constraint_target = None
    return str(compiler.visit_on_conflict_do_update(element, **options))
