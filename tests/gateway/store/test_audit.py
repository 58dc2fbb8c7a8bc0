"""The audit: appended with its effect, chained, and any change of it is found."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection, delete, insert, update

from gateway.errors import StateError
from gateway.store import Store, audit
from gateway.store.audit import Head, everything, verify
from gateway.store.seal import Seal
from gateway.store.tables import audit as table
from gateway.store.tables import cursors
from tests.support.databases import place
from tests.support.grounds import until


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(place(tmp_path), Seal(tmp_path))
    yield opened
    await opened.close()


async def filled(store: Store, folder: Path, count: int = 5) -> None:
    """Rows, and the newest one noted: that is done behind the back of who waits for its commit."""

    def unit(number: int, connection: Connection) -> None:
        audit.add(connection, "command", "fake:ana", f"do {number} 🐺", detail={"n": number})

    for number in range(count):
        await store.write(partial(unit, number))
    seal = Seal(folder)
    await until(lambda: (head := seal.noted()) is not None and head.id == count, lambda: f"noted: {seal.noted()}")


async def wrong(store: Store, folder: Path) -> str:
    """What a check finds."""
    seal = Seal(folder)
    return await store.read(lambda c: verify(everything(c), seal.key(), seal.noted()).wrong)


async def test_rows_are_chained_and_hold(store: Store, tmp_path: Path) -> None:
    await filled(store, tmp_path)
    assert await wrong(store, tmp_path) == ""
    rows = await store.read(lambda c: audit.newest(c, 10))
    assert [row.text for row in rows] == [f"do {n} 🐺" for n in range(5)]
    assert Seal(tmp_path).noted() == Head(5, rows[-1].mac)
    assert len({row.mac for row in rows}) == 5
    assert oct((tmp_path / "audit.key").stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (update(table).where(table.c.id == 2).values(text="do 1"), "row 2 is not as it was written"),
        (update(table).where(table.c.id == 2).values(actor="fake:ben"), "row 2 is not as it was written"),
        (update(table).where(table.c.id == 3).values(detail=json.dumps({"n": 9})), "row 3 is not as it was written"),
        (update(table).where(table.c.id == 1).values(at=1.0), "row 1 is not as it was written"),
        (delete(table).where(table.c.id == 2), "row 2 is missing"),
        (delete(table).where(table.c.id == 5), "row 5, which was the newest once, is missing"),
        (delete(table), "row 5, which was the newest once, is missing"),
    ],
)
async def test_each_change_is_found(store: Store, tmp_path: Path, change: object, told: str) -> None:
    await filled(store, tmp_path)
    await store.write(lambda c: c.execute(change))  # type: ignore[call-overload]
    assert (await wrong(store, tmp_path)).startswith(told)


async def test_a_row_that_somebody_adds_without_the_key_is_found(store: Store, tmp_path: Path) -> None:
    await filled(store, tmp_path)
    forged = {
        "id": 6,
        "at": 1.0,
        "actor": "x",
        "word": "",
        "project": "",
        "kind": "command",
        "text": "",
        "detail": "{}",
    }
    await store.write(lambda c: c.execute(insert(table).values(**forged, mac="0" * 64)))
    assert (await wrong(store, tmp_path)).startswith("row 6 is not as it was written")
    with pytest.raises(StateError, match="is not a key of the audit"):
        (tmp_path / "audit.key").write_bytes(b"short")
        await wrong(store, tmp_path)


async def test_what_is_not_done_is_not_in_it(store: Store, tmp_path: Path) -> None:
    """A unit that fails takes its row along, and the others' chain holds."""

    def fails(connection: Connection) -> None:
        audit.add(connection, "command", "fake:ana", "never")
        connection.execute(insert(cursors).values(transport="a", value=None))

    def works(connection: Connection) -> None:
        audit.add(connection, "command", "fake:ana", "done")

    await asyncio.gather(*(store.write(unit) for unit in (fails, works, fails, works, fails)), return_exceptions=True)
    assert [row.text for row in await store.read(lambda c: audit.newest(c, 10))] == ["done", "done"]
    assert await wrong(store, tmp_path) == ""


async def test_odd_and_long_text_holds(store: Store, tmp_path: Path) -> None:
    def unit(text: str, connection: Connection) -> None:
        audit.add(connection, "question", "agent:demo", text, project="demo")

    for text in ("nul \0 half \udc80", "x" * 10_000, "'\"\\\n"):
        await store.write(partial(unit, text))
    assert await wrong(store, tmp_path) == ""
    assert len((await store.read(lambda c: audit.newest(c, 10, project="demo")))[1].text) < 4100


@pytest.mark.sqlite
async def test_a_key_of_another_state_does_not_fit(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "huskies.db", Seal(tmp_path))
    await filled(store, tmp_path)
    await store.close()
    (tmp_path / "other").mkdir()
    with closing(sqlite3.connect(tmp_path / "huskies.db")) as one, closing(sqlite3.connect(":memory:")) as two:
        one.backup(two)
    reopened = await Store.open(tmp_path / "huskies.db", Seal(tmp_path / "other"))
    assert (await wrong(reopened, tmp_path / "other")).startswith("row 1 is not as it was written")
    await reopened.close()
