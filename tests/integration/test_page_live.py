"""The page is kept as things are, in Chromium, in front of a gateway that is also killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.support.browser import chromium, visit
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Room:
    """A gateway, and somebody's browser that is logged in."""

    def __init__(self, gateway: GatewayProcess, context: BrowserContext) -> None:
        self.gateway = gateway
        self.context = context

    async def tab(self) -> Page:
        """Another tab, logged in."""
        page = await self.context.new_page()
        link = await self.gateway.page_link()
        await page.goto(link)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", name="Projects")).to_be_visible()
        return page


@pytest_asyncio.fixture
async def room(tmp_path: Path, unused_port: int) -> AsyncIterator[Room]:
    config: dict[str, dict[str, Any]] = {
        "gateway": {"listen": f"127.0.0.1:{unused_port}"},
        "dispatcher": {"coalesce_window_ms": 50},
        "agent": {"kind": "scripted"},
    }
    with GatewayProcess(tmp_path, config) as gateway:
        await gateway.start()
        async with chromium() as browser, visit(browser) as context:
            yield Room(gateway, context)


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has_text=name)


async def test_projects_come_work_and_go_before_everybodys_eyes(room: Room) -> None:
    first = await room.tab()
    await expect(first.get_by_text("No projects yet.")).to_be_visible()
    second = await room.context.new_page()
    await second.goto(first.url)
    loads: list[str] = []
    for page in (first, second):
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        page.on("console", lambda said: loads.append(said.text))
    for name in ("shop", "api"):
        await room.gateway.send(f"new project {name}", name)
    for page in (first, second):
        await expect(row(page, "api")).to_contain_text("ready")
        assert await page.locator("#projects li strong").all_text_contents() == ["api", "shop"], "in their order"
        await expect(page.get_by_text("No projects yet.")).to_be_hidden()
    running = asyncio.create_task(room.gateway.send("@@run touch began; while [ ! -e go ]; do sleep 0.05; done", "m"))
    for page in (first, second):
        await expect(row(page, "api")).to_contain_text("at work")
        await expect(row(page, "api")).to_contain_text("@@run touch began")
        await expect(row(page, "api").locator(".busy")).to_be_visible()
    (room.gateway.projects / "api" / "go").touch()
    await running
    await room.gateway.send("down shop", "d")
    for page in (first, second):
        await expect(row(page, "api")).to_contain_text("ready")
        await expect(row(page, "api").locator(".busy")).to_have_count(0)
        await expect(row(page, "shop")).to_contain_text("down")
    asked = (await room.gateway.send("delete shop --purge", "x"))["replies"][0]
    await room.gateway.send(asked.split("`")[1], "y")
    for page in (first, second):
        await expect(row(page, "shop")).to_have_count(0)
    assert loads == [], "nobody loaded anything anew"


async def test_a_page_comes_back_by_itself_when_the_gateway_was_killed(room: Room) -> None:
    page = await room.tab()
    await room.gateway.send("new project demo", "p")
    await expect(row(page, "demo")).to_contain_text("ready")
    running = asyncio.create_task(room.gateway.send_surely("@@run while [ ! -e go ]; do sleep 0.05; done", "m"))
    await expect(row(page, "demo")).to_contain_text("at work")
    room.gateway.kill()
    await expect(page.get_by_role("status")).to_have_text("Not connected. Trying again…")
    (room.gateway.projects / "demo" / "go").touch()
    await room.gateway.start()
    await running
    await expect(page.get_by_role("status")).to_be_hidden()
    await expect(row(page, "demo")).to_contain_text("ready")
    await room.gateway.send("down demo", "d")
    await expect(row(page, "demo")).to_contain_text("down")


async def test_who_is_logged_out_elsewhere_sees_no_more(room: Room) -> None:
    page = await room.tab()
    await room.gateway.send("new project demo", "p")
    await expect(row(page, "demo")).to_contain_text("ready")
    await room.gateway.send("sessions web end", "e")
    await room.gateway.send("down demo", "d")
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert "demo" not in await page.content()
