"""Talking in the page, in Chromium: messages, cards, several tabs, and a gateway that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.integration.test_page_live import Room
from tests.support.browser import chromium, visit
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest_asyncio.fixture
async def room(tmp_path: Path, unused_port: int) -> AsyncIterator[Room]:
    config: dict[str, dict[str, Any]] = {
        "gateway": {"listen": f"127.0.0.1:{unused_port}"},
        "dispatcher": {"coalesce_window_ms": 50},
        "agent": {"kind": "scripted", "permissions": "ask"},
    }
    with GatewayProcess(tmp_path, config) as gateway:
        await gateway.start()
        await gateway.send("new project demo", "p")
        async with chromium() as browser, visit(browser) as context:
            yield Room(gateway, context)


async def chat(room: Room) -> Page:
    """A tab with the conversation about demo."""
    page = await room.tab()
    await page.get_by_role("link", name="demo", exact=True).click()
    await expect(page.get_by_role("heading", name="demo")).to_be_visible()
    return page


async def say(page: Page, text: str) -> None:
    box = page.get_by_label("Message")
    await box.fill(text)
    await box.press("Enter")
    await expect(box).to_have_value("")


def mine(page: Page) -> Locator:
    return page.locator("#rows .mine")


def theirs(page: Page) -> Locator:
    return page.locator("#rows .theirs")


async def test_a_message_is_answered_in_every_tab_and_stays(room: Room) -> None:
    first = await chat(room)
    await expect(first.get_by_text("Nothing was said here yet.")).to_be_visible()
    second = await room.context.new_page()
    await second.goto(first.url)
    wrong: list[str] = []
    first.on("pageerror", lambda error: wrong.append(str(error)))
    first.on("console", lambda said: wrong.append(said.text))
    await say(first, "hello **there**\n<img src=x onerror=alert(1)>")
    for page in (first, second):
        await expect(theirs(page).last).to_contain_text("hello there")
        await expect(theirs(page).locator("strong", has_text="there")).to_be_visible()
        await expect(page.locator("#rows img")).to_have_count(0)
        await expect(theirs(page).last).to_contain_text("<img src=x onerror=alert(1)>")
        await expect(mine(page)).to_have_count(1)
        await expect(mine(page)).to_contain_text("answered")
    await say(second, "status")
    for page in (first, second):
        await expect(theirs(page).last).to_contain_text("demo: ready")
    assert wrong == []
    shown = await first.locator("#rows > li").evaluate_all("rows => rows.map(row => row.id)")
    await first.reload()
    assert await first.locator("#rows > li").evaluate_all("rows => rows.map(row => row.id)") == shown, "as it was"


async def test_a_card_is_answered_with_a_button_and_everybody_sees_it(room: Room) -> None:
    first = await chat(room)
    second = await room.context.new_page()
    await second.goto(first.url)
    await say(first, "@@permission Bash npm test\n@@say done with it")
    for page in (first, second):
        await expect(page.get_by_text("May I use Bash?")).to_be_visible()
    await second.get_by_role("button", name="allow", exact=True).click()
    for page in (first, second):
        await expect(page.get_by_text("Allowed by")).to_be_visible()
        await expect(theirs(page).last).to_contain_text("done with it")
        await expect(page.get_by_role("button", name="allow", exact=True)).to_have_count(0)
        await expect(mine(page)).to_have_count(1)  # a press is no message


async def test_stop_is_one_tap_away_and_a_draft_survives(room: Room) -> None:
    page = await chat(room)
    await say(page, "@@run sleep 300")
    await expect(mine(page).first).to_contain_text("running")
    await page.get_by_label("Message").fill("I was about to say")
    await page.get_by_role("button", name="Stop").click()
    await expect(theirs(page).last).to_contain_text("Stopped the run.")
    await expect(mine(page).first).to_contain_text("interrupted")
    await page.reload()
    await expect(page.get_by_label("Message")).to_have_value("I was about to say")


async def test_a_kill_loses_and_doubles_nothing(room: Room) -> None:
    page = await chat(room)
    await say(page, "@@run while [ ! -e go ]; do sleep 0.05; done; echo once >> count\n@@say finished")
    await expect(mine(page)).to_contain_text("running")
    room.gateway.kill()
    await expect(page.get_by_role("status")).to_have_text("Not connected. Trying again…")
    box = page.get_by_label("Message")
    await box.fill("while you were away")
    await box.press("Enter")
    await expect(page.get_by_text("That was not sent. Send it again.")).to_be_visible()
    (room.gateway.projects / "demo" / "go").touch()
    await room.gateway.start()
    await expect(theirs(page).last).to_contain_text("finished")
    await expect(box).to_have_value("while you were away")
    await box.press("Enter")
    await expect(theirs(page).last).to_contain_text("while you were away")
    await expect(theirs(page)).to_have_count(2)
    await expect(mine(page)).to_have_count(2)
    assert (room.gateway.projects / "demo" / "count").read_text() == "once\n"


async def test_what_is_sent_twice_is_one_message(room: Room) -> None:
    """The answer to a request may be lost; the same one comes again."""
    page = await chat(room)
    await page.evaluate(
        """() => {
            const real = window.fetch;
            window.fetch = async (...request) => {
                if (request[1]?.method !== "POST") return real(...request);
                await real(...request);
                window.fetch = real;
                throw new TypeError("the answer was lost");
            };
        }"""
    )
    box = page.get_by_label("Message")
    await box.fill("only once")
    await box.press("Enter")
    await expect(page.get_by_text("That was not sent. Send it again.")).to_be_visible()
    await box.press("Enter")
    await expect(box).to_have_value("")
    await expect(theirs(page)).to_have_count(1)
    await expect(mine(page)).to_have_count(1)


async def test_what_is_asked_anywhere_is_answered_at_home(room: Room) -> None:
    home = await room.tab()
    await expect(home.get_by_role("heading", name="Needs you")).to_be_hidden()
    asking = asyncio.create_task(room.gateway.send("@@permission Bash npm test\n@@say done with it", "q"))
    await expect(home.get_by_role("heading", name="Needs you")).to_be_visible()
    await expect(home.locator("#needs")).to_contain_text("May I use Bash?")
    await expect(home.locator("#needs")).to_contain_text("npm test")
    await expect(home.locator("#needs")).to_contain_text("cli:default")
    await home.get_by_role("button", name="allow").click()
    await expect(home.get_by_role("heading", name="Needs you")).to_be_hidden()
    assert (await asking)["replies"][-1].endswith("done with it")
    asking = asyncio.create_task(room.gateway.send("@@permission Bash npm test\n@@say done with it", "q2"))
    await expect(home.get_by_role("button", name="deny")).to_be_visible()
    await room.gateway.send("deny", "d")
    await expect(home.get_by_role("heading", name="Needs you")).to_be_hidden()  # answered there, gone here
    await asking


async def test_a_turn_that_failed_needs_somebody_until_it_is_tried_again(room: Room) -> None:
    home = await room.tab()
    talk = await room.context.new_page()
    await talk.goto(f"{home.url}chat/demo")
    await say(talk, "@@fail the disk <b>is full</b>")
    await expect(home.locator("#needs")).to_contain_text("The last turn failed: “the disk <b>is full</b>”")
    await say(talk, "now it works")
    await expect(home.get_by_role("heading", name="Needs you")).to_be_hidden()
    await say(talk, "@@fail again")
    await home.get_by_role("button", name="try again").click()
    await expect(mine(talk)).to_have_count(4)  # the button says it in that conversation
    await room.gateway.send("switch demo", "s")
    await room.gateway.send("@@fail elsewhere", "e")
    await expect(home.locator("#needs")).to_contain_text("Write retry in that room")
    await expect(home.get_by_role("button", name="try again")).to_have_count(0)


async def test_nothing_jumps_while_an_answer_grows(room: Room) -> None:
    page = await chat(room)
    await page.evaluate(
        """() => {
            window.moved = 0;
            new PerformanceObserver((list) => {
                for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.moved += shift.value;
            }).observe({ type: "layout-shift" });
        }"""
    )
    await page.evaluate(
        """() => {
            const body = new URLSearchParams({ text: "@@stream 400", id: "growing-1" });
            return fetch("/chat/demo", { method: "POST", body, redirect: "manual" });
        }"""
    )
    await expect(mine(page)).to_contain_text("answered")
    await expect(page.locator("[data-live]")).to_have_count(0)
    assert await theirs(page).last.evaluate("row => row.offsetHeight") > 0
    assert await page.evaluate("moved") < 0.1, "what the web's own measure calls good"


async def test_what_waits_for_a_yes_is_on_top_for_whoever_was_asked(room: Room) -> None:
    home = await room.tab()
    talk = await room.context.new_page()
    await talk.goto(f"{home.url}chat/demo")
    await say(talk, "delete demo")
    await expect(home.locator("#needs")).to_contain_text("Shall it be done? “delete demo”")
    await home.get_by_role("button", name="confirm").click()
    await expect(home.get_by_role("heading", name="Needs you")).to_be_hidden()
    await expect(home.get_by_text("No projects yet.")).to_be_visible()


async def test_whoever_waits_is_counted(room: Room) -> None:
    home = await room.tab()
    talk = await room.context.new_page()
    await talk.goto(f"{home.url}chat/demo")
    await say(talk, "@@run while [ ! -e go ]; do sleep 0.05; done")
    row = home.locator("#projects li").first
    await expect(row).to_contain_text("root: “@@run while")
    waiting = asyncio.create_task(room.gateway.send("and this", "w"))
    await expect(row).to_contain_text("1 waiting")
    (room.gateway.projects / "demo" / "go").touch()
    await waiting
    await expect(row).to_contain_text("ready")
    await expect(row).not_to_contain_text("waiting")
