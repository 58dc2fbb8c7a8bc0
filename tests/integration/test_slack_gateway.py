"""A gateway as a process in front of a Slack workspace, in both modes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.testing import patience
from tests.support.gateway_process import GatewayProcess
from tests.support.slack_server import BOT, SECRET, SlackServer, buttons, shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MODES = pytest.mark.parametrize("mode", ["socket", "http"])


@contextlib.asynccontextmanager
async def talking(tmp_path: Path, mode: str, port: int) -> AsyncIterator[tuple[GatewayProcess, SlackServer]]:
    """A gateway with the scripted agent; Ana (an operator) and Ben (a member) in the channel C0DEV with it."""
    async with SlackServer(mode) as slack:
        slack.channel("C0DEV")
        slack.channel("D0ANA")
        slack.webhook = f"http://127.0.0.1:{port}/webhooks/slack"
        config: dict[str, Any] = {
            "gateway": {"state_dir": str(tmp_path / "state"), "listen": f"127.0.0.1:{port}"},
            "access": {"operators": ["slack:U0ANA"], "members": ["slack:U0BEN"]},
            "dispatcher": {"coalesce_window_ms": 100},
            "agent": {"kind": "scripted"},
            "transports": {
                "slack": {
                    **{"mode": mode, "bot_token": "xoxb-canary-token", "api_base_url": slack.api_url},
                    **({"app_token": "xapp-canary-token"} if mode == "socket" else {"signing_secret": SECRET}),
                }
            },
        }
        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            await ready(gateway)
            slack.command("C0DEV", "new project demo")
            await sees(slack, "C0DEV", lambda text: "is ready" in text)
            yield gateway, slack


async def ready(gateway: GatewayProcess) -> None:
    """Wait until the transport serves."""
    async with asyncio.timeout(30 * patience()):
        while not any(part["name"] == "slack" and part["ok"] for part in await gateway.get("/doctor")):
            await asyncio.sleep(0.05)


async def sees(
    slack: SlackServer, channel: str, holds: Callable[[str], object], thread: str | None = None
) -> dict[str, Any]:
    """The first message of the bot's that reads as asked, now or soon."""

    def found() -> dict[str, Any] | None:
        return next((message for message in slack.posts(channel, thread) if holds(shown(message))), None)

    await slack.until(found, lambda: [shown(m) for m in slack.posts(channel)], within_s=40)
    message = found()
    assert message is not None
    return message


@MODES
async def test_mention_thread_live_reply_answer(tmp_path: Path, unused_port: int, mode: str) -> None:
    async with talking(tmp_path, mode, unused_port) as (_, slack):
        lived: list[str] = []
        asked = slack.say("C0DEV", f"<@{BOT}> @@sleep 3\n@@say done &amp; dusted")
        live = await sees(slack, "C0DEV", lambda text: text.startswith("⏳"), asked)
        lived.append(live["ts"])
        answer = await sees(slack, "C0DEV", lambda text: text == "done & dusted", asked)
        assert answer["ts"] == live["ts"], "the answer takes the place of the live message"
        await slack.until(lambda: slack.reactions[asked] == ["eyes", "white_check_mark"], lambda: slack.reactions)
        slack.say("C0DEV", "and again", thread=asked, user="U0BEN")
        await sees(slack, "C0DEV", lambda text: text.endswith("You said:\nBen: and again"), asked)
        slack.say("C0DEV", "not meant for the bot")
        slack.say("D0ANA", "switch demo")
        await sees(slack, "D0ANA", lambda text: "demo" in text, "")
        slack.say("D0ANA", "hello")
        await sees(slack, "D0ANA", lambda text: text == "You said:\nhello", "")
        assert not any("not meant" in shown(message) for message in slack.posts("C0DEV"))


@MODES
async def test_a_permission_card_with_buttons(tmp_path: Path, unused_port: int, mode: str) -> None:
    async with talking(tmp_path, mode, unused_port) as (_, slack):
        asked = slack.say("C0DEV", f'<@{BOT}> @@permission Bash {{"command": "ls"}}', user="U0BEN")
        card = await sees(slack, "C0DEV", lambda text: "May I use Bash?" in text, asked)
        assert buttons(card)[0] == "allow"
        stranger = slack.press("C0DEV", card["ts"], "allow", user="U0EVE")
        await stranger.done.wait()
        assert stranger.acknowledged, "Slack hears that we have it; nothing comes of it"
        assert "Allowed" not in shown(card)
        for _ in range(2):
            slack.press("C0DEV", card["ts"], "allow", user="U0BEN")
        await sees(slack, "C0DEV", lambda text: "✅ Allowed by Ben" in text, asked)
        assert buttons(slack.message("C0DEV", card["ts"])) == [], "an outcome has no buttons"
        await slack.until(lambda: "white_check_mark" in slack.reactions[asked], lambda: slack.posts("C0DEV"))


@MODES
async def test_a_confirmation_is_a_button(tmp_path: Path, unused_port: int, mode: str) -> None:
    async with talking(tmp_path, mode, unused_port) as (_, slack):
        slack.command("C0DEV", "delete demo")
        card = await sees(slack, "C0DEV", lambda text: text.startswith("Delete demo?"))
        (word,) = buttons(card)
        assert f"`{word}`" in shown(card), "it can be typed, too"
        slack.press("C0DEV", card["ts"], word)
        outcome = await sees(slack, "C0DEV", lambda text: text.startswith("*demo* is deleted."))
        assert outcome["ts"] == card["ts"]
        assert buttons(outcome) == []


@MODES
async def test_killed_after_a_send_before_it_was_recorded(tmp_path: Path, unused_port: int, mode: str) -> None:
    """FAULTS 5: the next process finds the reply in the history, by its key."""
    async with talking(tmp_path, mode, unused_port) as (gateway, slack):
        await gateway.stop()
        await gateway.start(kill_at="outbox.sent")
        await ready(gateway)
        asked = slack.say("C0DEV", f"<@{BOT}> hello")
        await gateway.died()
        assert len(slack.posts("C0DEV", asked)) == 1, "the answer; or, on a slow machine, the live message before it"
        await gateway.start()
        await ready(gateway)
        await slack.until(lambda: "white_check_mark" in slack.reactions[asked] or slack.called("conversations.replies"))
        slack.say("C0DEV", "marker", thread=asked)
        await sees(slack, "C0DEV", lambda text: text.endswith("marker"), asked)
        texts = [shown(m) for m in slack.posts("C0DEV", asked)]
        assert texts.count("You said:\nAna: hello") == 1
        assert len(texts) == 2


async def test_a_channel_that_slack_holds_up_holds_up_no_other(tmp_path: Path, unused_port: int) -> None:
    """FAULTS 12: it waits as told, then everything arrives in order."""
    async with talking(tmp_path, "socket", unused_port) as (_, slack):
        slack.say("D0ANA", "switch demo")
        await sees(slack, "D0ANA", lambda text: "demo" in text)
        refused: list[float] = []

        async def storm(_: web.Request, told: dict[str, Any]) -> web.StreamResponse | None:
            if told["channel"] != "C0DEV" or (refused and time.monotonic() - refused[0] > 3):
                return None
            refused.append(time.monotonic())
            headers = {"Retry-After": "4"}
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)

        slack.faults["chat.postMessage"] = storm
        asked = slack.say("C0DEV", f"<@{BOT}> until later on")
        await slack.until(lambda: refused)
        slack.say("D0ANA", "hello")
        await sees(slack, "D0ANA", lambda text: text == "You said:\nhello")
        assert time.monotonic() - refused[0] < 4 * patience()
        await sees(slack, "C0DEV", lambda text: text.endswith("until later on"), asked)
        assert time.monotonic() - refused[0] >= 4
        assert len(refused) == 1, "nobody knocks before the time is over"


async def test_no_secret_is_logged(tmp_path: Path, unused_port: int) -> None:
    async with talking(tmp_path, "socket", unused_port) as (gateway, slack):
        slack.say("D0ANA", "hello")
        await gateway.stop()
        told = gateway.log.read_text()
        assert "slack: serving" in told
        assert "canary" not in told
        assert SECRET not in told


async def test_a_refused_token_is_told_by_doctor(tmp_path: Path, unused_port: int) -> None:
    async with SlackServer() as slack:
        slack.auth = {"ok": False, "error": "invalid_auth"}
        config = {
            "transports": {
                "slack": {"bot_token": "xoxb-x", "app_token": "xapp-x", "api_base_url": slack.api_url},
            }
        }
        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            async with asyncio.timeout(20 * patience()):
                while True:
                    (part,) = [part for part in await gateway.get("/doctor") if part["name"] == "slack"]
                    if "invalid_auth" in part["text"]:
                        break
                    await asyncio.sleep(0.05)
            assert not part["ok"]
            assert "bot_token" in part["text"]
            assert slack.called("auth.test") == 1
