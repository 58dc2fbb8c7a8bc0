"""The page as people open it: Chromium, in front of a gateway that runs in a terminal."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from tests.support.browser import chromium, visit
from tests.support.huskies import Huskies
from tests.support.terminal import ENTER, Terminal, at_terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest_asyncio.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    with Huskies(tmp_path) as huskies, at_terminal(huskies, "run") as made:
        await made.shows(lambda screen: any("huskies is ready" in row for row in screen.all))
        yield made


@pytest_asyncio.fixture(params=["desktop", "phone"])
async def context(request: pytest.FixtureRequest) -> AsyncIterator[BrowserContext]:
    is_phone = request.param == "phone"
    async with chromium() as browser, visit(browser, phone=is_phone, dark=is_phone) as made:
        yield made


def link_in(terminal: Terminal) -> str:
    found = re.search(r"http://huskies\.localhost:\d+/login/[\w-]{43}", "".join(terminal.screen.all))
    assert found is not None, terminal.screen.all
    return found[0]


async def is_at_home(page: Page) -> None:
    await expect(page.get_by_role("heading", name="Projects")).to_be_visible()


async def test_from_the_terminals_link_to_the_projects_and_out_again(
    terminal: Terminal, context: BrowserContext
) -> None:
    await terminal.shows(lambda screen: "/login/" in "".join(screen.all))
    terminal.type("new project demo" + ENTER)
    await terminal.shows(lambda screen: "demo is ready." in screen.all)
    page, link = await context.new_page(), link_in(terminal)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("console", lambda said: wrong.append(said.text))
    await page.goto(link)
    await expect(page.get_by_text("Is that you?")).to_be_visible()
    await page.reload()  # looking does not use it up
    await page.get_by_role("button", name="Log in").click()
    await is_at_home(page)
    row = page.get_by_role("listitem").filter(has_text="demo")
    await expect(row).to_contain_text("ready")
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, "nothing runs out of the window"
    assert wrong == []

    again = await page.goto(link)
    assert again is not None
    assert again.status == 410
    await page.goto("/".join(link.split("/")[:3]))
    await is_at_home(page)
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert await context.cookies() == []


async def test_from_the_terminals_link_to_a_project_and_an_answer(terminal: Terminal, context: BrowserContext) -> None:
    await terminal.shows(lambda screen: "/login/" in "".join(screen.all))
    page = await context.new_page()
    await page.goto(link_in(terminal))
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("link", name="to the bot", exact=True).click()
    await page.get_by_label("Message").fill("new project demo")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#rows .theirs").last).to_contain_text("demo is ready.")
    await page.get_by_role("link", name="Projects").click()
    await page.get_by_role("link", name="demo", exact=True).click()
    await page.get_by_label("Message").fill("hello there")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#rows .mine")).to_contain_text("answered")
    await expect(page.locator("#rows .theirs")).to_contain_text("hello there")


async def test_another_name_of_this_machine_leads_to_the_right_one(terminal: Terminal, context: BrowserContext) -> None:
    await terminal.shows(lambda screen: "/login/" in "".join(screen.all))
    page, link = await context.new_page(), link_in(terminal)
    await page.goto(link.replace("huskies.localhost", "127.0.0.1"))
    await page.wait_for_url(link)
    await page.get_by_role("button", name="Log in").click()
    await is_at_home(page)
    assert [cookie["domain"] for cookie in await context.cookies()] == ["huskies.localhost"]


async def test_a_site_elsewhere_can_neither_frame_nor_press_it(terminal: Terminal, context: BrowserContext) -> None:
    await terminal.shows(lambda screen: "/login/" in "".join(screen.all))
    link = link_in(terminal)
    origin, _, token = link.partition("/login/")
    page = await context.new_page()
    evil = (
        f'<iframe src="{link}"></iframe><form method="post" action="{origin}/login">'
        f'<input name="token" value="{token}"><button>Win</button></form>'
    )
    await page.route("http://evil.localhost/", lambda route: route.fulfill(body=evil, content_type="text/html"))
    await page.goto("http://evil.localhost/")
    await expect(page.frame_locator("iframe").get_by_text("Is that you?")).to_have_count(0)
    await page.get_by_role("button", name="Win").click()
    await expect(page.get_by_text("This was not sent by the page itself.")).to_be_visible()
    assert await context.cookies() == []
    await page.goto(link)
    await expect(page.get_by_text("Is that you?")).to_be_visible()
