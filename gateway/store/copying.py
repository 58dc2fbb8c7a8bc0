"""A state from one database to the other: every row, compared afterwards, and the source stays as it was.

While a copy is under way its target has a mark, and no gateway opens it. One that was cut off goes on behind the last
row that is there; if anything then differs, as the source has changed since, everything is copied once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Column, Engine, Integer, Table, delete, func, insert, select, text

from gateway.errors import StateError
from gateway.store.tables import gateways, metadata

#: The table that marks a target.
MARK = "unfinished_copy"
_BATCH = 1000
#: Whose epoch counts is the target's own affair.
TABLES = [table for table in metadata.sorted_tables if table is not gateways]


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that is the same in both now."""

    table: str
    rows: int
    digest: str


def check_finished(engine: Engine) -> None:
    """Raises StateError for the target of a copy that was cut off."""
    if _is_marked(engine):
        raise StateError("a copy into this database was cut off; to go on with it, type: huskies migrate")


def _is_marked(engine: Engine) -> bool:
    sqlite = f"SELECT 1 FROM sqlite_master WHERE name = '{MARK}'"
    query = sqlite if engine.dialect.name == "sqlite" else f"SELECT to_regclass('{MARK}')"
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).scalar() is not None


def copy(source: Engine, target: Engine, said: Callable[[str], None], *, instead: str) -> list[Copied]:
    """Copy everything. Both have this version's schema, and nobody else writes.

    `instead`: what to do about a target that has a state of its own. Raises StateError for that, and where what was
    copied is not what is there.
    """
    began = _is_marked(target)
    if not began:
        taken = [table.name for table in TABLES if _count(target, table)]
        if taken:
            raise StateError(f"what is to be filled has a state already (in {', '.join(taken)}); {instead}")
        with target.begin() as connection:
            connection.execute(text(f"CREATE TABLE {MARK} (id INTEGER)"))
    _fill(source, target, said)
    found = _compared(source, target)
    if began and isinstance(found, str):
        said(f"{found} has changed since the copy was cut off; copying everything again")
        with target.begin() as connection:
            for table in reversed(TABLES):
                connection.execute(delete(table))
        _fill(source, target, said)
        found = _compared(source, target)
    if isinstance(found, str):
        raise StateError(f"{found} is not the same in both databases; nothing uses the copy. Is a gateway writing?")
    with target.begin() as connection:
        if target.dialect.name == "postgresql":
            for table in TABLES:
                if _is_numbered(table):
                    highest = f"(SELECT coalesce(max(id), 1) FROM {table.name})"
                    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                    used = f"EXISTS (SELECT 1 FROM {table.name})"
                    connection.execute(text(f"SELECT setval({sequence}, {highest}, {used})"))
        connection.execute(text(f"DROP TABLE {MARK}"))
    return found


def _fill(source: Engine, target: Engine, said: Callable[[str], None]) -> None:
    for table in TABLES:
        last = None
        if _is_numbered(table):
            with target.connect() as connection:
                last = connection.scalar(select(func.max(table.c.id)))
        else:  # a few rows
            with target.begin() as connection:
                connection.execute(delete(table))
        done = 0
        for rows in _batches(source, table, last):
            with target.begin() as connection:
                connection.execute(insert(table), [dict(row) for row in rows])
            done += len(rows)
        said(f"{table.name}: {done} rows")


def _compared(source: Engine, target: Engine) -> list[Copied] | str:
    """What each table has in both; or the name of one that is not the same."""
    found = []
    for table in TABLES:
        (count, digest), theirs = _digest(source, table), _digest(target, table)
        if theirs != (count, digest):
            return table.name
        found.append(Copied(table.name, count, digest))
    return found


def _digest(engine: Engine, table: Table) -> tuple[int, str]:
    """How many rows a table has, and a hash over all of them, in an order that is the same everywhere."""
    digest, count = blake2b(digest_size=16), 0
    for rows in _batches(engine, table, None):
        for row in rows:
            digest.update(json.dumps(list(row.values()), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        count += len(rows)
    return count, digest.hexdigest()


def _batches(engine: Engine, table: Table, after: int | None) -> Iterator[Sequence[dict[str, Any]]]:
    """The rows behind an id, in order. Text is as both databases can hold it: without NUL."""
    key: Column[Any] = next(iter(table.primary_key.columns))
    if not _is_numbered(table):
        with engine.connect() as connection:
            rows = [_row(row) for row in connection.execute(select(table)).mappings()]
        if rows:
            yield sorted(rows, key=lambda row: str(row[key.name]))
        return
    while True:
        query = select(table).order_by(key).limit(_BATCH)
        with engine.connect() as connection:
            found = connection.execute(query if after is None else query.where(key > after)).mappings().all()
        if not found:
            return
        yield [_row(row) for row in found]
        after = found[-1][key.name]


def _row(row: Any) -> dict[str, Any]:
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in row.items()}


def _is_numbered(table: Table) -> bool:
    return isinstance(next(iter(table.primary_key.columns)).type, Integer)


def _count(engine: Engine, table: Table) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0
