"""Where a store of the tests is: a file of its folder, or with `--database postgres` a database of its own."""

from __future__ import annotations

from pathlib import Path

from tests.support.postgres import Server

#: The server that has them, while tests run on one.
_SERVERS: list[Server] = []


def place(folder: Path) -> Path | str:
    """What `Store.open` takes for the store of a folder."""
    return _SERVERS[-1].of(folder) if _SERVERS else folder / "huskies.db"


def use(server: Server | None) -> None:
    """Have stores on a server from now on; None: in files again."""
    _SERVERS[:] = [server] if server is not None else []
