"""The page beside a room on a real homeserver: what is asked in one is answered in the other, once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.integration.test_page_chat import say, theirs
from tests.support.browser import chromium, visit
from tests.support.gateway_process import GatewayProcess
from tests.support.matrix_room import Room, contains, is_final
from tests.support.matrix_user import MatrixUser
from tests.support.synapse import Synapse

pytestmark = [pytest.mark.synapse, pytest.mark.slow, pytest.mark.timeout(240)]


async def log_in(room: Room, context: BrowserContext) -> Page:
    """As the account that writes in the room, by the link that `page` has there."""
    await room.say("page")
    told = await room.sees(contains("/login/"))
    found = re.search(r"http://\S+/login/[\w-]{43}", told)
    assert found is not None
    page = await context.new_page()
    await page.goto(found[0])
    await expect(page.get_by_text(room.user.user_id)).to_be_visible()
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    return page


async def test_a_card_is_answered_on_the_other_side_and_once(
    synapse: Synapse, tmp_path: Path, unused_port: int
) -> None:
    bot, ana = synapse.register("bot-page"), synapse.register("ana-page")
    config: dict[str, dict[str, Any]] = {
        "gateway": {"listen": f"127.0.0.1:{unused_port}"},
        "access": {"operators": [f"matrix:{ana.user_id}"]},
        "dispatcher": {"coalesce_window_ms": 100},
        "agent": {"kind": "scripted", "permissions": "ask"},
        "transports": {
            "matrix": {
                "homeserver": synapse.url,
                "user_id": bot.user_id,
                "access_token": bot.access_token,
                "device_id": bot.device_id,
            }
        },
    }
    async with MatrixUser(synapse.url, ana) as user, chromium() as browser, visit(browser) as context:
        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            room_id = await user.create_room(invite=[bot.user_id])
            await user.sees_member(room_id, bot.user_id)
            room = Room(user, room_id, bot.user_id)
            await room.say("new project demo")
            await room.sees(contains("is ready"))
            home = await log_in(room, context)

            await room.say("@@permission Bash npm test\n@@run echo once >> count\n@@say went on")
            await room.sees(contains("May I use Bash?"))
            await expect(home.locator("#needs")).to_contain_text("npm test")
            await home.get_by_role("button", name="allow").click()
            await room.sees(contains("went on"))
            await expect(home.get_by_role("heading", name="Needs you")).to_be_hidden()

            talk = await context.new_page()
            await talk.goto(f"{home.url}chat/demo")
            await say(talk, "@@permission Bash npm start\n@@run echo once >> count\n@@say from the page")
            await expect(talk.get_by_text("May I use Bash?")).to_be_visible()
            number = (await home.locator("#needs li").get_attribute("id") or "").rpartition("-")[2]
            await room.say(f"allow #{number}")
            await expect(theirs(talk).last).to_contain_text("from the page")
            await expect(talk.get_by_role("button", name="allow", exact=True)).to_have_count(0)
            await room.say(f"allow #{number}")  # what is answered is answered
            await room.say("marker")
            await room.sees(is_final("You said:\nmarker"))
            assert (gateway.projects / "demo" / "count").read_text() == "once\n" * 2

            await home.get_by_role("link", name="Rooms").click()
            await home.get_by_role("link", name=room_id).click()
            await expect(theirs_in(home).last).to_contain_text("marker")
            await user.client.room_leave(room_id)
            await home.reload()
            await expect(home.get_by_text("There is no such room")).to_be_visible()


def theirs_in(page: Page) -> Any:
    return page.locator(".rows .theirs")
