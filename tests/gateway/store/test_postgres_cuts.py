"""The way to PostgreSQL is cut at every message of the protocol in turn: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select

from gateway.chat import Fate
from gateway.errors import StateError
from gateway.store import Store
from gateway.store.tables import cursors
from gateway.testing import patience
from sled.protocol import Event, Finished
from tests.conftest import World, close_world, make_world
from tests.support.cutting import Cutting, cutting
from tests.support.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.database._SETTLE_EVERY_S", 0.02)


def put(name: str) -> Callable[[Connection], object]:
    return lambda c: c.execute(insert(cursors).values(transport=name, value="1"))


async def kept(store: Store, name: str) -> None:
    """Whoever has something to keep hands it in again when it was refused; IntegrityError: it had been kept."""
    while True:
        try:
            await store.write(put(name))
            return
        except StateError:
            await asyncio.sleep(0.01)


async def scenario(store: Store) -> None:
    """Groups of one and of several, one of which fails, and looks between them."""
    await kept(store, "one")
    await asyncio.gather(*(kept(store, f"group{number}") for number in range(3)))
    names = await store.read(lambda c: c.scalars(select(cursors.c.transport)).all())
    assert {"one", "group0", "group1", "group2"} <= set(names)
    await kept(store, "last")


async def run(postgres: Server, folder: Path, proxy: Cutting, at: int) -> None:
    """The scenario, cut at that message."""
    real = postgres.of(folder)
    address = f"{real.replace(str(postgres.port), str(proxy.port))}?sslmode=disable"
    store = await Store.open(address)
    proxy.seen, proxy.at = 0, at
    async with asyncio.timeout(60 * patience()):
        await scenario(store)
        await store.close()
    proxy.at = 0
    rows = postgres.command(real.rpartition("/")[2], "SELECT transport FROM cursors")
    assert sorted(name for (name,) in rows) == ["group0", "group1", "group2", "last", "one"], at


async def test_a_write_that_was_answered_is_kept_and_one_that_was_refused_is_not(
    postgres: Server, tmp_path: Path
) -> None:
    async with cutting(postgres.port) as proxy:
        # How many messages there are depends on which units shared a commit: it ends where there was nothing to cut.
        for at in itertools.count(1):
            await run(postgres, tmp_path / str(at), proxy, at)
            postgres.drop_all()
            if proxy.cuts < at:
                break
        assert proxy.cuts > 40


def has(text: str, texts: list[str]) -> bool:
    return text in texts


async def conversation(world: World, project: int) -> None:
    """Two messages and their answers, whatever it takes; a platform hands in again what was not taken."""
    for number in range(2):
        while True:
            try:
                await world.say(f"hello {number}", f"m{number}")
                break
            except StateError:
                await asyncio.sleep(0.01)
        to, run = await world.next_run(30)
        assert to == project
        over = Event(run=run.run, seq=1, body=Finished(ending="answered", text=f"answer {number}", agent_session="a1"))
        while True:  # a sled sends again what was not acknowledged
            try:
                await world.dispatcher.on_event(project, over)
                break
            except StateError:
                await asyncio.sleep(0.01)
        assert await world.settled(f"m{number}", 30) is Fate.ANSWERED
        await world.transport.until(partial(has, f"answer {number}"), 60)


async def test_a_conversation_goes_on_across_cuts(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cutting(postgres.port) as proxy:
        total = 0
        for at in [0, *range(1, 10_000, 10)]:
            if at > total and at:
                break
            real = postgres.of(tmp_path / str(at))
            address = f"{real.replace(str(postgres.port), str(proxy.port))}?sslmode=disable"
            monkeypatch.setattr("tests.conftest.place", lambda _, address=address: address)
            (tmp_path / str(at)).mkdir()
            world = await make_world(tmp_path / str(at))
            project = await world.project()
            await world.activate(project)
            proxy.seen, proxy.at = 0, at
            await conversation(world, project)
            total = total or proxy.seen
            proxy.at = 0
            await close_world(world)
            name = real.rpartition("/")[2]
            said = [text for (text,) in postgres.command(name, "SELECT text FROM outbox WHERE kind = 'reply'")]
            assert said == ["answer 0", "answer 1"], at
            assert len(postgres.command(name, "SELECT id FROM messages")) == 2
            assert [text for text in world.transport.texts if text.startswith("answer")] == said
            postgres.drop_all()
        assert total > 100
