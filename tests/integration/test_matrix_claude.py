"""Cards and files in an encrypted Matrix room, through a whole gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
from nio.crypto.attachments import decrypt_attachment

from tests.integration.test_matrix_gateway import talking
from tests.support.matrix_room import Room, contains, is_final
from tests.support.matrix_user import MatrixUser, reacts
from tests.support.processes import until
from tests.support.synapse import Synapse

pytestmark = [pytest.mark.synapse, pytest.mark.timeout(120)]


async def card(room: Room, part: str) -> str:
    """The event id of the question that contains `part`, once the bot offers its answers below it."""
    await room.sees(contains(part))
    event = await room.user.sees(contains(part), room=room.room, by=room.bot)
    await room.user.sees(reacts(event["event_id"], "❌"), room=room.room, by=room.bot)
    return str(event["event_id"])


async def test_a_tap_answers_once_and_only_for_whoever_may(synapse: Synapse, tmp_path: Path) -> None:
    async with talking(synapse, tmp_path, encrypted=True) as (_, room):
        stranger = synapse.register("eve-" + tmp_path.name.lower().replace("_", "-")[:30])
        async with MatrixUser(synapse.url, stranger) as eve:
            await room.user.invite(room.room, eve.user_id)
            await eve.join(room.room)
            await room.say("huskies: @@permission Bash make test\n@@say over")
            event_id = await card(room, "May I use Bash?")
            await eve.react(room.room, event_id, "✅")
            await room.user.sees(reacts(event_id, "✅"), room=room.room, by=eve.user_id)
            await room.user.react(room.room, event_id, "❌")
            await room.sees(contains("Denied by"))
            await room.user.react(room.room, event_id, "✅")  # too late
            told = await room.sees(contains("over"))
            assert "denied" in told
            await room.say("huskies: questions")
            await room.sees(is_final("No questions are open here."))
            assert not any("May I use Bash?" in text for text in room.texts()), "the card is its outcome"


async def test_files_come_and_go(synapse: Synapse, tmp_path: Path) -> None:
    async with talking(synapse, tmp_path, encrypted=True) as (gateway, room):
        data = b"\x89PNG" + bytes(50_000)
        await room.user.share(room.room, data, encrypted=True, filename="photo.png", body="look at this")
        told = await room.sees(contains("look at this"))
        assert ".huskies/inbox/photo.png" in told
        assert (gateway.projects / "demo" / ".huskies" / "inbox" / "photo.png").read_bytes() == data

        await room.say("@@write result.csv a,b\n@@send result.csv\n@@say sent")
        event = await room.user.sees(
            lambda e: e["content"].get("filename") == "result.csv", room=room.room, by=room.bot
        )
        sealed = event["content"]["file"]
        body = (await room.user.client.download(sealed["url"])).body
        assert decrypt_attachment(body, sealed["key"]["k"], sealed["hashes"]["sha256"], sealed["iv"]) == b"a,b\n"
        outbox = gateway.projects / "demo" / ".huskies" / "outbox"
        await until(lambda: [path.name for path in outbox.iterdir()] == [".gitignore"], 10)
