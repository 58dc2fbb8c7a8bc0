"""Where a store of the tests is: a file of its folder, or with `--database postgres` a database of its own."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from tests.support.postgres import Server

#: The server that has them, while tests run on one.
_SERVERS: list[Server] = []


def place(folder: Path) -> Path | str:
    """What `Store.open` takes for the store of a folder."""
    return _SERVERS[-1].of(folder) if _SERVERS else folder / "huskies.db"


def on_a_server() -> bool:
    """Whether each commit is a few round trips, and not a write to a file."""
    return bool(_SERVERS)


def settings(state: Path) -> dict[str, str]:
    """What `[gateway]` says of it for a gateway with this state directory; nothing for a file."""
    return {"database": _SERVERS[-1].of(state)} if _SERVERS else {}


def rows(state: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the database of a gateway with this state directory has; the query's values are `?`."""
    if _SERVERS:
        name = _SERVERS[-1].of(state).rpartition("/")[2]
        return _SERVERS[-1].command(name, query.replace("?", "%s"), *values)
    file = state / ".gateway" / "huskies.db"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()


def use(server: Server | None) -> None:
    """Have stores on a server from now on; None: in files again."""
    _SERVERS[:] = [server] if server is not None else []
