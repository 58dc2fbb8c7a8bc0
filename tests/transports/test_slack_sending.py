"""What the gateway sends stands in Slack once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.chat import Attachment, Conversation, Fate, Membership, MessageRef, OutgoingFile, Reply
from gateway.errors import DeliveryHeld, DeliveryRefused, TooLong, TransportDown, TransportError, TransportRefused
from tests.support.slack_bot import SlackBot
from tests.support.slack_server import BOT, SlackServer, buttons, limited, refusing, shown
from transports.slack.api import Api

ROOM = Conversation("slack", "C0DEV")
DIRECT = Conversation("slack", "D0ANA")


@pytest.fixture
async def bot() -> AsyncIterator[SlackBot]:
    async with SlackServer() as server:
        server.channel("C0DEV")
        server.channel("D0ANA")
        async with SlackBot(server) as bot:
            yield bot


def after_it_was_done(times: int = 1) -> Any:
    """Let Slack do what it is asked, and the answer be lost on the way."""
    left = [times]

    def wrap(server: SlackServer, method: str) -> None:
        async def fault(request: web.Request, told: dict[str, Any]) -> web.StreamResponse | None:
            if not left[0]:
                return None
            left[0] -= 1
            getattr(server, "_" + method.replace(".", "_").lower())(told)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        server.faults[method] = fault

    return wrap


async def test_a_post_in_a_thread(bot: SlackBot) -> None:
    ts = bot.server.say("C0DEV", f"<@{BOT}> hi")
    ref = await bot.send(Conversation("slack", "C0DEV", ts), "**hello**", "key", reply_to=f"C0DEV:{ts}")
    (post,) = bot.server.posts("C0DEV", ts)
    assert ref == MessageRef(Conversation("slack", "C0DEV", ts), f"C0DEV:{post['ts']}")
    assert shown(post) == "*hello*"
    assert post["metadata"] == {"event_type": "huskies", "event_payload": {"key": "key"}}
    told = next(arguments for method, arguments in bot.server.calls if method == "chat.postMessage")
    assert (told["unfurl_links"], told["unfurl_media"], told["link_names"]) == (False, False, False)


async def test_a_second_process_finds_what_the_first_posted(bot: SlackBot) -> None:
    """FAULTS 5: behind 250 newer messages, and only where it is the bot's own."""
    first = await bot.send(ROOM, "answer", "key")
    for number in range(250):
        bot.server.messages["C0DEV"].append(
            {"type": "message", "user": "U0ANA", "text": "x", "ts": f"{time.time():.3f}{number:03d}"}
        )
    forged = {"event_type": "huskies", "event_payload": {"key": "other"}}
    bot.server.messages["C0DEV"].append(
        {"type": "message", "user": "U0EVE", "bot_id": "B9", "ts": bot.server.ts(), "text": "x", "metadata": forged}
    )
    await bot.reborn()
    assert await bot.send(ROOM, "answer", "key") == first
    await bot.reborn()
    await bot.send(ROOM, "another", "other")
    assert [shown(post) for post in bot.server.posts("C0DEV")] == ["answer", "another"]
    looked = bot.server.called("conversations.history")
    await bot.send(ROOM, "a third", "third")
    assert bot.server.called("conversations.history") == looked, "one look per conversation and process"


async def test_a_second_process_finds_it_in_a_thread(bot: SlackBot) -> None:
    ts = bot.server.say("C0DEV", f"<@{BOT}> hi")
    thread = Conversation("slack", "C0DEV", ts)
    first = await bot.send(thread, "answer", "key")
    await bot.reborn()
    assert await bot.send(thread, "answer", "key") == first
    assert len(bot.server.posts("C0DEV")) == 1


async def test_a_thread_that_began_after_us_needs_no_look(bot: SlackBot) -> None:
    later = f"{time.time() + 60:.6f}"
    bot.server.messages["C0DEV"].append({"type": "message", "user": "U0ANA", "text": "x", "ts": later})
    await bot.send(Conversation("slack", "C0DEV", later), "answer", "key")
    assert bot.server.called("conversations.replies") == 0


async def test_the_answer_to_a_post_is_lost(bot: SlackBot) -> None:
    """FAULTS 13: the next try looks first."""
    await bot.send(DIRECT, "before", "first")
    after_it_was_done()(bot.server, "chat.postMessage")
    with pytest.raises(TransportDown):
        await bot.transport.send(DIRECT, Reply("once"), "key")
    ref = await bot.transport.send(DIRECT, Reply("once"), "key")
    posts = bot.server.posts("D0ANA")
    assert [shown(post) for post in posts] == ["before", "once"]
    assert ref.external_id == f"D0ANA:{posts[-1]['ts']}"


async def test_slack_hangs(bot: SlackBot, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 13: a deadline, and no duplicate when Slack had done it."""
    monkeypatch.setattr(Api.call, "__defaults__", (0.2,))

    async def hanging(_: web.Request, told: dict[str, Any]) -> web.StreamResponse | None:
        bot.server.faults.clear()
        bot.server._chat_postmessage(told)
        await asyncio.sleep(30)
        return None

    bot.server.faults["chat.postMessage"] = hanging
    with pytest.raises(TransportDown, match="in time"):
        await bot.transport.send(DIRECT, Reply("once"), "key")
    await bot.transport.send(DIRECT, Reply("once"), "key")
    assert [shown(post) for post in bot.server.posts("D0ANA")] == ["once"]


async def test_rate_limits_are_passed_on(bot: SlackBot) -> None:
    """FAULTS 12: nobody waits in here, so other conversations go on; and nothing has to be looked for."""
    await bot.send(DIRECT, "before", "first")
    looked = bot.server.called("conversations.history")
    bot.server.faults["chat.postMessage"] = limited(1, 7)
    with pytest.raises(TransportDown) as caught:
        await bot.transport.send(DIRECT, Reply("later"), "key")
    assert caught.value.retry_after_s == 7
    await bot.transport.send(DIRECT, Reply("later"), "key")
    assert bot.server.called("conversations.history") == looked
    assert bot.server.called("chat.postMessage") == 3


@pytest.mark.parametrize(
    ("error", "expected", "told"),
    [
        ("not_in_channel", DeliveryHeld, "/invite"),
        ("msg_too_long", TooLong, "msg_too_long"),
        ("is_archived", DeliveryHeld, "archived"),
        ("internal_error", TransportDown, "internal_error"),
        ("missing_scope", TransportRefused, "chat:write"),
    ],
)
async def test_refusals(bot: SlackBot, error: str, expected: type[Exception], told: str) -> None:
    bot.server.faults["chat.postMessage"] = refusing(error, needed="chat:write")
    with pytest.raises(expected, match=told):
        await bot.transport.send(DIRECT, Reply("x"), "key")
    assert bot.transport.serving, "a scope that one call lacks does not end the others"


async def test_a_proxy_answers_instead_of_slack(bot: SlackBot) -> None:
    async def page(_: web.Request, __: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")

    async def text(_: web.Request, __: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(text="upstream is away")

    async def torn(_: web.Request, __: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(text='{"ok": tr', content_type="application/json")

    for fault in (page, text, torn):
        bot.server.faults["chat.postMessage"] = fault
        with pytest.raises(TransportDown):
            await bot.transport.send(DIRECT, Reply("x"), "key")
    bot.server.faults.clear()
    await bot.send(DIRECT, "x", "key")
    assert len(bot.server.posts("D0ANA")) == 1


async def test_buttons_go_with_the_outcome(bot: SlackBot) -> None:
    ref = await bot.send(DIRECT, "Sure?", "key", choices=("allow", "allow session", "deny"))
    (post,) = bot.server.posts("D0ANA")
    assert buttons(post) == ["allow", "allow session", "deny"]
    await bot.transport.edit(ref, Reply("Allowed."), "key/1")
    assert (shown(post), buttons(post)) == ("Allowed.", [])


async def test_a_layout_that_slack_refuses(bot: SlackBot) -> None:
    """The words arrive all the same."""

    async def picky(_: web.Request, told: dict[str, Any]) -> web.StreamResponse | None:
        return web.json_response({"ok": False, "error": "invalid_blocks"}) if told["blocks"] else None

    bot.server.faults |= {"chat.postMessage": picky, "chat.update": picky}
    ref = await bot.send(DIRECT, "**x** <!channel>", "key")
    (post,) = bot.server.posts("D0ANA")
    assert post["text"] == "**x** &lt;!channel&gt;"
    await bot.transport.edit(ref, Reply("y" * 2999), "key/1")
    assert post["text"] == "y" * 2999


async def test_an_edit_of_a_message_that_is_gone(bot: SlackBot) -> None:
    ref = await bot.send(DIRECT, "x", "key")
    bot.server.messages["D0ANA"].clear()
    with pytest.raises(DeliveryRefused, match="message_not_found"):
        await bot.transport.edit(ref, Reply("y"), "key/1")


async def test_an_edit_may_be_as_long_as_a_post(bot: SlackBot) -> None:
    ref = await bot.send(DIRECT, "x", "key")
    longest = "&<" * (bot.transport.capabilities.max_text // 2)
    await bot.transport.edit(ref, Reply(longest), "key/1")
    assert shown(bot.server.posts("D0ANA")[0]) == longest


async def test_marks(bot: SlackBot) -> None:
    """At most two on a message, the final one last; none on what is no message, and no failure is told."""
    ts = bot.server.say("D0ANA", "hello")
    ref = MessageRef(DIRECT, f"D0ANA:{ts}")
    for fate in (Fate.RECEIVED, Fate.QUEUED):
        await bot.transport.mark(ref, fate)
    await bot.server.until(lambda: bot.server.reactions[ts] == ["eyes"])
    for fate in (Fate.RUNNING, Fate.ANSWERED, Fate.FAILED):
        await bot.transport.mark(ref, fate)
    for other in ("command:1.2.abc", f"D0ANA:{ts}:press:U0ANA:1.1", "D0ANA:1.1", "D0ANA:file:F1", ""):
        await bot.transport.mark(MessageRef(DIRECT, other), Fate.FAILED)
    await bot.server.until(lambda: bot.server.called("reactions.add") == 3, lambda: bot.server.calls)
    assert bot.server.reactions[ts] == ["eyes", "white_check_mark"]
    bot.server.faults["reactions.add"] = limited(2, 0.01)
    sent_on = bot.server.say("D0ANA", "again")
    bot.server.reactions[sent_on] = ["x"]
    await bot.transport.mark(MessageRef(DIRECT, f"D0ANA:{sent_on}:shortcut:1.1"), Fate.FAILED)
    await bot.server.until(lambda: bot.server.called("reactions.add") == 6)
    assert bot.transport.serving


async def test_a_file_goes_out_once(bot: SlackBot, tmp_path: Path) -> None:
    ts = bot.server.say("C0DEV", f"<@{BOT}> plot it")
    thread = Conversation("slack", "C0DEV", ts)
    path = tmp_path / "stored"
    path.write_bytes(b"\x89PNG canary")
    file = OutgoingFile(path, "plot.png", "image/png", 12)
    await bot.send(thread, "before", "first")
    after_it_was_done()(bot.server, "files.completeUploadExternal")
    with pytest.raises(TransportDown):
        await bot.transport.send_file(thread, file, Reply("A <b>plot</b>"), "key")
    first = await bot.transport.send_file(thread, file, Reply("A <b>plot</b>"), "key")
    assert await bot.transport.send_file(thread, file, Reply("A <b>plot</b>"), "key") == first
    await bot.reborn()
    await bot.transport.send_file(thread, file, Reply("A <b>plot</b>"), "key")
    (post,) = [post for post in bot.server.posts("C0DEV", ts) if "files" in post]
    assert post["blocks"][0]["text"]["text"] == "A &lt;b&gt;plot&lt;/b&gt;"
    assert bot.server.contents[post["files"][0]["id"]] == b"\x89PNG canary"
    await bot.transport.send_file(thread, file, Reply(""), "another key")
    assert len([post for post in bot.server.posts("C0DEV", ts) if "files" in post]) == 2


async def test_a_file_that_slack_does_not_take_now(bot: SlackBot, tmp_path: Path) -> None:
    (tmp_path / "stored").write_bytes(b"data")
    file = OutgoingFile(tmp_path / "stored", "a.bin", "application/octet-stream", 4)
    for status, expected in ((503, TransportDown), (429, TransportDown), (403, DeliveryRefused)):
        bot.server.upload_status = status
        with pytest.raises(expected):
            await bot.transport.send_file(DIRECT, file, Reply(""), "key")
    bot.server.upload_status = 200
    bot.server.faults["files.completeUploadExternal"] = limited(1, 0.1)
    with pytest.raises(TransportDown):
        await bot.transport.send_file(DIRECT, file, Reply(""), "key")
    await bot.transport.send_file(DIRECT, file, Reply(""), "key")
    (post,) = bot.server.posts("D0ANA")
    assert bot.server.contents[post["files"][0]["id"]] == b"data"


async def test_a_file_that_is_too_large_or_gone(bot: SlackBot, tmp_path: Path) -> None:
    huge = OutgoingFile(tmp_path / "none", "huge.bin", "application/octet-stream", 2**40)
    with pytest.raises(DeliveryRefused, match=r"huge\.bin has"):
        await bot.transport.send_file(DIRECT, huge, Reply(""), "key")
    gone = OutgoingFile(tmp_path / "none", "gone.bin", "application/octet-stream", 1)
    with pytest.raises(DeliveryRefused, match=r"gone\.bin cannot be read"):
        await bot.transport.send_file(DIRECT, gone, Reply(""), "key")


async def received(bot: SlackBot, **changes: Any) -> Attachment:
    """A file that somebody sent."""
    told = bot.server.attach("notes.txt", b"some notes", "text/plain")
    bot.server.say("D0ANA", "look", subtype="file_share", files=[told | changes])
    message = await bot.memory.gets_text("look")
    (file,) = message.files
    return file


async def test_a_file_comes_in(bot: SlackBot, tmp_path: Path) -> None:
    file = await received(bot)
    assert (file.name, file.mime, file.size) == ("notes.txt", "text/plain", 10)
    await bot.transport.fetch(file, tmp_path / "got", 100)
    assert (tmp_path / "got").read_bytes() == b"some notes"
    with pytest.raises(DeliveryRefused, match="more than"):
        await bot.transport.fetch(file, tmp_path / "not", 9)
    assert not (tmp_path / "not").exists()


async def test_a_file_that_says_it_is_small(bot: SlackBot, tmp_path: Path) -> None:
    file = await received(bot, size=1)
    with pytest.raises(DeliveryRefused, match="more than"):
        await bot.transport.fetch(file, tmp_path / "not", 9)
    assert not (tmp_path / "not").exists()


async def test_a_file_that_is_only_named(bot: SlackBot, tmp_path: Path) -> None:
    """In channels that are shared with another workspace."""
    file = await received(bot, url_private="", url_private_download="", file_access="check_file_info")
    await bot.transport.fetch(file, tmp_path / "got", 100)
    assert (tmp_path / "got").read_bytes() == b"some notes"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x",
        "http://169.254.169.254/latest",
        "https://evil.example/x",
        "https://slack.com.evil.example/x",
        "https://files.slack.com:8443/x",
        "http://files.slack.com/x",
        "https://files.slack.com@evil.example/x",
        "file:///etc/passwd",
        "https://[",
        "//x",
    ],
)
async def test_a_file_that_lies_elsewhere(bot: SlackBot, tmp_path: Path, url: str) -> None:
    """FAULTS 31: the token is shown to Slack alone."""
    file = await received(bot, url_private=url, url_private_download=url)
    with pytest.raises(DeliveryRefused, match="is not stored at Slack"):
        await bot.transport.fetch(file, tmp_path / "not", 100)


async def test_a_redirect_is_not_followed(bot: SlackBot, tmp_path: Path) -> None:
    """FAULTS 31."""
    file = await received(bot)
    elsewhere: list[str] = []

    async def away(request: web.Request, _: dict[str, Any]) -> web.StreamResponse | None:
        if "moved" in request.query:
            elsewhere.append(request.headers.get("Authorization", ""))
            return None
        raise web.HTTPFound(f"{request.path}?moved=1")

    bot.server.faults["file"] = away
    with pytest.raises(DeliveryRefused, match="elsewhere"):
        await bot.transport.fetch(file, tmp_path / "not", 100)
    assert elsewhere == []


async def test_a_login_page_is_no_file(bot: SlackBot, tmp_path: Path) -> None:
    file = await received(bot)

    async def login(_: web.Request, __: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(text="<html>", content_type="text/html")

    bot.server.faults["file"] = login
    with pytest.raises(DeliveryRefused, match="files:read"):
        await bot.transport.fetch(file, tmp_path / "not", 100)


async def test_before_it_runs() -> None:
    async with SlackServer() as server:
        bot = SlackBot(server)
        with pytest.raises(TransportDown):
            await bot.transport.send(DIRECT, Reply("x"), "key")
        await bot.transport.mark(MessageRef(DIRECT, "D0ANA:1.1"), Fate.FAILED)
        assert not bot.transport.serving


async def test_slack_says_who_is_in_a_channel(bot: SlackBot) -> None:
    there = bot.transport
    assert isinstance(there, Membership)
    bot.server.channels["C0DEV"]["members"] = ["U0A", "U0B", "U0C", "U0D", "U0ANA"]
    assert await there.is_in(ROOM, "slack:U0ANA"), "on the third page"
    assert not await there.is_in(ROOM, "slack:U0EVE")
    with pytest.raises(TransportError):
        await there.is_in(Conversation("slack", "C0NONE"), "slack:U0ANA")
