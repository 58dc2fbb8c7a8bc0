"""What holds for every transport (`gateway.chat.Transport`). A new one is proven by a line in `LOCAL` or `REMOTE`."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.chat import Message, OutgoingFile, Reply
from gateway.errors import DeliveryRefused, TransportDown
from gateway.store import Store
from gateway.testing import patience
from tests.support.databases import place
from tests.support.emulate_grounds import EmulatedSlack, EmulatedWhatsApp
from tests.support.grounds import CliGround, FakeGround, Ground, PipeGround, WebGround, until
from tests.support.remote_grounds import CHOICES, MatrixGround, RemoteGround, SlackGround, WhatsAppGround

Make = Callable[[Store, Path, pytest.FixtureRequest], Ground]


@dataclass(frozen=True)
class Proof:
    """A transport on its ground. `needs`: the mark of what must be installed."""

    name: str
    ground: type[Ground]
    make: Make
    needs: str = ""


def matrix(name: str, *, encrypted: bool) -> Proof:
    def make(store: Store, folder: Path, request: pytest.FixtureRequest) -> Ground:
        return MatrixGround(store, folder, request.getfixturevalue("synapse"), encrypted=encrypted)

    return Proof(name, MatrixGround, make, "synapse")


def emulated(name: str, ground: type[EmulatedSlack | EmulatedWhatsApp]) -> Proof:
    def make(store: Store, _: Path, request: pytest.FixtureRequest) -> Ground:
        return ground(store, request.getfixturevalue("npm_packages") / "emulate")

    return Proof(name, ground, make, "peers")


LOCAL = [
    Proof("fake", FakeGround, lambda store, *_: FakeGround(store)),
    Proof("console", PipeGround, lambda store, folder, _: PipeGround(store, folder)),
    Proof("web", WebGround, lambda store, *_: WebGround(store)),
    Proof("cli", CliGround, lambda store, *_: CliGround(store)),
]
REMOTE = [
    matrix("matrix", encrypted=False),
    matrix("matrix-encrypted", encrypted=True),
    Proof("slack-socket", SlackGround, lambda store, *_: SlackGround(store, "socket")),
    Proof("slack-http", SlackGround, lambda store, *_: SlackGround(store, "http")),
    emulated("slack-emulate", EmulatedSlack),
    Proof("whatsapp", WhatsAppGround, lambda store, *_: WhatsAppGround(store)),
    emulated("whatsapp-emulate", EmulatedWhatsApp),
]


def parameters(proofs: list[Proof], feature: str = "") -> list[object]:
    """Those whose platform, or what stands for it, has a feature; each with its mark."""
    marks = {"": [], "synapse": [pytest.mark.synapse], "peers": [pytest.mark.peers]}
    able = [proof for proof in proofs if not feature or getattr(proof.ground, feature)]
    return [pytest.param(proof.make, id=proof.name, marks=marks[proof.needs]) for proof in able]


def those(proofs: list[Proof], feature: str = "") -> pytest.MarkDecorator:
    return pytest.mark.parametrize("ground", parameters(proofs, feature), indirect=True)


@pytest_asyncio.fixture(params=parameters(LOCAL + REMOTE))
async def ground(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> AsyncIterator[Ground]:
    """A platform with the transport running, in front of a real inbox."""
    shutil.copy(empty_database, tmp_path / "huskies.db")
    store = await Store.open(place(tmp_path))
    async with request.param(store, tmp_path, request) as made:
        yield made
    await store.close()


async def test_a_message_comes_in_with_the_right_names(ground: Ground) -> None:
    external_id = await ground.say("hello wörld")
    message = await ground.message("hello wörld")
    assert message.conversation == ground.conversation
    assert message.conversation.transport == ground.transport.name
    assert message.sender == ground.person
    assert message.sender.startswith(f"{ground.transport.name}:")
    assert message.sender_name == ground.person_name
    assert message.direct
    assert not message.problem
    assert message.external_id
    assert external_id in (None, message.external_id)


async def test_messages_come_in_in_order(ground: Ground) -> None:
    said = [f"number {n}" for n in range(10)]
    for text in said:
        await ground.say(text)
    await ground.message(said[-1])
    offered = [item for item in ground.recorder.offered if isinstance(item, Message)]
    assert len(offered) == len(ground.recorder.offered)
    assert [item.text for item in offered] == said
    ids = [item.external_id for item in offered]
    assert await stored(ground, 10) == ids


async def test_what_could_not_be_committed_is_handed_in_again(ground: Ground) -> None:
    """The platform hears nothing before the commit: a transport that advanced would never come back with the event."""
    ground.recorder.failures = 2
    await ground.say("keep me")
    message = await ground.message("keep me")
    assert await stored(ground, 1) == [message.external_id]
    assert ground.recorder.times_offered(message.external_id) == 3
    first, second = ground.recorder.while_failing
    assert first == second, "nothing moved"
    assert first[0] == []
    if first[1] is not None:
        assert await ground.recorder.cursor(ground.transport.name) != first[1], "the cursor moved with the message"
    assert ground.task is not None
    assert not ground.task.done(), "a full disk does not end a transport"
    await ground.say("and me")
    assert len(await stored(ground, 2)) == 2


async def test_the_same_event_again_is_one_row(ground: Ground) -> None:
    ground.recorder.lost_answers = 1
    await ground.say("once")
    message = await ground.message("once")
    await until(lambda: ground.recorder.times_offered(message.external_id) == 2, lambda: "it never came again")
    await ground.say("the next")
    assert (await stored(ground, 2))[0] == message.external_id


async def test_who_is_not_listed_is_not_stored(ground: Ground) -> None:
    ground.recorder.know([])
    await ground.say("let me in")
    stranger = await ground.message("let me in")
    ground.recorder.know([ground.person])
    await ground.say("it is me")
    known = await ground.message("it is me")
    assert await stored(ground, 1) == [known.external_id]
    assert stranger.external_id != known.external_id
    assert ground.visible() == []


async def test_a_reply_is_seen_and_has_a_reference(ground: Ground) -> None:
    ref = await ground.send("here I am", "key")
    assert ref.conversation == ground.conversation
    assert ref.external_id
    assert await ground.shows(lambda texts: "here I am" in texts) == ["here I am"]


@those(LOCAL + REMOTE, "edits")
async def test_an_edit_takes_the_place_of_the_message(ground: Ground) -> None:
    assert ground.transport.capabilities.edits
    ref = await ground.send("before", "key")
    await ground.shows(lambda texts: texts == ["before"])
    await ground.transport.edit(ref, Reply("while", live=True), "key/1")
    await ground.transport.edit(ref, Reply("after"), "key/2")
    assert await ground.shows(lambda texts: "after" in texts) == ["after"]


async def test_the_same_key_is_one_message_where_that_is_promised(ground: Ground) -> None:
    first = await ground.send("answer", "key")
    again = await ground.send("answer", "key")
    await ground.send("the end", "other key")
    texts = await ground.shows(lambda texts: "the end" in texts)
    if ground.transport.capabilities.idempotent:
        assert first == again
        assert texts == ["answer", "the end"]
    else:
        assert texts == ["answer", "answer", "the end"], "so the outbox must not try twice"


async def test_the_longest_reply_arrives_whole(ground: Ground) -> None:
    longest = "𐍈" * (ground.transport.capabilities.max_text - 1) + "!"
    ref = await ground.send(longest, "key")
    await ground.shows(lambda texts: texts == [longest])
    if ground.transport.capabilities.edits:
        other = "𐎀" * ground.transport.capabilities.max_text
        await ground.transport.edit(ref, Reply(other), "key/1")
        await ground.shows(lambda texts: texts == [other])


HOSTILE = [
    "\x1b[2J\x1b]0;title\x07\x9b31m wiped",
    "\x1b]52;c;Y2FuYXJ5\x1b\\ clipboard",
    "user\u202egpj.exe \u2066x\u2069 \u200f",
    "nul \0 bell \a back \b\b\b form \f",
    "<!channel> <!here> <@U012> @room @everyone",
    "<script>alert(1)</script><img src=x onerror=alert(1)><b>bold</b>",
    "[pill](https://matrix.to/#/@ana:hs.test) ![](https://example.org/track.png)",
    "\rroot> overwritten",
]


async def test_hostile_text_is_inert(ground: Ground) -> None:
    for number, text in enumerate(HOSTILE):
        await ground.send(text, f"key {number}")
    await ground.send("the end", "last key")
    texts = await ground.shows(lambda texts: "the end" in texts)
    assert ground.dangers() == []
    for kept in ("<!channel> <!here> <@U012> @room @everyone", "wiped", "<script>alert(1)</script>", "matrix.to"):
        assert any(kept in text for text in texts), "what is only text is still there to read"


async def test_sends_keep_their_order(ground: Ground) -> None:
    said = [f"part {n}" for n in range(20)]
    for text in said:
        await ground.send(text, f"key {text}")
    assert await ground.shows(lambda texts: said[-1] in texts) == said


async def test_a_run_can_be_cancelled(ground: Ground, request: pytest.FixtureRequest) -> None:
    assert ground.transport.serving
    assert ground.task is not None
    began = time.monotonic()
    ground.task.cancel()
    await asyncio.wait([ground.task], timeout=10)
    assert time.monotonic() - began < 5 * patience()
    assert ground.task.cancelled()
    assert not ground.transport.serving


# --- what people elsewhere can reach ----------------------------------------------------------------------------------


@those(REMOTE, "groups")
async def test_in_a_group_the_bot_wants_a_mention(ground: RemoteGround) -> None:
    await ground.in_group("not for you", mention=False)
    await ground.in_group("for you", mention=True)
    message = await ground.message("for you")
    assert message.addressed
    assert not message.direct
    assert await stored(ground, 1) == [message.external_id]


@those(REMOTE)
async def test_what_strangers_do_of_any_kind_has_no_effect(ground: RemoteGround) -> None:
    await ground.say("mine")
    mine = await ground.message("mine")
    card = await ground.transport.send(ground.conversation, Reply("May I?", choices=CHOICES), "card")
    await ground.intrude(mine.external_id, card)
    assert await stored(ground, 1) == [mine.external_id]
    assert await ground.row(mine.external_id) == ("mine", "received")


@those(REMOTE, "editable")
async def test_an_edit_and_a_deletion_reach_what_still_waits(ground: RemoteGround) -> None:
    await ground.say("frist")
    await ground.say("second")
    first, second = await ground.message("frist"), await ground.message("second")
    await ground.change(first.external_id, "first")
    await ground.take_back(second.external_id)
    await ground.say("the end")
    assert len(await stored(ground, 3)) == 3, "an edit is no message of its own"
    assert await ground.row(first.external_id) == ("first", "received")
    assert await ground.row(second.external_id) == ("second", "discarded")


@those(REMOTE, "taps")
async def test_a_question_is_answered_by_a_tap(ground: RemoteGround) -> None:
    await ground.say("hello")
    await ground.message("hello")
    text = "May I? `allow` · `deny`"
    card = await ground.transport.send(ground.conversation, Reply(text, choices=CHOICES), "card")
    await ground.shows(lambda texts: any("allow" in text for text in texts))
    await ground.tap(card, "deny")
    message = await ground.message("deny")
    assert (message.presses, message.sender) == (card.external_id, ground.person)
    assert message.direct or message.addressed
    assert len(await stored(ground, 2)) == 2


@those(REMOTE)
async def test_files_both_ways(ground: RemoteGround, tmp_path: Path) -> None:
    content = bytes(range(256)) * 300
    if ground.shares:
        await ground.share("photo.png", content, "what is this?")
        message = await ground.message("what is this?")
        (file,) = message.files
        assert file.mime == "image/png"
        await ground.transport.fetch(file, tmp_path / "fetched", 10**6)
        assert (tmp_path / "fetched").read_bytes() == content
        with pytest.raises(DeliveryRefused, match="more than"):
            await ground.transport.fetch(file, tmp_path / "large", 1000)
    (tmp_path / "kept").write_bytes(content)
    sent = OutgoingFile(tmp_path / "kept", "table.pdf", "application/pdf", len(content))
    await ground.transport.send_file(ground.conversation, sent, Reply("a table for you"), "file")
    assert await ground.got("a table for you") == content


@those(REMOTE)
async def test_a_limited_rate_is_told_with_its_pause(ground: RemoteGround) -> None:
    """FAULTS 12: nothing waits inside of a transport, so that others go on; and nothing is posted twice."""
    await ground.say("hello")
    await ground.message("hello")
    ground.limit(2)
    with pytest.raises(TransportDown) as refused:
        await ground.transport.send(ground.conversation, Reply("answer"), "key")
    assert 0.5 <= (refused.value.retry_after_s or 0) <= 5
    await ground.send("answer", "key")
    await ground.send("the end", "other key")
    assert await ground.shows(lambda texts: "the end" in texts) == ["answer", "the end"]


@those(REMOTE)
async def test_an_outage_is_noticed_and_ends(ground: RemoteGround) -> None:
    await ground.say("before")
    await ground.message("before")
    await ground.vanish()
    await until(lambda: not ground.transport.serving, lambda: "it still says that it serves")
    with pytest.raises(TransportDown):
        await ground.transport.send(ground.conversation, Reply("answer"), "key")
    await ground.come_back()
    await until(lambda: ground.transport.serving, lambda: "it does not serve again")
    await ground.say("after")
    await ground.message("after")
    assert len(await stored(ground, 2)) == 2
    await ground.send("answer", "key")
    assert await ground.shows(lambda texts: "answer" in texts) == ["answer"]


async def stored(ground: Ground, count: int) -> list[str]:
    """The external ids in the inbox, once there are as many as that; more are never expected."""
    async with asyncio.timeout(30 * patience()):
        while len(found := await ground.recorder.stored()) < count:
            await asyncio.sleep(0.02)
    return found
