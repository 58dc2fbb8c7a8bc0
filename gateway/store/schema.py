"""Bringing a database to this version's schema, and refusing one that is ahead of it.

Alembic is imported only when there is something to migrate: it costs a quarter of the start-up time.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, inspect

from gateway.errors import StateError, StateTooNew
from gateway.store.tables import SCHEMA

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(path: Path) -> None:
    """Create or migrate the database at `path`; one that is reshaped is copied to `<name>.before-<schema>` first.

    Raises:
        StateTooNew: it was written by a newer version; nothing was changed.
    """
    found = version(path)
    if found == SCHEMA:
        return
    _check(found, str(path), "move the state directory aside")
    if found:
        back_up(path, path.with_name(f"{path.name}.before-{SCHEMA}"))
    migrate(path)


def prepare_server(engine: Engine) -> None:
    """The same for a database of a server's, which is reshaped in one transaction, or not at all.

    Raises:
        StateTooNew: it was written by a newer version; nothing was changed.
    """
    with engine.connect() as connection:
        found = version_there(connection)
    if found != SCHEMA:
        _check(found, "the database", "name another database in gateway.database")
        migrate(engine)


def version_there(connection: Connection) -> str:
    """The schema that a server's database has; empty when there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or "")


def _check(found: str, what: str, other: str) -> None:
    if found and not list((MIGRATIONS / "versions").glob(f"{found}_*.py")):
        raise StateTooNew(
            f"{what} has schema {found}, this version of huskies knows up to {SCHEMA}. "
            f"Start the newer huskies, or {other}"
        )


def version(path: Path) -> str:
    """The schema that the database at `path` has; empty when there is none."""
    if not path.exists():
        return ""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return ""
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"{path} is not a database of huskies ({error}); move it aside, or restore a backup"
            ) from error
    return str(row[0]) if row else ""


def back_up(path: Path, copy: Path) -> None:
    """Copy a database, once: an existing copy is the older, and better, one."""
    if copy.exists():
        return
    partial = copy.with_name(copy.name + ".partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as target:
        source.backup(target)
    partial.chmod(0o600)
    partial.rename(copy)
    log.info("kept a copy of the database in %s", copy)


def migrate(where: Path | Engine, to: str = "head") -> None:
    """Run the migrations up to `to`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["engine"] = create_engine(f"sqlite:///{where}") if isinstance(where, Path) else where
    command.upgrade(config, to)
