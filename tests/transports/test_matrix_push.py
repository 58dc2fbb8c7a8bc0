"""What rings on a person's phone, by the homeserver's own push rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.chat import Conversation, MessageRef, Reply
from tests.support.matrix_user import MatrixUser, body_is

if TYPE_CHECKING:
    from tests.transports.conftest import World

pytestmark = pytest.mark.synapse


async def rang(user: MatrixUser) -> list[tuple[str, bool]]:
    """The events that somebody was notified of, oldest first, and whether they were highlighted."""
    path = "/_matrix/client/v3/notifications"
    async with await user.client.send(
        "GET", path, headers={"Authorization": f"Bearer {user.client.access_token}"}
    ) as it:
        found = (await it.json())["notifications"]
    return [(one["event"]["event_id"], {"set_tweak": "highlight"} in one["actions"]) for one in reversed(found)]


async def test_an_answer_that_is_news_rings_and_neither_edits_nor_notices_do(world: World) -> None:
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    here = Conversation("matrix", room)
    await bot.send(room, "hello", "key 0")
    before = await rang(ana)
    live = await bot.transport.send(here, Reply("⏳ Working", live=True), "key 1")
    await bot.transport.edit(live, Reply("⏳ Working, 20 s", live=True), "key 2")
    answer = await bot.transport.send(here, Reply("the answer", notifies=True), "key 3")
    called = await bot.transport.send(here, Reply("and you", notifies=True, mentions=(ana.user_id,)), "key 4")
    await bot.transport.edit(live, Reply("✔ 3 min"), "key 5")
    await ana.sees(body_is("and you"), room=room)
    assert (await rang(ana))[len(before) :] == [(answer.external_id, False), (called.external_id, True)]


async def test_the_sdk_names_no_one_who_was_not_called(world: World) -> None:
    """An agent's own words mention nobody, whatever they are."""
    ana, bot = await world.user(), await world.bot()
    room = await world.room(ana, bot)
    await bot.send(room, "hello", "key 0")
    said = f"{ana.user_id} @room [{ana.user_id}](https://matrix.to/#/{ana.user_id})"
    ref: MessageRef = await bot.transport.send(Conversation("matrix", room), Reply(said, notifies=True), "key 1")
    event = await ana.sees(lambda e: e["event_id"] == ref.external_id, room=room)
    assert event["content"]["m.mentions"] == {}
    assert (ref.external_id, True) not in await rang(ana)
