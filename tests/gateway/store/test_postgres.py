"""PostgreSQL as the store's database: who may write, what a lost connection means, and what it refuses to be."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, select

from gateway.errors import StateError, StateTooNew
from gateway.store import Store, schema
from gateway.store.tables import SCHEMA, cursors, metadata
from gateway.testing import patience
from tests.support.ports import take_port
from tests.support.postgres import Server
from tests.support.small_disk import small_disk


def put(name: str) -> Callable[[Connection], object]:
    return lambda c: c.execute(insert(cursors).values(transport=name, value="1"))


async def names(store: Store) -> list[str]:
    return sorted(await store.read(lambda c: c.scalars(select(cursors.c.transport)).all()))


@pytest.fixture
def address(postgres: Server, tmp_path: Path) -> Iterator[str]:
    yield postgres.of(tmp_path)
    postgres.drop_all()


@pytest_asyncio.fixture
async def store(address: str) -> AsyncIterator[Store]:
    opened = await Store.open(address)
    yield opened
    await opened.close()


@pytest.fixture
def folders() -> Iterator[list[Path]]:
    """Two folders that another user may enter."""
    with tempfile.TemporaryDirectory(prefix="hp") as one, tempfile.TemporaryDirectory(prefix="hp") as two:
        yield [Path(one), Path(two)]


async def written(store: Store, name: str) -> None:
    """Write until the database takes it again, as whoever has something to keep does."""

    async def once() -> bool:
        try:
            await store.write(put(name))
        except StateError:
            return False
        return True

    async with asyncio.timeout(30 * patience()):
        while not await once():
            await asyncio.sleep(0.05)


async def test_a_second_gateway_is_refused_by_name_until_the_first_has_ended(
    address: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.postgres._LOCK_S", 0.2)
    with pytest.raises(StateError, match=r"another gateway uses this database \(session \d+ from 127\.0\.0\.1, since "):
        await Store.open(address)
    await store.write(put("first"))
    await store.close()
    second = await Store.open(address)
    assert await names(second) == ["first"]
    await second.close()


async def test_whoever_was_superseded_writes_nothing_more(address: str, store: Store, postgres: Server) -> None:
    """Its connection still stands: it is the epoch that says so, as after a failover."""
    await store.write(put("before"))
    database = address.rpartition("/")[2]
    postgres.command(database, "UPDATE gateways SET epoch = epoch + 1")
    with pytest.raises(StateError, match="another gateway has written to this database meanwhile; this one ends"):
        await store.write(put("after"))
    await asyncio.wait_for(store.ended.wait(), 10 * patience())
    assert postgres.command(database, "SELECT transport FROM cursors") == [("before",)]


@pytest.mark.parametrize("how", ["idle", "in a transaction"])
async def test_a_connection_that_is_cut_is_made_again(address: str, store: Store, postgres: Server, how: str) -> None:
    database = address.rpartition("/")[2]
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    await store.write(put("before"))
    assert await names(store) == ["before"]
    if how == "idle":
        postgres.command(database, end, database)
        await store.write(put("after"))  # nothing was begun, so nothing is refused
    else:

        def cut(connection: Connection) -> None:
            put("lost")(connection)
            postgres.command(database, end, database)
            put("lost too")(connection)

        with pytest.raises(StateError, match="the database refuses writes"):
            await store.write(cut)
        await store.write(put("after"))
    assert not store.problem
    assert await names(store) == ["after", "before"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_server_that_restarts_refuses_meanwhile_and_loses_nothing(
    address: str, store: Store, postgres: Server, how: signal.Signals
) -> None:
    await store.write(put("before"))
    await asyncio.to_thread(postgres.stop, how)
    try:
        with pytest.raises(StateError, match="the database refuses writes"):
            await store.write(put("meanwhile"))
        assert store.problem
        with pytest.raises(StateError, match="the database cannot be read"):
            await names(store)
    finally:
        postgres.start()  # by this thread, with which it would die
    await written(store, "after")
    assert not store.problem
    assert await names(store) == ["after", "before"]


async def test_a_database_that_may_not_be_written_refuses_and_recovers(
    address: str, store: Store, postgres: Server
) -> None:
    database = address.rpartition("/")[2]
    postgres.command(database, "REVOKE ALL ON cursors FROM huskies")
    postgres.command(database, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    postgres.command("postgres", end, database)
    with pytest.raises(StateError, match="read-only transaction"):
        await store.write(put("a"))
    with pytest.raises(StateError, match="read-only transaction"):
        await store.probe()
    postgres.command("postgres", f"ALTER DATABASE {database} RESET default_transaction_read_only")
    postgres.command("postgres", end, database)
    await written(store, "b")
    assert await names(store) == ["b"]


async def test_a_unit_that_fails_takes_nothing_with_it_and_a_read_sees_one_moment(store: Store) -> None:
    results = await asyncio.gather(
        store.write(put("a")), store.write(put("a")), store.write(put("b")), return_exceptions=True
    )
    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    loop = asyncio.get_running_loop()

    def twice(connection: Connection) -> list[int]:
        seen = []
        for _ in range(2):
            seen.append(len(connection.scalars(select(cursors.c.transport)).all()))
            asyncio.run_coroutine_threadsafe(written(store, f"more{len(seen)}"), loop).result(10 * patience())
        return seen

    assert await store.read(twice) == [2, 2]
    assert len(await names(store)) == 4


async def test_a_newer_schema_is_refused_and_an_address_that_is_none(address: str, postgres: Server) -> None:
    database = address.rpartition("/")[2]
    postgres.command(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StateTooNew, match=rf"the database has schema 9999, .* knows up to {SCHEMA}.*another database"):
        await Store.open(address)
    with pytest.raises(StateError, match=r"gateway\.database is not an address of PostgreSQL"):
        await Store.open("postgresql://ana:secret@[nowhere")
    with pytest.raises(StateError, match=r"the database cannot be used: .*") as refused:
        await Store.open("postgresql://ana:secret@127.0.0.1:1/none")
    assert "secret" not in str(refused.value)


async def test_text_that_came_by_no_door_ends_no_transaction(store: Store) -> None:
    await store.write(lambda c: c.execute(insert(cursors).values(transport="a", value="nul\0")))
    assert await store.read(lambda c: c.scalar(select(cursors.c.value))) == "nul\ufffd"


async def test_a_slow_commit_is_waited_for_and_shared(address: str, store: Store, postgres: Server) -> None:
    database = address.rpartition("/")[2]
    postgres.command(
        database,
        "CREATE FUNCTION wait() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END' LANGUAGE plpgsql; "
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON cursors DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        "WHEN (NEW.transport = 'slow') EXECUTE FUNCTION wait()",
    )
    commits = store.commits
    first = store.write(put("slow"))
    others = [store.write(put(f"n{number}")) for number in range(50)]
    assert await asyncio.wait_for(names(store), 1.5 * patience()) == [], "nobody who looks waits for it"
    await asyncio.gather(first, *others)
    assert store.commits - commits <= 3, "what waited shares a transaction"


async def test_a_standby_that_takes_over_is_written_and_has_everything(tmp_path: Path, folders: list[Path]) -> None:
    first = Server(folders[0], take_port())
    second: Server | None = None
    try:
        first.make()
        name = first.of(tmp_path).rpartition("/")[2]
        second = first.standby(folders[1], take_port())
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        store = await Store.open(f"postgresql://huskies@{hosts}/{name}?target_session_attrs=read-write")
        await store.write(put("before"))
        first.stop(signal.SIGQUIT)
        with pytest.raises(StateError, match="the database refuses writes"):
            await store.write(put("meanwhile"))
        second.promote()
        await written(store, "after")
        assert await names(store) == ["after", "before"]
        await store.close()
    finally:
        for server in (first, second):
            if server is not None:
                server.stop()


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hp") as name, small_disk(Path(name) / "disk", 160) as disk:
        Path(name).chmod(0o755)
        server = Server(disk.folder, take_port())
        try:
            server.make()
            store = await Store.open(server.of(tmp_path))
            await store.write(put("before"))
            disk.fill()
            big = "x" * 20_000_000

            def much(connection: Connection) -> None:
                connection.execute(insert(cursors).values(transport="big", value=big + str(os.urandom(5_000_000))))

            with pytest.raises(StateError, match="the database refuses writes"):
                for _ in range(5):
                    await store.write(much)
            assert store.problem
            disk.free()
            if not server.runs():
                server.start()  # its log had no room, and it ended: as a service manager would
            await written(store, "after")
            assert await names(store) == ["after", "before"]
            await store.close()
        finally:
            server.stop()


def test_each_schema_becomes_todays(postgres: Server, tmp_path: Path) -> None:
    """From the first one on, with a row that each later one has to take along."""
    name = "grown"
    postgres.command("postgres", f"CREATE DATABASE {name}")
    engine = create_engine(postgres.address(name).replace("postgresql:", "postgresql+psycopg:"))
    try:
        schema.migrate(engine, "0001")
        columns = (
            "name, path, adopted, made_source, revived, stack, token, permissions, desired, created_by, created_at"
        )
        values = "'demo', '/x', true, false, false, 'rust', 't', 'auto', 'up', 'a', 1.5"
        postgres.command(name, f"INSERT INTO projects ({columns}) VALUES ({values})")
        schema.prepare_server(engine)
        with engine.connect() as connection:
            assert schema.version_there(connection) == SCHEMA
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        query = "SELECT name, wanted, purging, held FROM projects LEFT JOIN outbox ON true"
        assert postgres.command(name, query) == [("demo", "rust", False, None)]
    finally:
        engine.dispose()
        postgres.command("postgres", f"DROP DATABASE {name} WITH (FORCE)")
