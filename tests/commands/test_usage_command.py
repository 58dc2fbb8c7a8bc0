"""`usage`: sums by period, project and person, as people read them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from commands.usage import _count, _usd, periods
from gateway.store.tables import turns
from tests.support.house import House, house, make_settings


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("now", "starts"),
    [
        # A Sunday on which the clock was set back: its week began on a Monday with another offset.
        ("2026-10-25T12:00", ["2026-10-24T22:00", "2026-10-18T22:00", "2026-09-30T22:00"]),
        ("2026-10-26T00:00", ["2026-10-25T23:00", "2026-10-25T23:00", "2026-09-30T22:00"]),
        # A week that began in the month before.
        ("2026-07-01T23:59", ["2026-06-30T22:00", "2026-06-28T22:00", "2026-06-30T22:00"]),
    ],
)
def test_periods_begin_at_local_midnight_on_monday_and_on_the_first(berlin: None, now: str, starts: list[str]) -> None:
    found = [start.timestamp() for start in periods(datetime.fromisoformat(now)).values()]
    assert found == [datetime.fromisoformat(f"{start}+00:00").timestamp() for start in starts]


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (12_440, "12.4k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (2_500_000_000, "2.5G"),
    ],
)
def test_amounts_are_short(tokens: int, shown: str) -> None:
    assert _count(tokens) == shown


def test_small_costs_are_not_nothing() -> None:
    assert [_usd(amount) for amount in (0, 0.0036, 0.1, 12.345)] == ["0.00 USD", "0.0036 USD", "0.10 USD", "12.35 USD"]


async def change(here: House, turn: int, **values: object) -> None:
    await here.app.store.write(lambda c: c.execute(update(turns).where(turns.c.id == turn).values(**values)).close())


async def test_it_tells_who_used_what_in_which_project(tmp_path: Path) -> None:
    people = {"fake:ana": {"name": "Ana"}, "fake:ben": {"name": "Ben B."}}
    settings = make_settings(tmp_path, people=people, gateway={"keep_days": 20})
    async with house(tmp_path, settings=settings) as here:
        assert "**Today**: no runs" in await here.ask("usage", contains="Usage")
        for name in ("one", "two"):
            await here.ask(f"new project {name}", contains="ready")
        await here.ask("first", contains="first")
        await here.ask("second", contains="second", sender="fake:ben")
        await here.ask("switch one", contains="one")
        await here.ask("third", contains="third")
        known = {"started_at": time.time() - 60, "ended_at": time.time(), "calls": 1}
        await change(here, 1, **known, input_tokens=1234, output_tokens=50, cache_read_tokens=2_000_000, cost_usd=0.5)
        await change(here, 2, **known, input_tokens=10, output_tokens=5, at_least=True, waited_s=30, cost_usd=0.25)
        await change(here, 3, **known, input_tokens=1, output_tokens=1, cost_usd=0)  # killed: it has no cost
        told = await here.ask("usage", contains="Usage")
        today = told.split("\n\n")[1]
        assert today.splitlines() == [
            "**Today**: 3 runs, 2 min; at least 1.25k in, 56 out, 2M from cache; at least 0.75 USD",
            "- `two`: 2 runs, 1 min; at least 1.24k in, 55 out, 2M from cache; at least 0.75 USD",
            "- `one`: 1 run, 60 s; 1 in, 1 out; at least 0.00 USD",
            "- Ana: 2 runs, 2 min; 1.24k in, 51 out, 2M from cache; at least 0.50 USD",
            "- Ben B.: 1 run, 30 s; at least 10 in, 5 out; at least 0.25 USD",
        ]
        assert told.endswith("Anything older than 20 days is not kept.")
        await change(here, 1, started_at=0.0, ended_at=1.0)
        told = await here.ask("usage two", contains="Usage of two", sender="fake:ben")
        assert told.split("\n\n")[1].splitlines()[1:] == [
            "- Ben B.: 1 run, 30 s; at least 10 in, 5 out; at least 0.25 USD"
        ]


async def test_a_run_under_way_counts_at_least_what_is_known(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        await here.ask("new project one", contains="ready")
        await here.ask("hello", contains="hello")
        await change(here, 1, ended_at=None, cost_usd=0)
        told = await here.ask("usage one", contains="Usage of one")
        assert "1 run, 0 s; at least 0 in, 0 out; at least 0.00 USD" in told
        assert "- `fake:ana`: 1 run" in told
