"""`huskies doctor` over everything that a configuration names: the same words with and without a running gateway."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.testing import patience
from tests.support.huskies import Huskies
from tests.support.other_server import other_server
from tests.support.slack_server import SECRET, SlackServer, refusing
from tests.support.twilio_server import ACCOUNT, TOKEN, TwilioServer, sender

OURS = "+4915112345678"


def slack_section(server: SlackServer, **more: Any) -> dict[str, Any]:
    return {"bot_token": "xoxb-canary", "app_token": "xapp-canary", "api_base_url": server.api_url, **more}


def lines(out: str) -> dict[str, str]:
    """By the name of the part; its verdict and text."""
    return {line.split()[1].rstrip(":"): line for line in out.splitlines()}


async def test_the_words_are_the_same_with_and_without_a_gateway(tmp_path: Path, unused_port: int) -> None:
    async with SlackServer() as slack, TwilioServer() as twilio:
        slack.scopes = slack.scopes.replace("groups:history,", "").replace("reactions:write,", "")
        slack.skew_s = 900
        hook = f"http://127.0.0.1:{unused_port}/webhooks/whatsapp#rc=5&rp=all"
        twilio.senders = [sender(OURS, hook)]
        whatsapp = {"account_sid": ACCOUNT, "auth_token": TOKEN, "from_number": OURS, "api_base_url": twilio.url}
        listen = f"127.0.0.1:{unused_port}"
        config: dict[str, dict[str, Any]] = {
            "gateway": {"state_dir": str(tmp_path / "state"), "listen": listen, "public_url": f"http://{listen}"},
            "transports": {"slack": slack_section(slack), "whatsapp": whatsapp},
        }
        with Huskies(tmp_path, config) as huskies:
            alone = await huskies("doctor")
            assert alone.code == 1
            assert "BROKEN gateway: no gateway is running" in alone.out
            assert "BROKEN public_url: nothing answers at" in alone.out
            await huskies.start()
            running = await huskies("doctor")
            assert running.code == 1, "a scope that is needed is missing"
            findings = {name: line for name, line in lines(running.out).items() if "." in name}
            assert findings == {name: line for name, line in lines(alone.out).items() if "." in name}
            assert findings.keys() == {
                *("slack.bot_token", "slack.scopes", "slack.clock", "slack.app_token"),
                *("whatsapp.account", "whatsapp.clock", "whatsapp.sender"),
            }
            assert "BROKEN slack.scopes: groups:history is missing: add it under OAuth & Permissions" in running.out
            assert "hint   slack.scopes: reactions:write is missing" in running.out
            assert "hint   slack.clock: this host's clock is 15 min behind Slack's" in running.out
            assert "ok     public_url: " in running.out, "it is this very gateway"
            assert "ok     whatsapp.sender: posts to" in running.out
            told = json.loads((await huskies("doctor", "--json")).out)
            assert {part["name"] for part in told} >= {"gateway", "slack", *findings}
            (account,) = [part for part in told if part["name"] == "slack.bot_token"]
            assert account == {
                **{"name": "slack.bot_token", "ok": True, "verdict": "ok"},
                "text": "@huskies in the workspace Huskies",
            }
            for told_somewhere in (alone.out, running.out, json.dumps(told), huskies.log.read_text()):
                assert "canary" not in told_somewhere


async def test_hints_alone_do_not_fail(tmp_path: Path) -> None:
    async with SlackServer() as slack:
        slack.scopes = slack.scopes.replace("reactions:write,", "")
        with Huskies(tmp_path, {"transports": {"slack": slack_section(slack)}}) as huskies:
            await huskies.start()
            async with slack.news:
                await slack.news.wait_for(lambda: slack.connections)
            done = await huskies("doctor")
            assert "hint   slack.scopes" in done.out
            assert done.code == 0, done.out


async def test_the_public_address_leads_to_another_server(tmp_path: Path) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with SlackServer("http") as slack, other_server(hello) as url:
        config: dict[str, dict[str, Any]] = {
            "gateway": {"state_dir": str(tmp_path / "state"), "listen": "127.0.0.1:0", "public_url": url},
            "transports": {"slack": slack_section(slack, mode="http", signing_secret=SECRET)},
        }
        with Huskies(tmp_path, config) as huskies:
            await huskies.start()
            done = await huskies("doctor")
            assert done.code == 1
            assert f"BROKEN public_url: {url} leads to another server, not to this gateway" in done.out


async def test_slack_over_http_without_an_address_cannot_be_checked(tmp_path: Path) -> None:
    async with SlackServer("http") as slack:
        slack.faults["auth.test"] = refusing("invalid_auth")
        section = slack_section(slack, mode="http", signing_secret=SECRET)
        with Huskies(tmp_path, {"transports": {"slack": section}}) as huskies:
            done = await huskies("doctor")
            assert "hint   public_url: not set" in done.out
            assert "BROKEN slack.bot_token: Slack refuses bot_token (invalid_auth)" in done.out
            assert SECRET not in done.out


async def test_what_the_gateway_would_refuse_to_start_with_is_broken(tmp_path: Path) -> None:
    async with TwilioServer() as twilio:
        section = {"account_sid": ACCOUNT, "auth_token": TOKEN, "from_number": OURS, "api_base_url": twilio.url}
        with Huskies(tmp_path, {"transports": {"whatsapp": section}}) as huskies:
            done = await huskies("doctor")
            assert "BROKEN config: transports.whatsapp needs gateway.public_url" in done.out
            assert "hint   whatsapp.sender: could not be checked: gateway.public_url is not set" in done.out


@pytest.mark.waits
@pytest.mark.timeout(60)
async def test_platforms_that_say_nothing_do_not_hold_it_up(tmp_path: Path) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with other_server(silent) as url:
        matrix = {"homeserver": url, "user_id": "@bot:hs.test", "access_token": "canary"}
        slack = {"bot_token": "xoxb-canary", "app_token": "xapp-canary", "api_base_url": f"{url}/api/"}
        whatsapp = {"account_sid": ACCOUNT, "auth_token": TOKEN, "from_number": OURS, "api_base_url": url}
        config: dict[str, dict[str, Any]] = {
            "gateway": {"state_dir": str(tmp_path / "state"), "listen": "127.0.0.1:0", "public_url": url},
            "transports": {"matrix": matrix, "slack": slack, "whatsapp": whatsapp},
        }
        with Huskies(tmp_path, config) as huskies:
            began = time.monotonic()
            done = await huskies("doctor")
            assert time.monotonic() - began < 18 * patience(), "15 s, and a Python that starts on a busy machine"
            told = lines(done.out)
            for name in ("slack.bot_token", "slack.app_token", "whatsapp.account", "matrix.homeserver", "public_url"):
                assert told[name].startswith("BROKEN"), told
            assert "canary" not in done.out + done.err
