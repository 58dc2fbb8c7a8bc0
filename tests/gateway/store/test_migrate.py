"""A state goes from SQLite to PostgreSQL and back: all of it, also when that was cut off, and the source stays."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from gateway.errors import StateError
from gateway.store import Store, copying
from gateway.store.migrate import migrate
from gateway.store.tables import SCHEMA, conversations, messages, projects
from tests.conftest import close_world, make_world
from tests.support.postgres import Server


@pytest.fixture
def address(postgres: Server, tmp_path: Path) -> Iterator[str]:
    yield postgres.of(tmp_path)
    postgres.drop_all()


async def lived_in(folder: Path) -> Path:
    """A state with a history: turns, replies, an open conversation, odd characters, and what an early version wrote."""
    world = await make_world(folder)
    project = await world.project()
    await world.activate(project)
    for number in range(3):
        await world.say(f'wörds 🐺 \\ " {number}', f"m{number}")
        _, run = await world.next_run()
        await world.sleds.finish(project, run, f"answer {number}")
        await world.settled(f"m{number}")
    await world.transport.until(lambda texts: "answer 2" in texts)
    await close_world(world)
    file = folder / "huskies.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE messages SET text = 'nul ' || char(0) WHERE id = 1")
        values = [("many", f"x{n}", 1, "s", "n", f"text {n}", "answered", 1.1 * n) for n in range(2500)]
        columns = "transport, external_id, conversation_id, sender, sender_name, text, fate, received_at"
        connection.executemany(f"INSERT INTO messages ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        connection.execute("INSERT INTO cursors VALUES ('b', '1'), ('B', '2'), ('a-b', '3')")
        connection.commit()
    return file


async def test_there_and_back_nothing_is_lost_and_the_source_stays(
    tmp_path: Path, address: str, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--database") == "postgres":
        pytest.skip("it begins with a file")
    file = await lived_in(tmp_path)
    before = hashlib.sha256(file.read_bytes()).digest()
    told: list[str] = []
    there = migrate(file, address, back=False, said=told.append)
    assert hashlib.sha256(file.read_bytes()).digest() == before
    assert {one.table: one.rows for one in there}["messages"] == 2503
    assert "messages: 2503 rows" in told
    with pytest.raises(StateError, match=r"has a state already .*name an empty database"):
        migrate(file, address, back=False, said=told.append)
    with pytest.raises(StateError, match=rf"has a state already .*move {file} aside"):
        migrate(file, address, back=True, said=told.append)
    returned = tmp_path / "again" / "huskies.db"
    back = migrate(returned, address, back=True, said=told.append)
    assert [(one.table, one.digest) for one in back] == [(one.table, one.digest) for one in there]
    # And it lives on: new rows get ids of their own behind those that came.
    store = await Store.open(address)
    values = {"transport": "t", "room": "r", "thread": "", "direct": True, "ambient": False}
    new = await store.write(lambda c: c.scalar(insert(conversations).values(**values).returning(conversations.c.id)))
    assert new == 2
    assert await store.read(lambda c: c.scalar(select(messages.c.text).where(messages.c.id == 1))) == "nul \ufffd"
    assert await store.read(lambda c: c.scalar(select(projects.c.adopted))) is False
    await store.close()


@pytest.mark.sqlite
async def test_a_copy_that_was_cut_off_goes_on_and_nothing_uses_it_before(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await lived_in(tmp_path)
    told: list[str] = []

    def cut(line: str) -> None:
        told.append(line)
        if line.startswith("turns"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(file, address, back=False, said=cut)
    with pytest.raises(StateError, match=r"a copy into this database was cut off; .* type: huskies migrate"):
        await Store.open(address)
    with pytest.raises(StateError, match="was cut off"):
        migrate(tmp_path / "other" / "huskies.db", address, back=True, said=told.append)
    told.clear()
    migrate(file, address, back=False, said=told.append)
    assert "projects: 0 rows" in told and "messages: 2503 rows" in told, "what was there already is not copied again"
    await (await Store.open(address)).close()


@pytest.mark.sqlite
async def test_a_source_that_changed_meanwhile_is_copied_anew(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await lived_in(tmp_path)
    filled = copying._compared
    monkeypatch.setattr(copying, "_compared", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        migrate(file, address, back=False, said=lambda _: None)
    monkeypatch.setattr(copying, "_compared", filled)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE messages SET text = 'edited' WHERE id = 2")
        connection.commit()
    told: list[str] = []
    migrate(file, address, back=False, said=told.append)
    assert "messages has changed since the copy was cut off; copying everything again" in told
    store = await Store.open(address)
    assert await store.read(lambda c: c.scalar(select(messages.c.text).where(messages.c.id == 2))) == "edited"
    await store.close()


@pytest.mark.sqlite
async def test_what_is_not_the_same_is_not_used(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = await lived_in(tmp_path)
    row = copying._row
    spoiled = iter([{"transport": "b", "value": "other"}])

    def spoil(each: Any) -> dict[str, Any]:
        return (next(spoiled, None) if "value" in each else None) or row(each)

    monkeypatch.setattr(copying, "_row", spoil)
    with pytest.raises(StateError, match="cursors is not the same in both databases; nothing uses the copy"):
        migrate(file, address, back=False, said=lambda _: None)
    with pytest.raises(StateError, match="was cut off"):
        await Store.open(address)


async def test_a_state_of_another_version_is_left_to_a_gateway(
    tmp_path: Path, address: str, empty_database: Path
) -> None:
    with pytest.raises(StateError, match="there is no state in"):
        migrate(tmp_path / "huskies.db", address, back=False, said=lambda _: None)
    shutil.copy(empty_database, tmp_path / "old.db")
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0009'")
        connection.commit()
    with pytest.raises(StateError, match=f"has schema 0009, and this version of huskies {SCHEMA}"):
        migrate(tmp_path / "old.db", address, back=False, said=lambda _: None)
