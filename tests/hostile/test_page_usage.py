"""The charts: days of whoever looks, words that could be markup, questions that make no sense."""

from __future__ import annotations

import datetime
import re
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert, select, update

from gateway import clock
from gateway.store import Connection
from gateway.store.tables import turns
from tests.hostile.test_page import Browser, browser

__all__ = ["browser"]


async def a_turn(browser: Browser) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.made.say("@@cost 0.42", sender="fake:ana")
    await browser.made.quiet()


def rows(text: str, chart: str) -> dict[str, list[str]]:
    """The table behind a chart."""
    table = text.partition(f"<caption>{chart}</caption>")[2].partition("</table>")[0]
    found = re.findall(r'<th scope="row">(.*?)</th>((?:<td>.*?</td>)+)', table)
    return {label: re.findall("<td>(.*?)</td>", cells) for label, cells in found}


@pytest.mark.parametrize(
    "query",
    [
        "days=31",
        "days=-1",
        "days=1e9",
        "days=",
        "by=everything",
        "by=day%00",
        "days=30;by=day",
        "days=<script>",
        "by=DAY",
    ],
)
async def test_a_question_that_makes_no_sense_says_what_can_be_asked(browser: Browser, query: str) -> None:
    await browser.log_in()
    status, text, _ = await browser.get(f"/usage?{query}")
    assert status == 400
    assert "days can be 7, 30, 90, and by can be day, project, person, agent." in text
    assert "<script>" not in text


async def test_nobody_sees_them_without_a_login(browser: Browser) -> None:
    assert (await browser.get("/usage"))[0] == 401


async def test_names_are_words(browser: Browser) -> None:
    await a_turn(browser)
    await browser.app.store.write(lambda c: c.execute(update(turns).values(requested_by="fake:<img src=x>")))
    await browser.log_in()
    _, text, _ = await browser.get("/usage?by=person")
    assert "<img src=x" not in text
    assert rows(text, "Turns by person") == {"fake:&lt;img src=x&gt;": ["1"]}


async def test_a_turn_counts_on_the_day_of_whoever_looks(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_turn(browser)
    now = datetime.datetime(2026, 3, 29, 12, 0, tzinfo=datetime.UTC).timestamp()  # clocks are set that day in Berlin
    late = datetime.datetime(2026, 3, 28, 23, 30, tzinfo=datetime.UTC).timestamp()
    await browser.app.store.write(lambda c: c.execute(update(turns).values(started_at=late, ended_at=late + 60)))
    await browser.log_in()
    monkeypatch.setattr(clock, "now", lambda: now)
    for zone, day in (("Europe/Berlin", "Sun 29 Mar"), ("America/New_York", "Sat 28 Mar")):
        there = ZoneInfo(zone)
        monkeypatch.setattr(type(browser.app.services.schedules), "zone", lambda *_, there=there: there)
        _, text, _ = await browser.get("/usage?days=7")
        counted = rows(text, "Turns by day")
        assert len(counted) == 7
        assert {label for label, (count,) in counted.items() if count != "0"} == {day}
        assert f"Days are those of {zone}." in text


async def test_all_that_was_used_is_in_the_table(browser: Browser) -> None:
    await a_turn(browser)

    def more(connection: Connection) -> None:
        (row,) = connection.execute(select(turns)).mappings()
        for number in range(60):
            values = {**row, "run": f"more-{number}", "requested_by": f"fake:p{number}", "cost_usd": 1.0}
            values.pop("id")
            connection.execute(insert(turns).values(**values))

    await browser.app.store.write(more)
    await browser.log_in()
    _, text, _ = await browser.get("/usage?by=person")
    assert len(rows(text, "Cost by person")) == 61
    assert "21 more are in the table." in text
    _, text, _ = await browser.get("/usage?by=agent&days=90")
    (spent,) = rows(text, "Cost by agent").values()
    assert float(spent[0].removesuffix(" USD")) >= 60
