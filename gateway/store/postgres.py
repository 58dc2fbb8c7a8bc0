"""PostgreSQL: one gateway writes, and knows that it still is the one.

Whoever writes holds an advisory lock on the connection that writes: a lock that is lost is a connection that is lost.
Each transaction also looks at the epoch, which every gateway that opens the database raises: after a failover, or where
something between us shares connections, it is the row that decides, not the lock. A commit that was cut off before its
answer is settled by the transaction's own id, once the lock is ours again and that transaction cannot be under way.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from gateway.errors import StateError
from gateway.store import copying, schema
from gateway.store.backend import OutcomeUnknown, Superseded, Unready, driver

log = logging.getLogger(__name__)

#: The first of the lock's two keys; the second is that of the schema that the tables are in.
_LOCK = 0x6875736B
#: The oldest version that was tried.
_OLDEST = 14
#: Seconds to connect within, and those for which a start waits for the lock of a gateway that has just ended.
_CONNECT_S, _LOCK_S = 5, 10.0
#: Milliseconds for which somebody else's lock is waited for: as long as for SQLite's.
_LOCK_TIMEOUT_MS = 5000
#: A connection whose other end is gone is noticed within half a minute, here and there.
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
_SETTINGS = (
    f"SET lock_timeout = {_LOCK_TIMEOUT_MS}; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; "
    "SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000; SET idle_in_transaction_session_timeout = 0; "
    # What a write returned is on disk, whatever the role's default is; a stronger setting than `on` stays.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start::text = %s"
_HOLDER = (
    "SELECT pid, coalesce(host(client_addr), 'the server itself'), to_char(backend_start, 'YYYY-MM-DD HH24:MI') "
    "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted "
    "AND classid = %s AND objid = hashtext(current_schema())::bigint & 4294967295"
)


class _Text(StrDumperUnknown):
    """Text without NUL: doors refuse it, and what came by none of them is not to end a transaction."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\ufffd"))


@dataclass(slots=True)
class _Session:
    """A session of the server's that may write."""

    connection: Connection
    pid: int
    began: str


class Postgres:
    """Implements `Backend` for an address."""

    errors: tuple[type[Exception], ...] = (DBAPIError, psycopg.Error, Unready)
    name = "PostgreSQL"
    advice = "look at the PostgreSQL server and the way to it"

    def __init__(self, address: str) -> None:
        try:
            options: dict[str, Any] = {"connect_timeout": _CONNECT_S, "application_name": "huskies", **_ALIVE}
            self._conninfo = make_conninfo("", **{**options, **conninfo_to_dict(address)})
        except psycopg.ProgrammingError as error:
            raise StateError(f"gateway.database is not an address of PostgreSQL: {str(error).strip()}") from error
        # The driver's own transactions are off: we say BEGIN and COMMIT ourselves.
        self._engine = self._made(isolation_level="AUTOCOMMIT")

    def _made(self, **options: Any) -> Engine:
        def connect() -> psycopg.Connection:
            made = psycopg.connect(self._conninfo)
            made.adapters.register_dumper(str, _Text)
            return made

        return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool, **options)

    def open(self) -> PostgresWriter:
        with self._taken() as session:
            engine = self._made()
            schema.prepare_server(engine)
            copying.check_finished(engine)
            return PostgresWriter(self, session, _raised(session))

    @contextlib.contextmanager
    def alone(self, *, migrated: bool) -> Iterator[Engine]:
        """An engine with transactions of its own, while no gateway uses the database. Raises StateError."""
        with self._taken() as session, contextlib.closing(session.connection):
            engine = self._made()
            if migrated:
                schema.prepare_server(engine)
            yield engine

    @contextlib.contextmanager
    def _taken(self) -> Iterator[_Session]:
        """A session that holds the lock of a server that can be used; it ends if what follows fails.

        Raises StateError.
        """
        try:
            session = self.session()
            try:
                self._check(session)
                if not locked(session, _LOCK_S):
                    raise StateError(_held(session))
                yield session
            except BaseException:
                session.connection.close()
                raise
        except self.errors as error:
            raise StateError(f"the database cannot be used: {told(error)}") from error

    def session(self) -> _Session:
        """A new session for writing. Raises what the driver raises."""
        connection = self._engine.connect()
        raw = driver(connection)
        raw.execute(_SETTINGS, prepare=False)
        # A name of this session that a server process of another session does not have.
        row = raw.execute(
            "SELECT pg_backend_pid(), (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())"
        ).fetchone()
        return _Session(connection, row[0], row[1])

    def _check(self, session: _Session) -> None:
        """Raises StateError for a server that cannot be used."""
        raw = driver(session.connection)
        if raw.info.server_version < _OLDEST * 10_000:
            raise StateError(f"PostgreSQL {raw.info.server_version // 10_000} is too old; {_OLDEST} or newer is needed")
        version = raw.info.parameter_status("server_version").split()[0]
        self.name = f"PostgreSQL {version} on {raw.info.host or 'this host'}:{raw.info.port}/{raw.info.dbname}"
        encoding = raw.execute("SHOW server_encoding").fetchone()[0]
        if encoding != "UTF8":
            raise StateError(f"the database has the encoding {encoding}; make one with ENCODING 'UTF8'")
        if raw.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
            raise StateError("this PostgreSQL server is a standby, which cannot be written; name the primary")
        # Behind a pooler that lends a server process for one transaction, the next one takes that which we just had.
        with contextlib.closing(self._engine.connect()) as other:
            theirs = driver(other)
            theirs.execute("BEGIN")
            shared = theirs.execute("SELECT pg_backend_pid()").fetchone()[0] == session.pid
            shared |= raw.execute("SELECT pg_backend_pid()").fetchone()[0] != session.pid
            theirs.execute("ROLLBACK")
        if shared:
            raise StateError(
                "a pooler stands before this database and lends its connections for one transaction each, so the lock "
                "that keeps a second gateway away would not hold. Name the server itself, or set pool_mode = session"
            )

    def reader(self) -> Connection:
        return self._engine.connect()

    def begin_reading(self, connection: Connection) -> None:
        driver(connection).execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def is_lost(self, connection: Connection) -> bool:
        return lost(connection)

    def probe(self, connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE gateways SET epoch = epoch WHERE id = 1").close()

    def damage(self, error: Exception) -> str:
        return ""  # the server's own business: it says so, and may be mended while we wait

    def close(self) -> None:
        self._engine.dispose()


class PostgresWriter:
    """Implements `Writer`."""

    def __init__(self, backend: Postgres, session: _Session, epoch: int) -> None:
        self._backend = backend
        self._session: _Session | None = session
        #: The last one, while it may still be there for the server.
        self._gone: _Session | None = None
        self._epoch = epoch
        self._transaction = 0

    def begin(self) -> Connection:
        session = self._session
        if session is not None:
            try:
                self._begin(session)
                return session.connection
            except self._backend.errors:
                if not lost(session.connection):
                    raise
                self._forget()  # an idle connection was closed: nothing had been begun on it
        session = self._renewed()
        self._begin(session)
        return session.connection

    def _begin(self, session: _Session) -> None:
        # One round trip. The row stays as it is until the transaction ends, so nobody can take over within it.
        cursor = driver(session.connection).execute(
            "BEGIN; SELECT pg_current_xact_id()::text::bigint, epoch FROM gateways WHERE id = 1 FOR SHARE",
            prepare=False,
        )
        cursor.nextset()
        row = cursor.fetchone()
        if row is None or row[1] != self._epoch:
            raise Superseded("another gateway has written to this database meanwhile; this one ends")
        self._transaction = row[0]

    def say(self, word: str) -> None:
        assert self._session is not None
        driver(self._session.connection).execute(word, prepare=False)

    def commit(self) -> None:
        assert self._session is not None
        connection = self._session.connection
        try:
            done = driver(connection).execute("COMMIT", prepare=False).statusmessage
        except psycopg.Error as error:
            if lost(connection):
                self._forget()
                raise OutcomeUnknown(told(error)) from error
            raise
        if done != "COMMIT":  # the transaction had failed, and the server ends it without an error
            raise Unready(f"the transaction was given up ({done})")

    def committed(self) -> bool:
        session = self._session or self._renewed()
        # Its session is over, as we hold its lock: what became of it is final.
        query = "SELECT txid_status(%s::bigint)"
        try:
            status = driver(session.connection).execute(query, [self._transaction]).fetchone()[0]
        except psycopg.errors.InvalidParameterValue:  # an id to come: a standby that never heard of it took over
            return False
        if status not in ("committed", "aborted"):
            raise Unready(f"transaction {self._transaction} is {status or 'forgotten'}")
        return bool(status == "committed")

    def roll_back(self) -> None:
        if self._session is None:
            return
        with contextlib.suppress(psycopg.Error, SQLAlchemyError):
            self.say("ROLLBACK")
            self._session.connection.rollback()
        if lost(self._session.connection):
            self._forget()

    def close(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Let go of the session; the server may not know that yet."""
        if self._session is not None:
            self._gone, self._session = self._session, None
            with contextlib.suppress(psycopg.Error, SQLAlchemyError):
                self._gone.connection.invalidate()
            with contextlib.suppress(psycopg.Error, SQLAlchemyError):
                self._gone.connection.close()

    def _renewed(self) -> _Session:
        """A session that holds the lock, in the same epoch. Raises what the driver raises; Unready; Superseded."""
        session = self._backend.session()
        try:
            if not locked(session, 0.0):
                self._check_epoch(session)
                if self._gone is not None:  # the server has not noticed that it is over
                    driver(session.connection).execute(_END, [self._gone.pid, self._gone.began])
                if not locked(session, 1.0):
                    raise Unready(_held(session))
            self._check_epoch(session)
        except BaseException:
            session.connection.close()
            raise
        log.info("connected to the database again")
        self._session, self._gone = session, None
        return session

    def _check_epoch(self, session: _Session) -> None:
        row = driver(session.connection).execute("SELECT epoch FROM gateways WHERE id = 1").fetchone()
        if row is None or row[0] != self._epoch:
            raise Superseded("another gateway has written to this database meanwhile; this one ends")


def locked(session: _Session, within_s: float) -> bool:
    """Take the lock of the schema's one writer. Raises what the driver raises."""
    query = "SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))"
    until = time.monotonic() + within_s
    while not driver(session.connection).execute(query, [_LOCK]).fetchone()[0]:
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)
    return True


def _held(session: _Session) -> str:
    """Who has the lock, for people."""
    row = driver(session.connection).execute(_HOLDER, [_LOCK]).fetchone()
    whose = f"session {row[0]} from {row[1]}, since {row[2]}" if row else "a session that has just gone"
    return f"another gateway uses this database ({whose}): one at a time. End that one first"


def _raised(session: _Session) -> int:
    """The epoch, raised: whatever wrote before may not write any more."""
    query = (
        "INSERT INTO gateways (id, epoch) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET epoch = gateways.epoch + 1 "
        "RETURNING epoch"
    )
    return int(driver(session.connection).execute(query).fetchone()[0])


def lost(connection: Connection) -> bool:
    """Whether a connection is good for nothing any more."""
    try:
        raw = driver(connection)
    except SQLAlchemyError:
        return True
    return raw is None or bool(raw.closed)


def told(error: BaseException) -> str:
    """A driver's error in one line, without the address."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
