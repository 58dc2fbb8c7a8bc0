"""The page made for people: by the keyboard, by a screen reader, on a phone, as an app, and while nobody looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import FilePayload, Page, expect

from tests.integration.test_page_chat import chat, mine, room, say, theirs
from tests.integration.test_page_files import PNG
from tests.integration.test_page_live import Room
from tests.support.browser import visit

__all__ = ["room"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def axe() -> str:
    """What looks at a page as people who cannot see it do."""
    file = Path(os.environ.get("HUSKIES_PEERS", "/nowhere")) / "node_modules" / "axe-core" / "axe.min.js"
    if not file.is_file():
        pytest.skip("axe-core is not installed; `make test` installs it")
    return file.read_text()


async def findings(page: Page, axe: str) -> list[str]:
    await page.evaluate(axe)
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['html']} {node['failureSummary']}" for one in found["violations"] for node in one["nodes"]
    ]


async def has_no_way_aside(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
async def test_every_view_is_for_everybody(room: Room, axe: str, look: str) -> None:
    browser = room.context.browser
    assert browser is not None
    (room.gateway.projects / "demo" / "a.md").write_text(
        "# It works\n\n```python\ndef f(x: int) -> str:\n    # why\n    return 'a' * x + f\"{x}\"\n```\n\n"
        "| a | b |\n|---|---|\n"
        + "| one | two |\n" * 3
        + "\n> said\n\n"
        + "wide " * 40
        + "x" * 300
        + "\n\n1. one\n2. two\n"
    )
    await room.gateway.send("@@run cat a.md", "m0")
    await room.gateway.send("@@write b.md two\n@@cost 0.42", "m1")
    await room.gateway.send("@@fail it did not work", "m2")
    async with visit(browser, dark=look == "dark", phone=look == "phone") as context:
        page = await Room(room.gateway, context).tab()
        home = page.url
        talk = await context.new_page()
        await talk.goto(f"{home}chat/demo")
        await talk.get_by_label("Add files").set_input_files(
            [
                FilePayload(name="dot.png", mimeType="image/png", buffer=PNG),
                FilePayload(name="a.pdf", mimeType="application/pdf", buffer=b"x"),
            ]
        )
        await say(talk, "@@run cat a.md\n@@say done")
        await expect(theirs(talk).last).to_contain_text("It works")
        await say(talk, "@@permission Bash npm test")
        await expect(talk.get_by_role("button", name="allow", exact=True)).to_be_visible()
        await expect(page.get_by_role("heading", name="Needs you")).to_be_visible()
        seen: dict[str, list[str]] = {"home": await findings(page, axe), "chat": await findings(talk, axe)}
        assert await has_no_way_aside(page)
        assert await has_no_way_aside(talk)
        await talk.get_by_label("Message").fill("sta")
        await expect(talk.get_by_role("option").first).to_be_visible()
        seen["completing"] = await findings(talk, axe)
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("dialog")).to_be_visible()
        seen["palette"] = await findings(page, axe)
        for path in (
            *(
                "chat/all",
                "rooms",
                "room/1",
                "flow",
                "usage",
                "usage?by=person&days=90",
                "project/demo",
                "project/demo/changes",
                "project/demo/logs/sled",
                "nothing",
                "login/none",
            ),
            *("chat/nothing", "project/nothing"),
        ):
            await page.goto(f"{home}{path}")
            for details in await page.locator("details").all():
                await details.evaluate("one => (one.open = true)")
            seen[path] = await findings(page, axe)
            assert await has_no_way_aside(page), path
        await page.goto(await room.gateway.page_link())
        seen["login"] = await findings(page, axe)
        assert {view: found for view, found in seen.items() if found} == {}


async def test_the_keyboard_alone_gets_everywhere(room: Room) -> None:
    page = await room.tab()
    await page.keyboard.press("Control+k")
    search = page.get_by_role("combobox", name="Search")
    await expect(search).to_be_focused()
    await expect(page.get_by_role("option", name="new project")).to_be_visible()
    await page.keyboard.type("about demo")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="demo", exact=True)).to_be_visible()
    await page.keyboard.press("Control+k")
    await page.keyboard.type("queue")  # in what is told of `status`
    await expect(page.get_by_role("option").first).to_contain_text("status [project]")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    box = page.get_by_label("Message")
    await expect(box).to_be_focused()
    await expect(box).to_have_value("status ")
    await page.keyboard.type("de")
    await expect(page.get_by_role("option")).to_contain_text("status demo")
    await page.keyboard.press("Tab")
    await expect(box).to_have_value("status demo")
    await page.keyboard.press("Enter")
    await expect(theirs(page).last).to_contain_text("demo: ready")
    await page.keyboard.type("and what is not completed is sent as it is")
    await page.keyboard.press("Enter")
    await expect(theirs(page).last).to_contain_text("sent as it is")
    await page.keyboard.press("Control+k")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_it_can_be_an_app(room: Room) -> None:
    page = await room.tab()
    address = await page.locator("link[rel=manifest]").evaluate("link => link.href")
    told = await page.evaluate("async address => (await fetch(address)).json()", address)
    assert (told["name"], told["start_url"], told["display"]) == ("huskies", "/", "standalone")
    for icon in told["icons"]:
        kind = await page.evaluate("async src => (await fetch(src)).headers.get('content-type')", icon["src"])
        assert kind.partition(";")[0] == icon["type"]


async def test_who_looks_elsewhere_is_notified_once(room: Room) -> None:
    await room.context.add_init_script(
        """
        window.notes = [];
        window.Notification = class extends EventTarget {
            static permission = "granted";
            constructor(title, options) { super(); window.notes.push([title, options.body]); }
            close() {}
        };
        """
    )
    page = await chat(room)
    await say(page, "seen")
    await expect(theirs(page)).to_have_count(1)
    assert await page.evaluate("notes") == []
    await page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    await say(page, "@@stream 20\n@@say unseen")
    await expect(theirs(page).last).to_contain_text("unseen")
    await expect(mine(page).last).to_contain_text("answered")
    ((title, body),) = await page.evaluate("notes")
    assert title == "demo · huskies"
    assert "unseen" in body
