"""`page`, and who reads the link."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from sqlalchemy import select

from gateway.config import Role
from gateway.store.tables import conversations, outbox
from tests.support.house import House, house, make_settings

GROUP: dict[str, Any] = {"direct": False, "addressed": True, "room": "group"}


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


def link_in(text: str) -> str:
    found = re.search(r"http\S+/login/(\S+)", text)
    assert found is not None, text
    return found[1]


async def test_a_person_gets_a_link_as_the_one_they_are(home: House) -> None:
    told = await home.ask("page", sender="fake:ben", sender_name="Ben")
    assert told.startswith("This logs you in to the page as Ben, once, within 5 min:\nhttp://huskies.localhost:")
    assert "A phone cannot reach it until an operator sets `gateway.public_url`." in told
    offered = home.app.services.logins.offered(link_in(told))
    assert offered is not None
    assert (offered.sender, offered.role) == ("fake:ben", Role.MEMBER)


async def test_where_others_read_along_it_goes_to_that_person_alone(home: House) -> None:
    refused = await home.ask("page", **GROUP)
    assert refused == "The link is for you alone, and others read along here. Write `page` to me directly."
    await home.ask("projects", room="private")
    await home.say("page", **GROUP)
    await home.transport.until(lambda texts: any("I sent it to you directly" in text for text in texts))
    await home.transport.until(lambda texts: any("/login/" in text for text in texts))
    there = select(conversations.c.room, outbox.c.text).join(
        conversations, outbox.c.conversation_id == conversations.c.id
    )
    sent = await home.app.store.read(lambda c: c.execute(there.where(outbox.c.text.like("%/login/%"))).all())
    assert [room for room, _ in sent] == ["private"]
    assert home.app.services.logins.offered(link_in(sent[0].text)) is not None


async def test_a_public_address_is_one_that_phones_reach(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, gateway={"public_url": "https://bot.example.org"})
    async with house(tmp_path, settings=settings) as made:
        told = await made.ask("page")
    assert "\nhttps://bot.example.org/login/" in told
    assert "phone" not in told


async def test_a_public_address_with_a_path_is_not_the_pages(tmp_path: Path) -> None:
    """Cookies and links of a page are about a whole host."""
    settings = make_settings(tmp_path, gateway={"public_url": "https://example.org/bot"})
    async with house(tmp_path, settings=settings) as made:
        assert "\nhttp://huskies.localhost:" in await made.ask("page")


async def test_people_see_and_end_where_they_are_logged_in(home: House) -> None:
    nowhere = "You are not logged in to the page anywhere. `page` sends you a link."
    assert await home.ask("sessions web") == nowhere
    logins = home.app.services.logins
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    mine = [await logins.begin(link_in(await home.ask("page")), agent) for _ in range(3)]
    theirs = await logins.begin(link_in(await home.ask("page", sender="fake:ben")), "")
    first, *_, last = (await home.ask("sessions web", contains="Firefox")).splitlines()
    assert first == "1. Firefox on Linux, since 0 s, last used within 60 min"
    assert last == "`sessions web end 1` logs one out, `sessions web end` all of them."
    assert await home.ask("sessions web end 4") == (
        "You are not logged in there. `sessions web` lists where you are."
    ), "that is Ben's"
    assert await home.ask("sessions web end 2", contains="Logged out") == "Logged out: Firefox on Linux."
    assert [logins.who(one) is not None for one in (*mine, theirs)] == [True, False, True, True]
    assert (await home.ask("sessions web end", contains="Logged out")).count("Logged out") == 2
    assert [logins.who(one) is not None for one in (*mine, theirs)] == [False, False, False, True]
