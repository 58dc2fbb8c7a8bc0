"""What is said elsewhere, for those who are there alone; and everywhere, for operators."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.chat import Conversation
from gateway.errors import TransportDown
from gateway.testing import FakeTransport
from tests.hostile.test_page import Browser, browser

__all__ = ["browser"]


class Several(FakeTransport):
    """A platform that says who is in a room."""

    inside: frozenset[str] = frozenset()
    is_down: bool = False

    async def is_in(self, _: Conversation, sender: str) -> bool:
        if self.is_down:
            raise TransportDown("away")
        return sender in self.inside


async def rooms(browser: Browser, sender: str) -> list[str]:
    await browser.log_in(sender)
    _, text, _ = await browser.get("/rooms")
    return re.findall(r'href="(/room/\d+)"', text)


async def test_a_room_is_read_by_those_who_are_in_it(browser: Browser) -> None:
    several = Several()
    browser.made.transport.__class__ = Several
    several = browser.made.transport  # type: ignore[assignment]
    several.inside, several.is_down = frozenset({"fake:ana", "fake:ben"}), False
    await browser.made.say("ana said <b>this</b>", sender="fake:ana", room="group", direct=False, addressed=True)
    await browser.made.say("ben said that", sender="fake:ben", room="group", direct=False, addressed=True)
    await browser.made.say("ana alone", sender="fake:ana", room="dm")
    await browser.made.quiet()
    dm, group = sorted(await rooms(browser, "fake:ana"), key=lambda path: int(path[6:]), reverse=True)
    _, text, _ = await browser.get(group)
    assert "ana said &lt;b&gt;this&lt;/b&gt;" in text
    assert "ben said that" in text
    assert "<form" not in text.partition("<main")[2], "there is nothing to send there"
    assert await rooms(browser, "fake:ben") == [group]
    assert (await browser.get(dm))[0] == (await browser.get("/room/999"))[0] == 404
    several.inside = frozenset({"fake:ana"})
    assert await rooms(browser, "fake:ben") == [], "who has left reads no more"
    assert (await browser.get(group))[0] == 404
    several.is_down = True
    await browser.log_in("fake:ana")
    assert (await browser.get(group))[0] == 404, "where that cannot be known, nobody does"
    assert (await browser.get(dm))[0] == 404


async def test_where_the_platform_does_not_say_only_ones_own_are_read(browser: Browser) -> None:
    await browser.made.say("ana said this", sender="fake:ana", room="group", direct=False, addressed=True)
    await browser.made.say("ana alone", sender="fake:ana", room="dm")
    await browser.made.quiet()
    assert len(await rooms(browser, "fake:ana")) == 1


@pytest.mark.parametrize("path", ["/rooms", "/room/1", "/flow"])
async def test_nobody_reads_without_a_login(browser: Browser, path: str) -> None:
    await browser.made.say("ana said this")
    await browser.made.quiet()
    status, text, _ = await browser.get(path)
    assert status == 401
    assert "ana said" not in text


async def test_operators_see_the_flow_and_members_do_not(browser: Browser) -> None:
    await browser.made.say("<script>ben</script> said this", sender="fake:ben", room="dm")
    await browser.made.quiet()
    await browser.log_in("fake:ben")
    status, text, _ = await browser.get("/flow")
    assert status == 403
    url = f"http://127.0.0.1:{browser.place.port}/live?after={browser.app.changes.now}&flow=all"
    headers = {"Host": browser.host, "Origin": browser.origin, "Cookie": browser.cookie}
    async with browser.web.ws_connect(url, headers=headers) as socket:
        assert (await socket.receive_json())["parts"] == []
        await browser.made.say("more", sender="fake:ben", room="dm")
        assert (await asyncio.wait_for(socket.receive_json(), 10))["parts"] == []
    await browser.log_in("fake:ana")
    _, text, _ = await browser.get("/flow")
    assert "&lt;script&gt;ben&lt;/script&gt; said this" in text
    headers["Cookie"] = browser.cookie
    async with browser.web.ws_connect(url, headers=headers) as socket:
        told = ""
        while "even more" not in told:
            if not told:
                await browser.made.say("even more", sender="fake:ben", room="dm")
            parts = (await asyncio.wait_for(socket.receive_json(), 10))["parts"]
            told += "".join(part["html"] for part in parts) or " "


async def test_what_somebody_was_asked_is_theirs_alone(browser: Browser) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.made.ask("delete demo", contains="Delete demo?")
    await browser.log_in("fake:ana")
    _, text, _ = await browser.get("/")
    assert "Shall it be done? “delete demo”" in text
    assert "in that room" in text, "it is answered where it was asked"
    await browser.log_in("fake:ben")
    assert "Shall it be done?" not in (await browser.get("/"))[1]
