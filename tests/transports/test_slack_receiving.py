"""What people do reaches the gateway once, in order, and is acknowledged only then; in both modes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web

from gateway.chat import Conversation, Incoming
from gateway.errors import TransportRefused
from gateway.testing import patience
from tests.support.grounds import until
from tests.support.slack_bot import SlackBot
from tests.support.slack_server import BOT, TEAM, SlackServer, limited, refusing
from transports.slack import people as people_module


@pytest.fixture(params=["socket", "http"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[SlackServer]:
    async with SlackServer(request.param) as server:
        server.channel("C0DEV")
        server.channel("D0ANA")
        yield server


@pytest.fixture
async def bot(server: SlackServer) -> AsyncIterator[SlackBot]:
    async with SlackBot(server) as bot:
        yield bot


@pytest.fixture
async def socket() -> AsyncIterator[SlackBot]:
    """A bot in socket mode."""
    async with SlackServer("socket") as server:
        server.channel("D0ANA")
        async with SlackBot(server) as bot:
            yield bot


async def test_a_mention_is_one_message_and_opens_a_thread(bot: SlackBot) -> None:
    """`message` and `app_mention` both come."""
    ts = bot.server.say("C0DEV", f"<@{BOT}> status")
    for delivery in bot.server.deliveries:
        await delivery.done.wait()
        assert delivery.acknowledged
    (message,) = bot.memory.messages
    assert message.external_id == f"C0DEV:{ts}"
    assert message.conversation == Conversation("slack", "C0DEV", ts)
    assert (message.text, message.addressed, message.direct) == ("status", True, False)
    assert (message.sender, message.sender_name) == ("slack:U0ANA", "Ana")


async def test_a_mention_in_the_middle_is_a_name(bot: SlackBot) -> None:
    bot.server.say("C0DEV", f"ask <@{BOT}> and <@U0BEN>")
    await bot.memory.gets_text("ask @huskies and @Ben")


async def test_the_same_event_four_times_and_after_a_restart(bot: SlackBot) -> None:
    """FAULTS 7: each is acknowledged, one is kept."""
    ts = bot.server.say("D0ANA", "once")
    event = bot.server.deliveries[-1].payload["event"]
    for _ in range(3):
        again = bot.server.deliver(event)
        await again.done.wait()
        assert again.tries == [200]
    await bot.reborn()
    again = bot.server.deliver(event)
    await again.done.wait()
    assert again.tries == [200]
    assert [message.external_id for message in bot.memory.messages] == [f"D0ANA:{ts}"]


async def test_no_acknowledgement_before_the_commit(bot: SlackBot) -> None:
    """FAULTS 10: a store that fails, then recovers."""
    bot.memory.failures = 2
    bot.server.say("D0ANA", "keep me")
    delivery = bot.server.deliveries[-1]
    await delivery.done.wait()
    assert delivery.acknowledged
    assert bot.memory.texts == ["keep me"]
    assert bot.memory.offered == 3
    if bot.server.mode == "http":
        assert delivery.tries == [503, 503, 200]


async def test_an_envelope_is_not_acknowledged_while_the_store_refuses(socket: SlackBot) -> None:
    socket.server.patience_s, socket.server.retries = 0.3, False
    socket.memory.failures = 1000
    socket.server.say("D0ANA", "no disk")
    await socket.server.deliveries[-1].done.wait()
    assert socket.server.deliveries[-1].tries == [None]
    await socket.serves(False)
    socket.memory.failures = 0
    await socket.memory.gets_text("no disk")
    await socket.serves()


async def test_ended_before_the_commit(socket: SlackBot) -> None:
    """FAULTS 1: nothing was acknowledged, so it comes again to the next process."""
    socket.server.patience_s = 0.4
    socket.memory.failures = 1000
    socket.server.say("D0ANA", "survives")
    async with asyncio.timeout(10 * patience()):
        while not socket.memory.offered:
            await asyncio.sleep(0.01)
    await socket.stop()
    socket.memory.failures = 0
    await socket.reborn()
    await socket.memory.gets_text("survives")
    await socket.server.deliveries[-1].done.wait()
    assert socket.server.deliveries[-1].tries[0] is None
    assert socket.server.deliveries[-1].acknowledged


async def test_a_hundred_envelopes_at_once_stay_in_order(socket: SlackBot, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 8: names that come late, and one that never comes, hold nothing out of order."""
    monkeypatch.setattr(people_module, "_WITHIN_S", 1.0 * patience())

    async def slowly(request: web.Request, told: dict[str, str]) -> web.StreamResponse | None:
        await asyncio.sleep({"U0ANA": 0.1, "U0BEN": 0.0}.get(told["user"], 30))
        return None

    socket.server.faults["users.info"] = slowly
    people = ["U0ANA", "U0BEN", "U0CAT"]
    for number in range(100):
        socket.server.say("D0ANA", f"number {number}", user=people[number % 3])
    await socket.memory.gets_text("number 99")
    assert socket.memory.texts == [f"number {n}" for n in range(100)]
    names = {message.sender: message.sender_name for message in socket.memory.messages}
    assert names == {"slack:U0ANA": "Ana", "slack:U0BEN": "Ben", "slack:U0CAT": "U0CAT"}


async def test_what_is_no_message_of_a_person(bot: SlackBot) -> None:
    """FAULTS 20: other bots, own echoes, joins and the like; acknowledged, and nothing comes of them."""
    server = bot.server
    base: dict[str, object] = {"type": "message", "channel": "D0ANA", "channel_type": "im", "text": "no"}
    events: list[dict[str, object]] = [
        base | {"user": "U0EVE", "bot_id": "B2"},
        base | {"subtype": "bot_message", "bot_id": "B3", "username": "ci"},
        base | {"user": BOT, "bot_id": "B0BOT"},
        base | {"user": BOT},
        base | {"user": "USLACKBOT"},
        base | {"user": "U0ANA", "subtype": "channel_join"},
        base | {"user": "U0ANA", "subtype": "channel_topic"},
        base | {"subtype": "message_replied"},
        {"type": "reaction_added", "user": "U0ANA", "item": {"channel": "D0ANA", "ts": "1.1"}},
        {"type": "message", "user": ["U0ANA"], "text": {"a": 1}, "ts": 5, "channel": None},
        {"type": "message", "subtype": "message_changed", "channel": "D0ANA", "message": "?"},
    ]
    for number, event in enumerate(events):
        delivery = server.deliver({"ts": f"17.{number}", **event})
        await delivery.done.wait()
        assert delivery.tries == [200]
    server.say("D0ANA", "yes")
    await bot.memory.gets_text("yes")
    assert bot.memory.texts == ["yes"]


async def test_edits_and_deletions(bot: SlackBot) -> None:
    """FAULTS 20."""
    ts = bot.server.say("D0ANA", "frist")
    await bot.memory.gets_text("frist")
    bot.server.edit("D0ANA", ts, "first")
    edit = await bot.memory.gets_text("first")
    assert edit.edits == f"D0ANA:{ts}"
    assert edit.external_id not in (edit.edits, "")
    preview = bot.server.message("D0ANA", ts) | {"attachments": [{"title": "a link's preview"}]}
    same = {"subtype": "message_changed", "message": preview, "previous_message": bot.server.message("D0ANA", ts)}
    await bot.server.deliver({"type": "message", "channel": "D0ANA", "ts": "1.1", **same}).done.wait()
    assert len(bot.memory.messages) == 2, "a preview is no edit"
    bot.server.delete("D0ANA", ts)
    withdrawal = await bot.memory.gets_withdrawal(f"D0ANA:{ts}")
    assert withdrawal.sender == "slack:U0ANA"


async def test_a_command_and_a_shortcut(bot: SlackBot) -> None:
    asked = bot.server.command("C0DEV", "status")
    await asked.done.wait()
    assert asked.answer == {"response_type": "in_channel"}, "others see what was asked"
    message = await bot.memory.gets_text("status")
    assert message.conversation == Conversation("slack", "C0DEV")
    assert (message.addressed, message.direct, message.sender) == (True, False, "slack:U0ANA")
    ts = bot.server.say("C0DEV", "the build is red", user="U0BEN")
    await bot.server.shortcut("C0DEV", ts).done.wait()
    sent = await bot.memory.gets_text("> Ben wrote:\n> the build is red")
    assert sent.sender == "slack:U0ANA", "who sends it on is who asks"
    assert sent.conversation == Conversation("slack", "C0DEV", ts)


async def test_a_mention_in_a_thread_brings_what_was_said_there(bot: SlackBot) -> None:
    server = bot.server
    alert: dict[str, Any] = {
        "bot_id": "B0CI",
        "bot_profile": {"name": "CI"},
        "attachments": [{"title": "shop", "text": "exit 137"}],
    }
    head = server.say("C0DEV", "", user="U0CI", **alert)
    shot = server.attach("shot.png", b"png", "image/png")
    server.say("C0DEV", "see <@U0ANA>\nstop", user="U0BEN", thread=head, files=[shot], subtype="file_share")
    server.say("C0DEV", f"<@{BOT}> fix this", thread=head)
    message = await bot.memory.gets_text("fix this")
    assert message.quoted == "> CI wrote:\n> shop\n> exit 137\n\n> Ben wrote:\n> see @Ana\n> stop\n> [file: shot.png]"
    assert [file.name for file in message.files] == ["shot.png"]
    assert server.called("conversations.replies") == 1, "the message and its mention are one"
    server.say("C0DEV", f"<@{BOT}> and this", thread=head)
    assert (await bot.memory.gets_text("and this")).quoted == "", "its session has it"
    await bot.reborn()
    server.say("C0DEV", f"<@{BOT}> go on", thread=head)
    assert (await bot.memory.gets_text("go on")).quoted == "", "also for the next process"


async def test_a_thread_below_an_answer_of_the_bot(bot: SlackBot) -> None:
    """It is a session of its own, which does not know what it is about."""
    ref = await bot.send(Conversation("slack", "D0ANA"), "Deployed `v2`.", "key")
    head = ref.external_id.removeprefix("D0ANA:")
    bot.server.say("D0ANA", "roll that back", thread=head)
    assert (await bot.memory.gets_text("roll that back")).quoted == "> You wrote:\n> Deployed `v2`."
    bot.server.say("D0ANA", "now", thread=head)
    assert (await bot.memory.gets_text("now")).quoted == ""


async def test_a_long_thread_is_cut_where_it_is_oldest(bot: SlackBot) -> None:
    head = bot.server.say("C0DEV", "the deploy fails", user="U0BEN")
    for number in range(80):
        bot.server.say("C0DEV", f"{number}: {'x' * 300}", user="U0BEN", thread=head)
    bot.server.say("C0DEV", f"<@{BOT}> help", thread=head)
    quoted = (await bot.memory.gets_text("help")).quoted
    assert quoted.startswith("> Ben wrote:\n> the deploy fails\n\n> …\n\n> Ben wrote:\n> ")
    assert "> 79: xxx" in quoted
    assert len(quoted) < 12_500


async def test_a_thread_that_cannot_be_read_is_named_as_missing(bot: SlackBot) -> None:
    bot.server.faults["conversations.replies"] = limited(1, 5.0)
    head = bot.server.say("C0DEV", "it fails", user="U0BEN")
    bot.server.say("C0DEV", f"<@{BOT}> fix this", thread=head)
    assert "did not give out in time" in (await bot.memory.gets_text("fix this")).quoted
    bot.server.say("C0DEV", f"<@{BOT}> again", thread=head)
    assert (await bot.memory.gets_text("again")).quoted == "", "the first call was heard, and told what is missing"


async def test_strangers_cost_no_thread(bot: SlackBot) -> None:
    head = bot.server.say("C0DEV", "it fails", user="U0BEN")
    bot.server.say("C0DEV", f"<@{BOT}> fix this", user="U0EVE", thread=head)
    await bot.memory.gets_text("fix this")
    assert bot.server.called("conversations.replies") == 0


async def test_a_tool_in_somebodys_name(bot: SlackBot) -> None:
    """It is a prompt, whatever it says; another app's is nothing, unless the app is listed."""
    bot.server.say("D0ANA", "stop", bot_id="B0ZAP", app_id="A0OTHER")
    await bot.memory.gets_text("prompt stop")
    bot.server.say("D0ANA", "", bot_id="B0ZAP", attachments=[{"title": "A ticket", "text": "is *red*"}])
    await bot.memory.gets_text("prompt A ticket\nis *red*")
    bot.server.say("D0ANA", "stop", bot_id="B0OURS", app_id="A0OURS")
    await bot.memory.gets_text("stop")
    bot.server.say("D0ANA", "no", user="U0EVE", bot_id="B0ZAP", app_id="A0OTHER")
    bot.server.say("D0ANA", "after it")
    await bot.memory.gets_text("after it")
    assert "no" not in "".join(bot.memory.texts)


async def test_a_command_from_where_the_bot_is_not(bot: SlackBot) -> None:
    """Told to whoever asked, and to nobody else; a stranger is told nothing."""
    bot.server.channel("C0FAR", member=False)
    for channel in ("C0FAR", "D0NOTOURS"):
        delivery = bot.server.command(channel, "status")
        await delivery.done.wait()
        assert delivery.tries == [200]
        assert delivery.answer["response_type"] == "ephemeral"
        assert "/invite @huskies" in delivery.answer["text"]
    ts = bot.server.say("C0FAR", "the build is red", user="U0BEN")
    await bot.server.shortcut("C0FAR", ts).done.wait()
    await bot.server.until(lambda: bot.server.whispers)
    assert "/invite @huskies" in bot.server.whispers[0]["text"]
    calls = len(bot.server.calls)
    strange = bot.server.command("C0FAR", "status", user="U0EVE")
    await strange.done.wait()
    assert (strange.tries, strange.answer) == ([200], {})
    assert len(bot.server.calls) == calls, "strangers cost nothing"
    assert bot.memory.texts.count("status") == 1, "that of the stranger, whom the inbox does not know"


async def test_what_nobody_has_a_use_for_is_acknowledged_once(bot: SlackBot) -> None:
    """A dialog's, a home tab's, a menu's: none of ours, and yet Slack would bring it again."""
    menu = bot.server.interact(
        {"type": "block_suggestion", "action_id": "x", "block_id": "b", "value": ""}, "D0ANA", "U0ANA"
    )
    view = {"type": "modal", "callback_id": "x", "state": {"values": {}}}
    for odd in (
        menu,
        bot.server.interact({"type": "view_submission", "view": view}, "D0ANA", "U0ANA"),
        bot.server.interact({"type": "view_closed", "view": view}, "D0ANA", "U0ANA"),
        bot.server.interact({"type": "shortcut", "callback_id": "another"}, "D0ANA", "U0ANA"),
        bot.server.interact({"type": "message_action", "callback_id": "another"}, "D0ANA", "U0ANA"),
        bot.server.interact({"type": "of_the_future"}, "D0ANA", "U0ANA"),
        bot.server.interact({}, "D0ANA", "U0ANA"),
        bot.server.deliver({"type": "app_home_opened", "user": "U0ANA", "channel": "D0ANA", "tab": "home"}),
    ):
        await odd.done.wait()
        assert odd.tries == [200], odd.payload
    assert menu.answer == {"options": []}
    assert bot.memory.texts == []


async def test_a_button(bot: SlackBot) -> None:
    """FAULTS 29: a press is one event, however often Slack sends it; another press is another."""
    ref = await bot.send(Conversation("slack", "D0ANA"), "Sure?", "key", choices=("allow", "deny"))
    ts = ref.external_id.removeprefix("D0ANA:")
    pressed = bot.server.press("D0ANA", ts, "deny")
    await pressed.done.wait()
    (message,) = bot.memory.messages
    assert (message.presses, message.text, message.sender) == (ref.external_id, "deny", "slack:U0ANA")
    assert message.addressed
    bot.server.interact({k: v for k, v in pressed.payload.items() if k in _OF_A_PRESS}, "D0ANA", "U0ANA")
    bot.server.press("D0ANA", ts, "allow", user="U0BEN")
    await bot.memory.gets_text("allow")
    assert [(m.text, m.sender) for m in bot.memory.messages] == [("deny", "slack:U0ANA"), ("allow", "slack:U0BEN")]


_OF_A_PRESS = ("type", "container", "message", "actions")


async def test_another_workspace_is_ignored_and_told_once(bot: SlackBot, caplog: pytest.LogCaptureFixture) -> None:
    event = {"type": "message", "user": "U0ANA", "text": "hi", "channel": "D0X", "channel_type": "im", "ts": "1.1"}
    for _ in range(3):
        other = bot.server.deliver(event, team_id="T0OTHER", authorizations=[{"team_id": "T0OTHER"}])
        await other.done.wait()
        assert other.acknowledged, "or Slack would send it again and again"
    shared = bot.server.deliver(event, team_id="T0OTHER", authorizations=[{"team_id": TEAM}])
    await shared.done.wait()
    assert bot.memory.texts == ["hi"], "a channel that is shared with us is ours"
    assert [r.levelname for r in caplog.records if "another workspace (T0OTHER)" in r.message] == ["ERROR"]


async def test_a_whole_organisation_is_refused(server: SlackServer) -> None:
    server.auth = {"is_enterprise_install": True}
    bot = SlackBot(server)
    await bot.launch()
    error = await bot.fails()
    assert isinstance(error, TransportRefused)
    assert "install it into one workspace" in str(error)
    assert not bot.transport.serving
    await bot.stop()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"error": "invalid_auth"}, "bot_token"),
        ({"error": "account_inactive"}, "account_inactive"),
        ({"error": "missing_scope", "needed": "connections:write"}, "the scope connections:write"),
        ({"error": "not_allowed_token_type"}, "app_token"),
    ],
)
async def test_a_socket_that_is_refused(fault: dict[str, str], told: str) -> None:
    """FAULTS 11: the run ends at once; who runs it decides when to try again."""
    async with SlackServer() as server:
        server.faults["apps.connections.open"] = refusing(**fault)
        bot = SlackBot(server)
        await bot.launch()
        error = await bot.fails()
        assert isinstance(error, TransportRefused)
        assert told in str(error)
        assert server.called("apps.connections.open") == 1
        await bot.stop()


async def test_a_missing_scope_is_named_at_the_start(server: SlackServer) -> None:
    server.scopes = "chat:write,channels:history,groups:history,mpim:history,users:read"
    bot = SlackBot(server)
    await bot.launch()
    error = await bot.fails()
    assert isinstance(error, TransportRefused)
    assert "app_mentions:read, im:history" in str(error)
    await bot.stop()


async def test_a_wanted_scope_is_only_warned_of(server: SlackServer, caplog: pytest.LogCaptureFixture) -> None:
    server.scopes = server.scopes.replace("reactions:write,", "")
    async with SlackBot(server):
        assert "the scope reactions:write is missing" in caplog.text


async def test_slack_is_away_when_we_start(server: SlackServer, caplog: pytest.LogCaptureFixture) -> None:
    server.faults["auth.test"] = limited(1, 0.1)
    bot = SlackBot(server)
    await server.close()
    await bot.launch()
    await until(lambda: "trying again" in caplog.text, lambda: caplog.text)
    assert not bot.transport.serving
    await server.open()
    await bot.serves()
    assert server.called("auth.test") == 2
    await bot.stop()


async def test_an_outage_of_the_socket(socket: SlackBot) -> None:
    """Serving ends with the connection, and comes back with it; what is sent meanwhile arrives."""
    await socket.server.close()
    await socket.serves(False)
    socket.server.say("D0ANA", "while away")
    await socket.server.open()
    await socket.serves()
    await socket.memory.gets_text("while away")


async def test_a_frozen_socket_is_noticed(socket: SlackBot) -> None:
    """FAULTS 14: a peer that is there and answers no ping."""
    socket.server.frozen = True
    await socket.server.disconnect()
    await socket.server.until(lambda: socket.server.connections == 2)
    began = time.monotonic()
    socket.server.frozen = False
    await socket.server.until(lambda: socket.server.connections == 3)
    assert time.monotonic() - began < 5 * patience()
    await socket.serves()
    socket.server.say("D0ANA", "still there?")
    await socket.memory.gets_text("still there?")


async def test_slack_wants_another_connection(socket: SlackBot) -> None:
    """What came before the notice is acknowledged on the old one."""
    socket.memory.failures = 1
    socket.server.say("D0ANA", "the last on this one")
    delivery = socket.server.deliveries[-1]
    async with asyncio.timeout(10 * patience()):
        while not socket.memory.offered:
            await asyncio.sleep(0.005)
    await socket.server.disconnect("warning")
    await socket.server.until(lambda: socket.server.connections == 2)
    await delivery.done.wait()
    assert delivery.tries == [200]


async def test_socket_mode_is_switched_off(socket: SlackBot) -> None:
    await socket.server.disconnect("link_disabled")
    error = await socket.fails()
    assert isinstance(error, TransportRefused)
    assert "Socket Mode" in str(error)


async def test_a_ticket_stays_out_of_the_log(socket: SlackBot, caplog: pytest.LogCaptureFixture) -> None:
    """The address of a socket is a secret for as long as it may be used."""
    socket.server.closed_door = True
    await socket.server.disconnect()
    async with asyncio.timeout(10 * patience()):
        while "the socket is closed" not in caplog.text:
            await asyncio.sleep(0.01)
    assert "403" in caplog.text
    assert "ticket" not in caplog.text
    socket.server.closed_door = False
    await socket.serves()


async def test_garbage_on_the_socket(socket: SlackBot) -> None:
    for frame in ("no json", "[1]", '{"type": "brand_new"}', "[" * 100_000):
        await socket.server.sockets[-1].send_str(frame)
    socket.server.say("D0ANA", "after that")
    await socket.memory.gets_text("after that")
    assert socket.server.connections == 1


async def test_a_payload_that_cannot_be_read_does_not_hold_up_the_others(
    bot: SlackBot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS 32."""
    from transports.slack import events

    read = events.read

    def stumbling(payload: Mapping[str, object], *known: Any) -> list[Incoming]:
        found = read(payload, *known)
        if any(getattr(item, "text", "") == "poison" for item in found):
            raise KeyError("poison")
        return found

    monkeypatch.setattr(events, "read", stumbling)
    bot.server.say("D0ANA", "poison")
    bot.server.say("D0ANA", "fine")
    await bot.memory.gets_text("fine")
    await bot.server.deliveries[0].done.wait()
    assert bot.server.deliveries[0].tries == [200]
    assert "set aside" in caplog.text


async def test_the_token_is_revoked_while_we_run(bot: SlackBot) -> None:
    bot.server.faults["chat.postMessage"] = refusing("token_revoked")
    with pytest.raises(TransportRefused, match="token_revoked"):
        await bot.send(Conversation("slack", "D0ANA"), "hello", "key")
    assert isinstance(await bot.fails(), TransportRefused)


async def test_tokens_stay_out_of_the_log(bot: SlackBot, caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS 30, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    bot.server.say("D0ANA", "canary of a message")
    await bot.memory.gets_text("canary of a message")
    await bot.send(Conversation("slack", "D0ANA"), "canary of a reply", "key")
    assert "canary" not in caplog.text
    assert "canary" not in repr(bot.config)
