"""`huskies migrate`: the state of this gateway, from SQLite to PostgreSQL or back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Engine, create_engine

from gateway.errors import StateError
from gateway.store import copying, schema
from gateway.store.copying import Copied
from gateway.store.tables import SCHEMA


def migrate(file: Path, address: str, *, back: bool, said: Callable[[str], None]) -> list[Copied]:
    """Copy the state in a file of SQLite's into the database at an address, or `back`. No gateway may run on either.

    Raises StateError.
    """
    with _file(file, source=not back) as here, _server(address, source=back) as there:
        if back:
            return copying.copy(there, here, said, instead=f"move {file} aside, and type this again")
        return copying.copy(here, there, said, instead="name an empty database in gateway.database")


@contextlib.contextmanager
def _file(path: Path, *, source: bool) -> Iterator[Engine]:
    if source:
        if not path.exists():
            raise StateError(f"there is no state in {path}")
        _check_version(schema.version(path), str(path))
    else:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        schema.prepare(path)
        path.chmod(0o600)
    engine = create_engine(f"sqlite:///{path}")
    try:
        if source:
            copying.check_finished(engine)
        yield engine
    finally:
        engine.dispose()


@contextlib.contextmanager
def _server(address: str, *, source: bool) -> Iterator[Engine]:
    from gateway.store.postgres import Postgres

    with Postgres(address).alone(migrated=not source) as engine:
        if source:
            with engine.connect() as connection:
                _check_version(schema.version_there(connection), "the database")
            copying.check_finished(engine)
        yield engine


def _check_version(found: str, what: str) -> None:
    if found != SCHEMA:
        raise StateError(
            f"{what} has schema {found or 'none'}, and this version of huskies {SCHEMA}. Start and end a gateway on it "
            "once, which brings it up to date"
        )
