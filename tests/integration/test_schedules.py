"""Schedules on a whole gateway, with real sleds: made by people and by agents, due once, whatever is killed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway import clock
from gateway.chat import Fate
from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.testing import patience
from tests.support.claude_cli import eventually
from tests.support.gateway_process import GatewayProcess
from tests.support.house import House, house, make_settings
from tests.support.wall_clock import WallClock

pytestmark = [pytest.mark.timeout(120)]

FAST: dict[str, dict[str, Any]] = {"dispatcher": {"coalesce_window_ms": 50}, "agent": {"kind": "scripted"}}
HOUR = 3600.0


@pytest_asyncio.fixture
async def yard(tmp_path: Path, wall_clock: WallClock) -> AsyncIterator[House]:
    settings = make_settings(tmp_path, people={"fake:ana": {"name": "Ana", "tz": "Europe/Berlin"}})
    async with house(tmp_path, engine=ProcessEngine(host_environment()), settings=settings) as made:
        await made.ask("new project shop", contains="is ready", within_s=30)
        yield made


async def reads(made: House, part: str, times: int = 1) -> str:
    texts = await made.transport.until(lambda texts: sum(part in text for text in texts) >= times, 20)
    return next(text for text in reversed(texts) if part in text)


async def test_a_reminder_is_a_message_to_the_agent_when_it_is_due(yard: House, wall_clock: WallClock) -> None:
    told = await yard.ask("remind 2h look at the build", contains="Reminder 1")
    assert re.fullmatch(r"Reminder 1: \w{3} [\d-]+ \d\d:\d\d \(Europe/Berlin\)\. `cancel 1` takes it back\.", told)
    assert "1. " in await yard.ask("schedules", contains="Schedules of shop")
    wall_clock.step(2 * HOUR - 5)
    wall_clock.step(2 * HOUR + 1)
    answer = await reads(yard, "You said:")
    assert "Schedule 1 of Ana, due" in answer and answer.endswith("look at the build")
    assert yard.transport.texts.count("⏰ “look at the build”") == 1
    await yard.quiet()
    assert "has no schedules" in await yard.ask("schedules", contains="schedules")


async def test_it_recurs_until_it_is_cancelled(yard: House, wall_clock: WallClock) -> None:
    await yard.ask("every 2h water the plants", contains="Schedule 1: next on")
    for n in (1, 2, 3):
        wall_clock.step(n * (2 * HOUR + 1))
        await reads(yard, "⏰ “water the plants”", n)
        await yard.transport.until(lambda texts, n=n: sum("You said:" in text for text in texts) >= n, 20)  # type: ignore[misc]
    assert await yard.ask("cancel 1", contains="cancelled") == "Schedule 1 is cancelled: “water the plants”."
    assert "There is no schedule 1." in await yard.ask("cancel 1", contains="no schedule")


async def test_an_agent_makes_its_own_and_people_see_one_quiet_line(yard: House, wall_clock: WallClock) -> None:
    told = await yard.ask("@@huskies remind 1h @@say it is time", contains="done:")
    assert told.startswith("done: Reminder 1:")
    line = await reads(yard, "🐾")
    assert line.startswith("🐾 shop's agent: reminder 1: ")
    wall_clock.step(HOUR + 1)
    assert (await reads(yard, "You said:")).endswith("it is time")


async def test_a_quiet_one_says_nothing_if_its_agent_says_so(yard: House, wall_clock: WallClock) -> None:
    await yard.ask("every 1h @@huskies quiet --quiet", contains="Schedule 1")
    await yard.ask("every 90m @@say news --quiet", contains="Schedule 2")
    wall_clock.step(HOUR + 2)
    await eventually(
        lambda: yard.app.fates.counts[Fate.ANSWERED] == 5
    )  # three of Ana's, the agent's, and the schedule's
    wall_clock.step(1.5 * HOUR + 2)
    assert "news" in await reads(yard, "news")
    await yard.quiet()
    assert not [text for text in yard.transport.texts if "⏰" in text or "will not be sent" in text]
    refused = await yard.ask("@@huskies quiet", contains="refused:")
    assert "Somebody waits for the answer of this turn" in refused


async def test_five_failures_in_a_row_and_it_rests_until_it_is_retried(yard: House, wall_clock: WallClock) -> None:
    await yard.ask("every 1h @@fail no water", contains="Schedule 1")
    for n in range(1, 6):
        wall_clock.step(n * (HOUR + 1))
        await reads(yard, "The run failed: no water", n)
    told = await reads(yard, "rests")
    assert told == (
        "⏰ Schedule 1 failed 5 times in a row and rests: “@@fail no water”. `schedules` has its last error, "
        "`retry 1` tries again."
    )
    wall_clock.step(9 * HOUR)
    shown = await yard.ask("schedules", contains="Schedules of shop")
    assert "1. rests after 5 failures (`retry 1`), every `1h`" in shown and "last error: no water" in shown
    assert "Schedule 1 is sent now, and then again on" in await yard.ask("retry 1", contains="sent now")
    await reads(yard, "The run failed: no water", 6)
    assert sum("rests:" in text for text in yard.transport.texts) == 1


async def test_a_project_that_is_down_misses_it_and_people_are_told(yard: House, wall_clock: WallClock) -> None:
    await yard.ask("remind 1h look", contains="Reminder 1")
    await yard.ask("down", contains="down")
    wall_clock.step(HOUR + 1)
    assert await reads(yard, "was not run") == "shop is not up, so this was not run: “look”"
    assert "Schedule 1 failed: “look”." in await reads(yard, "Schedule 1 failed")
    await yard.ask("up shop", contains="up")
    await yard.ask("retry 1", contains="sent now")
    assert (await reads(yard, "You said:")).endswith("look")


async def test_a_busy_session_does_not_lose_it(yard: House, wall_clock: WallClock) -> None:
    await yard.ask("remind 1h afterwards", contains="Reminder 1")
    source = yard.app.projects.get("shop").path
    await yard.say("@@run while [ ! -e go ]; do sleep 0.05; done")
    wall_clock.step(HOUR + 1)
    await reads(yard, "⏰ “afterwards”")
    (source / "go").touch()
    assert (await reads(yard, "You said:")).endswith("afterwards")


async def test_a_project_has_so_many_and_what_is_no_time_is_a_prompt(
    yard: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.hive.schedules.MOST", 1)
    await yard.ask("remind 1h one", contains="Reminder 1")
    assert "This project has 1 schedules." in await yard.ask("remind 1h two", contains="has 1")
    assert "is past" in await yard.ask("remind 2020-01-01 9:00 three", contains="past")
    assert "You said:" in await yard.ask("every time I open it, it fails", contains="open it")
    assert "needs more" in await yard.ask("remind 2h", contains="needs")


async def test_three_days_away_is_one_message_that_says_so(tmp_path: Path) -> None:
    wall_clock = WallClock(tmp_path)
    with GatewayProcess(tmp_path, FAST) as gateway:
        gateway.environment[clock.VARIABLE] = str(wall_clock.file)
        await gateway.start()
        await gateway.send("new project demo", "p")
        await gateway.send("every day 9:00 @@run echo ran >> count", "e")
        await gateway.stop()
        wall_clock.step(3 * 24 * HOUR + 60)
        await gateway.start()
        count = gateway.projects / "demo" / "count"
        async with asyncio.timeout(20 * patience()):
            while not count.exists():
                await asyncio.sleep(0.05)
        listed = (await gateway.send("schedules", "s"))["replies"][0]
        due = datetime.strptime(re.search(r"\d{4}-\d\d-\d\d 09:00", listed)[0], "%Y-%m-%d %H:%M")  # type: ignore[index]
        now = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 3 * 24 * HOUR)
        assert due > now and (due - now).days == 0
        assert count.read_text() == "ran\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["schedule.made", "command.settled", "schedule.fired", "turn.claimed", "turn.finished"]
)
async def test_an_agents_reminder_comes_once_wherever_the_gateway_is_killed(tmp_path: Path, point: str) -> None:
    wall_clock = WallClock(tmp_path)
    with GatewayProcess(tmp_path, FAST) as gateway:
        gateway.environment[clock.VARIABLE] = str(wall_clock.file)
        await gateway.start()
        await gateway.send("new project demo", "p")
        count, source = gateway.projects / "demo" / "count", gateway.projects / "demo"
        order = (
            "@@run touch at; while [ ! -e go ]; do sleep 0.05; done; huskies remind 2h @@run 'echo ran >> count'; true"
        )
        asking = asyncio.create_task(gateway.send_surely(order, "m"))
        async with asyncio.timeout(30 * patience()):
            while not (source / "at").exists():
                await asyncio.sleep(0.02)
        making = point in ("schedule.made", "command.settled")
        if making:
            await gateway.stop()
            gateway.spawn(kill_at=point)
        (source / "go").touch()
        if making:
            await gateway.died()
            await gateway.start()
        await asyncio.wait_for(asking, 60 * patience())
        if not making:
            await gateway.stop()
            gateway.spawn(kill_at=point)
        wall_clock.step(2 * HOUR + 1)
        if not making:
            await gateway.died()
            await gateway.start()
        async with asyncio.timeout(60 * patience()):
            while not count.exists():
                await asyncio.sleep(0.05)
        assert (await gateway.send_surely("@@say done", "d"))["replies"] == ["done"], "what came with it is over"
        assert count.read_text() == "ran\n"
