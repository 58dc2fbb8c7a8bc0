"""A project's own page, in Chromium: what its agent did, what it may do, and what can be done with it."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.integration.test_page_chat import chat, room, say, theirs
from tests.integration.test_page_live import Room

__all__ = ["room"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def about(room: Room) -> Page:
    page = await room.tab()
    await page.get_by_role("link", name="About demo").click()
    await expect(page.get_by_role("heading", name="demo", exact=True)).to_be_visible()
    return page


async def test_turns_appear_with_what_they_changed(room: Room) -> None:
    (room.gateway.projects / "demo" / "a.py").write_text("print('one')\n")
    page = await about(room)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text))
    await expect(page.get_by_text("None yet.")).to_be_visible()
    await room.gateway.send("@@write a.py print('two')\n@@cost 0.42", "t1")
    turn = page.locator(".turns li").first
    await expect(turn).to_contain_text("answered")
    await expect(turn).to_contain_text("0.42 USD")
    await expect(turn).to_contain_text("@@write a.py print('two')")
    await room.gateway.send("@@fail <b>no</b>", "t2")
    await expect(turn).to_contain_text("failed")
    await expect(turn).to_contain_text("<b>no</b>")
    await page.locator(".turns li").nth(1).get_by_role("link", name="What it changed").click()
    await expect(page.locator(".sides del")).to_have_text("print('one')")
    await expect(page.locator(".sides ins")).to_have_text("print('two')")
    assert wrong == []


async def test_a_button_says_it_to_the_bot_and_asks_again(room: Room) -> None:
    page = await about(room)
    await page.get_by_text("Delete", exact=True).first.click()
    await page.get_by_role("button", name="Delete").click()
    await expect(theirs(page).last).to_contain_text("Delete demo?")
    await expect(page.get_by_role("heading", name="demo")).to_be_visible()
    await page.get_by_role("button", name="confirm").click()
    await expect(theirs(page).last).to_contain_text("demo is deleted")


async def test_what_is_written_beside_a_button_is_said_with_it(room: Room) -> None:
    page = await about(room)
    await page.get_by_text("Set the agent", exact=True).first.click()
    await page.get_by_label("New agent").fill("nonsense\nstop")
    await page.get_by_role("button", name="Set the agent").click()
    await expect(theirs(page).last).to_contain_text("There is no command “agent nonsense stop”")


async def test_a_button_never_means_another_project(room: Room) -> None:
    await room.gateway.send("new project shop", "p2")
    page = await about(room)
    talk = await room.context.new_page()
    await talk.goto(page.url.replace("/project/", "/chat/"))
    await say(talk, "switch shop")
    await expect(theirs(talk).last).to_contain_text("shop")
    await page.get_by_text("Set the agent", exact=True).first.click()
    await page.get_by_label("New agent").fill("scripted")
    await page.get_by_role("button", name="Set the agent").click()
    await expect(page.get_by_text("Your conversation about demo is about shop now.")).to_be_visible()


async def test_what_was_allowed_is_taken_back(room: Room) -> None:
    talk = await chat(room)
    await say(talk, "@@permission Bash npm test\n@@say done")
    await expect(talk.get_by_text("May I use Bash?")).to_be_visible()
    await say(talk, "allow session")
    await expect(theirs(talk).last).to_contain_text("done")
    page = await about(room)
    await expect(page.get_by_role("heading", name="Allowed for a session")).to_be_visible()
    await page.get_by_role("button", name="Take it back").click()
    await expect(theirs(page).last).to_contain_text("No longer allowed without asking")


async def test_a_log_is_followed(room: Room) -> None:
    page = await about(room)
    await page.get_by_role("link", name="Logs").click()
    log = page.locator("#log")
    file = next(room.gateway.state.glob("demo/sled.log"))
    with file.open("a") as opened:
        opened.write("<script>here</script> it is\n")
    await expect(log).to_contain_text("<script>here</script> it is")
