"""What turns used: attributed to the right one, counted once, kept when the database stumbles."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.chat import Fate
from gateway.store import budgets, turns, usage
from gateway.store.tables import turns as table
from gateway.store.usage import Used
from gateway.wire import Accounts
from sled.protocol import Finished
from tests.conftest import World

CALL = Used(10, 20, 30, 40, model="big")
AGENTS_OWN = Finished(
    ending="answered", input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4, model="told"
)


async def rows(world: World) -> list[dict[str, Any]]:
    """All turns, oldest first."""
    found = await world.store.read(lambda c: c.execute(select(table).order_by(table.c.id)).mappings().all())
    return [dict(row) for row in found]


async def tokens(world: World) -> list[tuple[int, int, int, int]]:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return [tuple(row[name] for name in names) for row in await rows(world)]


async def begin(world: World, project: int, text: str, room: str = "room") -> turns.Turn:
    """A turn that has begun."""
    await world.activate(project, room)
    await world.say(text, text, room=room)
    await world.next_run()
    found: list[turns.Turn] = await world.store.read(turns.open_turns)
    return found[-1]


async def finish(world: World, turn: turns.Turn, end: Finished = AGENTS_OWN) -> None:
    await world.sleds.say(turn.key.project_id, turn.run, end)
    assert await world.settled(turn.batch[0].external_id) is Fate.ANSWERED


async def add(world: World, project: int, session: str, used: Used = CALL) -> bool:
    return await world.store.write(lambda c: usage.add(c, project, session, used))


async def test_calls_add_up_in_the_sessions_open_turn(world: World) -> None:
    project = await world.project()
    turn = await begin(world, project, "a")
    assert await add(world, project, turn.session)
    assert await add(world, project, turn.session, Used(1, 1, 1, 1, at_least=True, limited=True))
    [row] = await rows(world)
    assert await tokens(world) == [(11, 21, 31, 41)]
    assert (row["calls"], row["limits"], row["at_least"], row["model"]) == (2, 1, True, "big")


async def test_what_the_proxy_counted_is_not_told_over_by_the_agent(world: World) -> None:
    project = await world.project()
    turn = await begin(world, project, "a")
    await add(world, project, turn.session)
    await finish(world, turn)
    assert await tokens(world) == [(10, 20, 30, 40)]
    assert (await rows(world))[0]["model"] == "big"


async def test_an_agent_whose_calls_do_not_pass_here_tells_its_own(world: World) -> None:
    project = await world.project()
    turn = await begin(world, project, "a")
    await finish(world, turn)
    assert await tokens(world) == [(1, 2, 3, 4)]
    assert ((await rows(world))[0]["model"], (await rows(world))[0]["calls"]) == ("told", 0)


async def test_a_call_that_is_told_after_its_turns_end_is_counted_once(world: World) -> None:
    project = await world.project()
    turn = await begin(world, project, "a")
    await finish(world, turn)
    await add(world, project, turn.session)
    await add(world, project, turn.session)
    assert await tokens(world) == [(20, 40, 60, 80)]


async def test_a_call_goes_to_its_session_else_to_the_projects_newest_turn(world: World) -> None:
    one = await world.project("one")
    first = await begin(world, one, "a", "first")
    await finish(world, first)
    second = await begin(world, one, "b", "second")
    await finish(world, second)
    assert first.session != second.session
    await add(world, one, first.session)
    assert [row["calls"] for row in await rows(world)] == [1, 0]
    for odd in ("", "x", "s999-0", "s1", "s1-0 ", "s-1-0", "s1-0'; --", "s" + "9" * 30 + "-0"):
        await add(world, one, odd)
    assert [row["calls"] for row in await rows(world)] == [1, 8]


async def test_another_projects_session_cannot_be_charged(world: World) -> None:
    rich, poor = await world.project("rich"), await world.project("poor")
    turn = await begin(world, rich, "a", "first")
    assert not await add(world, poor, turn.session), "it has no turn at all"
    own = await begin(world, poor, "b", "second")
    assert await add(world, poor, turn.session)
    assert [(row["id"], row["calls"]) for row in await rows(world)] == [(turn.id, 0), (own.id, 1)]


async def test_turns_that_a_killed_gateway_left_are_in_doubt(world: World) -> None:
    project = await world.project()
    done = await begin(world, project, "a", "first")
    await finish(world, done)
    open_one = await begin(world, project, "b", "second")
    await world.store.write(usage.doubt_open_turns)
    assert [row["at_least"] for row in await rows(world)] == [False, False], "the scripted agent calls no model"
    await world.store.write(lambda c: c.execute(update(table).values(agent="claude")).close())
    await world.store.write(usage.doubt_open_turns)
    assert [row["at_least"] for row in await rows(world)] == [False, True]
    assert (await rows(world))[1]["id"] == open_one.id


@pytest.mark.sqlite
async def test_an_account_survives_a_locked_database_and_is_flushed_at_the_end(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = await world.project()
    turn = await begin(world, project, "a")
    await world.store.write(lambda c: c.exec_driver_sql("PRAGMA busy_timeout = 10").close())
    accounts = Accounts(world.store, retry_s=0.05)
    with sqlite3.connect(tmp_path / "huskies.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            accounts.take(str(project), turn.session, CALL)
        while "not accounted for yet" not in caplog.text:
            await asyncio.sleep(0.01)
        other.execute("ROLLBACK")
    await accounts.close()
    assert await tokens(world) == [(30, 60, 90, 120)]


@pytest.mark.sqlite
async def test_what_cannot_be_written_in_time_is_said(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = await world.project()
    await world.store.write(lambda c: c.exec_driver_sql("PRAGMA busy_timeout = 10").close())
    accounts = Accounts(world.store, retry_s=60)
    with sqlite3.connect(tmp_path / "huskies.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        accounts.take(str(project), "", CALL)
        await accounts.close(within_s=0.2)
        other.execute("ROLLBACK")
    assert "1 model calls are not accounted for" in caplog.text


async def test_the_larger_of_both_accounts_counts(world: World) -> None:
    """A budget is got round neither by `stop`, as an agent that is killed tells no cost, nor by telling a small one."""
    project = await world.project()
    turn = await begin(world, project, "a")
    await add(world, project, turn.session, Used(1000, 100, 0, 0, model="big", usd=0.1))
    await finish(world, turn, Finished(ending="answered", cost_usd=0.15))
    killed = await begin(world, project, "b")
    await add(world, project, killed.session, Used(2000, 200, 0, 0, model="big", at_least=True, usd=0.3))
    await world.sleds.say(project, killed.run, Finished(ending="interrupted", reason="stopped"))
    await world.settled("b")
    liar = await begin(world, project, "c")
    await add(world, project, liar.session, Used(2000, 200, 0, 0, model="big", usd=0.5))
    await finish(world, liar, Finished(ending="answered", cost_usd=1e-9))
    found = await rows(world)
    assert [max(row["cost_usd"], row["metered_usd"]) for row in found] == pytest.approx([0.15, 0.3, 0.5])
    (everything,) = (await world.store.read(lambda c: usage.sums(c, 0.0, 1e10))).values()
    assert everything.usd == pytest.approx(0.95)
    spent, _, _ = await world.store.read(lambda c: budgets.of_day(c, "x", 0.0))
    assert spent == {project: pytest.approx(0.95)}
    # What the calls were counted as was there already; the end of each turn adds what is beyond that.
    assert world.admission.left(project)[0] == pytest.approx(0.05)
