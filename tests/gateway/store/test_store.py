"""The database: durability, group commit, and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, bindparam, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError

from gateway.chat import Conversation, Message
from gateway.errors import StateError, StateTooNew
from gateway.store import Store, conversations, schema
from gateway.store import messages as messages_rows
from gateway.store import outbox as outbox_rows
from gateway.store import projects as projects_rows
from gateway.store import questions as questions_rows
from gateway.store import turns as turns_rows
from gateway.store import usage as usage_rows
from gateway.store.prepared import Prepared
from gateway.store.sqlite import SqliteWriter, connect
from gateway.store.tables import SCHEMA, cursors, metadata
from gateway.store.turns import SessionKey
from gateway.testing import InMemoryEngine, patience
from gateway.web.parts import Part, look
from sled.protocol import Question
from stacks.images import BuildInputs, plan_image
from tests.support.databases import place


@pytest_asyncio.fixture
async def store(tmp_path: Path, empty_database: Path) -> AsyncIterator[Store]:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    opened = await Store.open(place(tmp_path))
    yield opened
    await opened.close()


def put(name: str, value: str = "1") -> Callable[[Connection], object]:
    return lambda c: c.execute(insert(cursors).values(transport=name, value=value))


async def test_units_that_wait_together_share_a_transaction(store: Store) -> None:
    """The first commit takes time; what is handed in meanwhile goes in one more."""
    before = store.commits
    await asyncio.gather(*(store.write(put(f"t{n}")) for n in range(200)))
    assert store.units >= 200
    assert store.commits - before < 20


async def test_a_unit_that_is_not_urgent_shares_the_next_commit_and_does_not_wait_for_ever(store: Store) -> None:
    before, order = store.commits, []
    noted = store.write(lambda _: order.append("noted"), urgent=False)
    await store.write(lambda _: order.append("urgent"))
    assert noted.done(), "they were committed as one"
    assert (order, store.commits - before) == (["noted", "urgent"], 1)
    await asyncio.wait_for(store.write(put("alone"), urgent=False), 5 * patience())
    assert store.commits - before == 2
    last = store.write(put("last"), urgent=False)
    await store.close()
    assert last.done(), "a store that is closed leaves nothing behind"


async def test_a_failing_unit_takes_nothing_with_it(store: Store) -> None:
    results = await asyncio.gather(
        store.write(put("a")), store.write(put("a")), store.write(put("b")), return_exceptions=True
    )
    assert [isinstance(r, Exception) for r in results] == [False, True, False]
    names = await store.read(lambda c: c.scalars(select(cursors.c.transport)).all())
    assert sorted(names) == ["a", "b"]


async def test_units_run_in_the_order_they_were_handed_in(store: Store) -> None:
    order: list[int] = []

    def note(number: int, _: Connection) -> None:
        order.append(number)

    await asyncio.gather(*(store.write(partial(note, n)) for n in range(500)))
    assert order == list(range(500))


async def test_what_a_write_returned_survives_kill_9(tmp_path: Path) -> None:
    """A process commits, says so, and is killed with a second unit half done."""
    program = """
import asyncio, os, signal, sys
from pathlib import Path
from sqlalchemy import insert
from gateway.store import Store
from gateway.store.tables import cursors
async def main():
    store = await Store.open(Path(sys.argv[1]))
    await store.write(lambda c: c.execute(insert(cursors).values(transport="kept", value="1")))
    def half(c):
        c.execute(insert(cursors).values(transport="lost", value="1"))
        os.kill(os.getpid(), signal.SIGKILL)
    await store.write(half)
asyncio.run(main())
"""
    database = tmp_path / "huskies.db"
    done = subprocess.run([sys.executable, "-c", program, str(database)], check=False, timeout=60 * patience())
    assert done.returncode == -9
    opened = await Store.open(database)
    names = await opened.read(lambda c: c.scalars(select(cursors.c.transport)).all())
    await opened.close()
    assert list(names) == ["kept"]


async def test_a_closed_store_refuses_instead_of_keeping_its_callers_waiting(tmp_path: Path) -> None:
    opened = await Store.open(place(tmp_path))
    await opened.close()
    with pytest.raises(StateError, match="closed"):
        await asyncio.wait_for(
            opened.write(lambda c: c.execute(insert(cursors).values(transport="x", value="1"))), 5 * patience()
        )


@pytest.mark.sqlite
@pytest.mark.parametrize("what", ["header", "pages"])
async def test_a_damaged_file_is_a_state_of_its_own_and_written_to_no_more(
    store: Store, tmp_path: Path, what: str
) -> None:
    await store.write(put("a"))
    file = tmp_path / "huskies.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(file.read_bytes())
    if what == "header":
        data[:100] = bytes(100)
    else:
        data[4096:] = os.urandom(len(data) - 4096)
    writing = os.open(file, os.O_WRONLY)  # in its place: the store has it open
    os.pwrite(writing, data, 0)
    os.close(writing)
    with closing(sqlite3.connect(file)) as other, contextlib.suppress(sqlite3.DatabaseError):
        other.execute("PRAGMA user_version = 0")  # what was read before is read again
    for _ in range(3):
        with pytest.raises(StateError, match=r"is damaged .*nothing is written to it any more.*\.recover"):
            await asyncio.wait_for(store.write(put("b")), 10 * patience())
    with pytest.raises(StateError, match="is damaged"):
        await store.probe()
    assert not store.ended.is_set()
    (state, *_) = [part for part in await parts(store) if part.name == "state"]
    assert not state.ok
    assert "put a backup in the place" in state.text
    assert "free some space" not in state.text


async def parts(store: Store) -> list[Part]:
    """What health says of a gateway with this store."""
    base = plan_image(BuildInputs(), [], "x")
    return await look(store, InMemoryEngine(), {}, {}, [], base=base, draining=False)


@pytest.mark.sqlite
async def test_a_commit_that_the_file_refuses_is_told_and_the_writer_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only what SQLite calls operational: a damaged file is another kind of error."""
    say = SqliteWriter.say

    def damaged(writer: SqliteWriter, word: str) -> None:
        if word == "COMMIT":
            raise sqlite3.DatabaseError("database disk image is malformed")
        say(writer, word)

    monkeypatch.setattr(SqliteWriter, "say", damaged)
    with pytest.raises(StateError, match="malformed"):
        await asyncio.wait_for(store.write(put("a")), 10 * patience())
    assert "malformed" in store.problem
    monkeypatch.setattr(SqliteWriter, "say", say)
    await asyncio.wait_for(store.write(put("b")), 10 * patience())
    assert not store.problem
    assert await store.read(lambda c: c.scalars(select(cursors.c.transport)).all()) == ["b"]


async def test_a_database_that_hangs_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    hanging = store.write(lambda _: goes_on.wait(60))
    monkeypatch.setattr("gateway.web.parts._STATE_S", 0.05)
    state = next(part for part in await parts(store) if part.name == "state")
    assert not state.ok and state.text == f"nothing could be written for 0.05 s; {store.advice}"
    goes_on.set()
    await hanging


async def test_a_damaged_page_is_the_databases_fault_and_not_the_units(store: Store) -> None:
    def unit(_: Connection) -> None:
        raise DatabaseError("SELECT", None, sqlite3.DatabaseError("database disk image is malformed"))

    with pytest.raises(StateError, match="malformed"):
        await store.write(unit)
    with pytest.raises(StateError, match="malformed"):
        await store.read(unit)


async def test_a_writer_that_ends_refuses_everybody_and_says_so(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "huskies.db")
    opened = await Store.open(place(tmp_path))

    def ends(_: Connection) -> None:
        raise SystemExit

    first, behind = opened.write(ends), opened.write(put("behind"))
    for write in (first, behind, opened.write(put("later"))):
        with pytest.raises(StateError, match="writer ended"):
            await asyncio.wait_for(write, 10 * patience())
    assert opened.ended.is_set()
    assert "writer ended" in opened.problem
    await asyncio.wait_for(opened.close(), 10 * patience())


async def test_a_slow_look_holds_up_no_other(store: Store) -> None:
    go = threading.Event()
    slow = asyncio.create_task(store.read(lambda _: go.wait(20)))
    assert (
        await asyncio.wait_for(store.read(lambda c: c.scalars(select(cursors.c.transport)).all()), 10 * patience())
        == []
    )
    assert not slow.done()
    go.set()
    assert await slow


async def test_a_prepared_statement_fails_as_others_do(store: Store) -> None:
    message = Message(Conversation("t", "r"), "x", "t:ana", "hello")
    with pytest.raises(IntegrityError):
        await store.write(lambda c: messages_rows.add(c, message, 4711, None, direct=True))  # there is no such room
    broken = Prepared(select(cursors.c.value).where(cursors.c.transport == bindparam("a")))
    with pytest.raises(DBAPIError):
        await store.read(lambda c: broken.first(c, {}))


@pytest.mark.sqlite
async def test_a_locked_database_refuses_and_recovers(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the write lock for longer than we wait."""
    await store.write(lambda c: c.exec_driver_sql("PRAGMA busy_timeout=50").close())
    with closing(sqlite3.connect(tmp_path / "huskies.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="locked"):
            await store.write(put("a"))
        assert store.problem
        other.execute("ROLLBACK")
    await store.write(put("a"))
    assert not store.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
async def test_a_full_disk_refuses_and_recovers(tmp_path: Path, empty_database: Path) -> None:
    """A real file system of 1 MiB, filled to the brim."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        shutil.copy(empty_database, disk / "huskies.db")
        opened = await Store.open(disk / "huskies.db")
        await opened.write(put("before"))
        filler = disk / "filler"
        with pytest.raises(OSError, match="space"):
            filler.write_bytes(b"x" * 2**20)
        big = "y" * 200_000
        with pytest.raises(StateError):
            for n in range(20):
                await opened.write(put(f"b{n}", big))
        filler.unlink()
        await opened.write(put("after"))
        names = await opened.read(lambda c: c.scalars(select(cursors.c.transport)).all())
        assert {"before", "after"} <= set(names)
        await opened.close()
    finally:
        subprocess.run(["umount", disk], check=True)


async def test_a_database_from_a_newer_version_is_refused_untouched(tmp_path: Path, empty_database: Path) -> None:
    database = tmp_path / "huskies.db"
    shutil.copy(empty_database, database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = database.read_bytes()
    with pytest.raises(StateTooNew, match="9999"):
        await Store.open(database)
    assert database.read_bytes() == before


def test_a_reshaping_migration_keeps_one_copy(tmp_path: Path, empty_database: Path) -> None:
    database, copy = tmp_path / "huskies.db", tmp_path / "copy"
    shutil.copy(empty_database, database)
    schema.back_up(database, copy)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO cursors VALUES ('later', '1')")
        connection.commit()
    schema.back_up(database, copy)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM cursors").fetchone() == (0,)
    assert copy.stat().st_mode & 0o077 == 0


#: Rows as the first schema had them: two projects, one of them deleted, and one message's way.
ROWS: dict[str, list[dict[str, object]]] = {
    "cursors": [{"transport": "matrix", "value": "s1"}],
    "projects": [
        {"id": 1, "name": "demo", "path": "/src/demo", "desired": "up", "ready_at": 5.5, "token": "t1"},
        {"id": 2, "name": "gone", "path": "/src/gone", "desired": "deleted", "ready_at": None, "token": ""},
    ],
    "conversations": [
        {"id": 1, "transport": "fake", "room": "r", "thread": "", "direct": 1, "ambient": 0, "project_id": 1}
    ],
    "sessions": [{"id": 1, "project_id": 1, "conversation_id": 1, "agent_session": "a1", "generation": 2}],
    "turns": [
        {"id": 1, "run": "r1", "session_id": 1, "project_id": 1, "slot": 0, "agent": "claude", "journal": "j"}
        | {"requested_by": "fake:ana", "started_at": 6.0, "ended_at": 7.0, "ending": "answered", "cost_usd": 0.25}
    ],
    "messages": [
        {"id": 1, "transport": "fake", "external_id": "m1", "conversation_id": 1, "project_id": 1, "turn_id": 1}
        | {"sender": "fake:ana", "sender_name": "Ana", "text": "hi", "fate": "answered", "received_at": 5.75}
    ],
    "outbox": [
        {"id": 1, "conversation_id": 1, "message_id": 1, "turn_id": 1, "kind": "reply", "text": "hello"}
        | {"state": "sent", "created_at": 7.5}
    ],
}
OF_EVERY_PROJECT = {
    "adopted": 0,
    "made_source": 1,
    "revived": 0,
    "stack": "python",
    "permissions": "ask",
    "last_error": "it fell",
    "created_by": "fake:ana",
    "created_at": 5.0,
}

#: What later schemas add to each row.
OF_LATER_PROJECTS: dict[str, object] = {
    "uid": None,
    "gid": None,
    "ssh_port": None,
    "image": "",
    "git_url": "",
    "purging": 0,
    "grave": "",
    "wanted": "",
    "limits": "",
    "leads": 0,
    "recipe": "",
    "layers": "",
    "model": "",
    "agent": "",
}
OF_LATER_TURNS: dict[str, object] = {
    "hushed": 0,
    "model": "",
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "calls": 0,
    "limits": 0,
    "parks": 0,
    "at_least": 0,
    "tools": "",
    "parked_until": None,
    "waited_s": 0.0,
    "booted": "",
    "began_boot": 0.0,
    "metered_usd": 0.0,
}


def everything(database: Path) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")] for table in ROWS}


async def test_a_database_of_the_first_schema_keeps_all_its_rows(tmp_path: Path) -> None:
    database = tmp_path / "huskies.db"
    schema.migrate(database, "0001")
    with closing(sqlite3.connect(database)) as connection:
        for table, rows in ROWS.items():
            for row in rows:
                values = row | (OF_EVERY_PROJECT if table == "projects" else {})
                places = ", ".join("?" for _ in values)
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", list(values.values())
                )
        connection.commit()
    before = everything(database)

    opened = await Store.open(database)
    demo, gone = await opened.read(projects_rows.all_projects)
    assert schema.version(database) == SCHEMA
    after = everything(database)
    added: dict[str, dict[str, object]] = {
        "projects": OF_LATER_PROJECTS,
        "messages": {"files": "", "presses": "", "quoted": "", "word": "", "room_id": None},
        "outbox": {"choices": "", "file": "", "held": 0, "place": None, "notifies": 0, "mentions": ""},
        "turns": OF_LATER_TURNS,
    }
    expected = {table: [row | added.get(table, {}) for row in rows] for table, rows in before.items()}
    for row in expected["projects"]:
        row["wanted"] = row["stack"]
    assert after == expected
    assert (demo.name, demo.token, demo.ready_at, demo.last_error) == ("demo", "t1", 5.5, "it fell")
    assert (demo.owner, demo.ssh_port, demo.image, demo.git_url) == (None, None, "", "")
    assert gone.desired == "deleted"
    copy = tmp_path / f"huskies.db.before-{SCHEMA}"
    assert schema.version(copy) == "0001"
    assert everything(copy) == before

    # From now on a port is one project's; those without one do not collide.
    await opened.write(lambda c: projects_rows.change(c, demo.id, ssh_port=22200, uid=1000, gid=1001))
    with pytest.raises(IntegrityError):
        await opened.write(lambda c: projects_rows.change(c, gone.id, ssh_port=22200))
    await opened.close()
    again = await Store.open(database)
    kept = await again.read(lambda c: projects_rows.by_name(c, "demo"))
    assert kept is not None and kept.owner == (1000, 1001)
    await again.close()


def test_the_migrations_make_the_tables_of_the_code(empty_database: Path) -> None:
    with create_engine(f"sqlite:///{empty_database}").connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: (outbox_rows.next_pending, Conversation("t", "r")),
        lambda: (messages_rows.queued, 1, 2),
        lambda: (messages_rows.enqueue, 1, (1, 2), 100),
        lambda: (outbox_rows.undelivered, 1),
        lambda: (turns_rows.last_unfinished_business, SessionKey(1, 2)),
        lambda: (turns_rows.commands_since, 1, 2),
        lambda: (questions_rows.asked_of, 1, "fake:ana"),
        lambda: (questions_rows.count_open, 1),
        lambda: (questions_rows.open_of_turn, 1),
        lambda: (questions_rows.has_rule, 1, Question(id="q", kind="permission", rule="edit files")),
        lambda: (usage_rows.add, 1, "s1-0", usage_rows.Used()),
        lambda: (outbox_rows.by_key, "whatsapp", "huskies-7-1"),
        lambda: (outbox_rows.notices, 1, 7),
        lambda: (messages_rows.last_received_at, Conversation("whatsapp", "+49")),
    ],
    ids=[
        *("next_pending", "queued", "enqueue", "undelivered", "last_turn", "commands", "asked_of", "open", "of_turn"),
        *("rule", "usage", "by_key", "notices", "last_received"),
    ],
)
def test_what_every_message_asks_does_not_walk_the_history(
    empty_database: Path, make: Callable[[], tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own plan: no table is scanned, and none by an index over what is settled."""
    statements: list[tuple[str, Any]] = []
    run = Prepared._run

    def noted(prepared: Prepared, connection: Connection, values: Mapping[str, Any]) -> Any:
        text, constants = prepared.text(connection.dialect)
        statements.append((text, {**constants, **values}))
        return run(prepared, connection, values)

    monkeypatch.setattr(Prepared, "_run", noted)
    engine = connect(empty_database)
    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda *a: statements.append((a[2], a[3])))
        unit, *arguments = make()
        unit(connection, *arguments)
        plans = []
        for statement, values in statements:
            raw = connection.connection.cursor()
            plans += [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        connection.rollback()
    engine.dispose()
    assert plans
    history = [plan for plan in plans if plan.startswith("SCAN") and "SCALAR" not in plan and "CONSTANT" not in plan]
    assert not history, plans


def test_the_schemas_name_is_alembics_head() -> None:
    assert ScriptDirectory(str(schema.MIGRATIONS)).get_heads() == [SCHEMA]


async def test_what_a_thread_chooses_is_the_rooms_too_if_it_has_none(store: Store) -> None:
    """Where a mention is a thread of its own, the next one would find no project otherwise."""

    def unit(connection: Connection) -> list[int | None]:
        made = [
            projects_rows.reserve(
                connection,
                name=name,
                path=Path("/x"),
                adopted=False,
                made_source=True,
                wanted="",
                token="t",
                permissions="auto",
                created_by="fake:ana",
            ).id
            for name in ("first", "second")
        ]
        threads = [
            conversations.ensure(connection, Conversation("fake", "room", thread), direct=False).id
            for thread in ("t1", "t2")
        ]
        conversations.switch(connection, threads[0], made[0])
        conversations.switch(connection, threads[1], made[1])
        found = [conversations.find(connection, Conversation("fake", "room", t)) for t in ("", "t1", "t2")]
        return [None if one is None or one.project_id is None else one.project_id - made[0] for one in found]

    assert await store.write(unit) == [0, 0, 1]
