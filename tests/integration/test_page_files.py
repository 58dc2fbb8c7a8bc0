"""Files in the page's conversations, both ways, in Chromium; and what was said before."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, expect

from gateway.testing import patience
from tests.integration.test_page_chat import chat, mine, room, say, theirs
from tests.integration.test_page_live import Room

__all__ = ["room"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

#: A red dot.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg=="
)


async def test_files_go_both_ways(room: Room, tmp_path: Path) -> None:
    page = await chat(room)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text))
    picture = FilePayload(name="dot.png", mimeType="image/png", buffer=PNG)
    hostile = FilePayload(
        name='"><img src=x onerror=alert(1)>.svg', mimeType="image/svg+xml", buffer=b"<svg onload='x'/>"
    )
    await page.get_by_label("Add files").set_input_files([picture, hostile])
    await expect(page.get_by_role("button", name="Remove dot.png")).to_be_visible()
    (room.gateway.projects / "demo" / "out.png").write_bytes(PNG)
    await say(page, "@@run cat .huskies/inbox/*.svg\n@@send out.png\n@@say two of them")
    await expect(page.get_by_role("button", name="Remove dot.png")).to_have_count(0)
    shown = mine(page).first.locator("img")
    await expect(shown).to_have_count(1)
    await expect(shown).to_have_attribute("alt", "dot.png")
    assert await shown.evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 5
    link = mine(page).first.get_by_role("link", name="onerror=alert(1)>.svg")
    async with page.expect_download() as started:
        await link.click()
    assert Path(await (await started.value).path()).read_bytes() == b"<svg onload='x'/>"
    await expect(theirs(page).filter(has_text="<svg onload='x'/>")).to_have_count(1)
    sent = theirs(page).locator("img")
    assert await sent.evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 5
    assert wrong == []


async def test_code_is_coloured_and_copied(room: Room) -> None:
    page = await chat(room)
    await room.context.grant_permissions(["clipboard-read", "clipboard-write"])
    (room.gateway.projects / "demo" / "code.md").write_text("Look:\n\n```python\ndef f():\n    return '<b>'\n```\n")
    await say(page, "@@run cat code.md")
    await expect(theirs(page).locator("pre .c-k").first).to_have_text("def")
    await theirs(page).get_by_role("button", name="Copy").click()
    await expect(theirs(page).get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == "def f():\n    return '<b>'"


async def test_who_scrolls_up_reads_on(room: Room) -> None:
    page = await chat(room)
    await page.evaluate(
        """async () => {
            for (let number = 100; number < 170; number++) {
                const body = new URLSearchParams({ text: "version", id: `history-${number}` });
                await fetch("/chat/demo", { method: "POST", body, redirect: "manual" });
            }
        }"""
    )
    await expect(theirs(page)).to_have_count(70)
    whole = await page.locator("#rows > li").evaluate_all("rows => rows.map(row => row.id)")
    await page.reload()
    assert await page.locator("#rows > li").count() == 60
    top = await page.evaluate(
        "scrollTo(0, 300), document.getElementById('rows').children[8].getBoundingClientRect().top"
    )
    read = page.locator(f"#{await page.locator('#rows > li').nth(8).get_attribute('id')}")
    await expect(page.locator("#rows > li").nth(60)).to_be_attached()
    assert abs(await read.evaluate("row => row.getBoundingClientRect().top") - top) < 2, (
        "what is read stays where it is"
    )
    async with asyncio.timeout(30 * patience()):
        while await page.locator("#rows > li").count() < 140:
            await page.mouse.wheel(0, -2000)
            await page.evaluate("() => new Promise(requestAnimationFrame)")
    assert await page.locator("#rows > li").evaluate_all("rows => rows.map(row => row.id)") == whole
    await expect(page.get_by_role("link", name="Older messages")).to_be_hidden()
