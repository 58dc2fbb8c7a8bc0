"""A gateway as a process in front of a Slack and a Twilio that others made: a message in, a turn, the answer out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.support.emulate_platforms import BOTS, Account, Workspace
from tests.support.gateway_process import GatewayProcess
from tests.support.grounds import until
from tests.support.slack_server import BOT, SECRET, shown
from tests.support.twilio_server import ACCOUNT, ANA, TOKEN
from tests.support.twilio_server import BOT as NUMBER

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


def configured(folder: Path, port: int, operator: str, transport: str, **settings: Any) -> dict[str, dict[str, Any]]:
    """A gateway with one transport, one person, and the scripted agent."""
    return {
        "gateway": {"state_dir": str(folder / "state"), "listen": f"127.0.0.1:{port}"},
        "access": {"operators": [operator]},
        "dispatcher": {"coalesce_window_ms": 100},
        "agent": {"kind": "scripted"},
        "transports": {transport: settings},
    }


async def serves(gateway: GatewayProcess, transport: str) -> None:
    """Wait until the platform's events are taken."""
    async with asyncio.timeout(30 * patience()):
        while not any(part["name"] == transport and part["ok"] for part in await gateway.get("/doctor")):
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_slack_turns_and_an_event_again_after_a_restart(
    tmp_path: Path, npm_packages: Path, unused_port: int
) -> None:
    async with Workspace(npm_packages / "emulate") as space:
        space.postman.target = f"http://127.0.0.1:{unused_port}"
        config = configured(
            tmp_path,
            unused_port,
            f"slack:{space.ana}",
            "slack",
            **{"mode": "http", "bot_token": BOTS, "signing_secret": SECRET, "api_base_url": space.api_url},
        )

        async def reads(text: str, channel: str, thread: str = "") -> dict[str, Any]:
            def found() -> list[dict[str, Any]]:
                return [post for post in space.posts(channel, thread) if text in shown(post)]

            await until(found, lambda: str([shown(post) for post in space.posts(channel, thread)]))
            return found()[0]

        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            await serves(gateway, "slack")
            alone = await space.direct()
            await space.says(alone, "new project demo")
            await reads("is ready", alone)
            thread = (await space.says(space.group, f"<@{BOT}> switch demo")).split(":")[1]
            await reads("demo", space.group, thread)
            asked = await space.says(space.group, "@@sleep 3\n@@say done &amp; dusted", thread_ts=thread)
            live = await reads("⏳", space.group, thread)
            answer = await reads("done & dusted", space.group, thread)
            assert answer["ts"] == live["ts"], "the answer takes the place of the live message"
            await until(
                lambda: space.reactions(asked) == ["eyes", "white_check_mark"], lambda: str(space.reactions(asked))
            )
            await space.says(alone, "@@write result.csv a,b\n@@send result.csv\n@@say sent")
            await until(lambda: any("files" in post for post in space.posts(alone)), lambda: "no file")
            (file,) = next(post["files"] for post in space.posts(alone) if "files" in post)
            assert space.content(file) == b"a,b\n"

            # Slack says it again; and the gateway is another one by then.
            (post,) = (
                post for post in space.postman.posts if b"@@sleep 3" in post.body and b"changed" not in post.body
            )
            await gateway.stop()
            await gateway.start()
            await serves(gateway, "slack")
            assert (await space.postman.deliver(post)).status == 200
            await space.says(alone, "the end")
            await reads("the end", alone)
            assert len(space.posts(space.group, thread)) == 2


@pytest.mark.slow
async def test_whatsapp_turns_and_an_event_again_after_a_restart(
    tmp_path: Path, npm_packages: Path, unused_port: int
) -> None:
    async with Account(npm_packages / "emulate") as twilio:
        twilio.postman.target = f"http://127.0.0.1:{unused_port}"
        config = configured(
            tmp_path,
            unused_port,
            f"whatsapp:{ANA}",
            "whatsapp",
            **{"account_sid": ACCOUNT, "auth_token": TOKEN, "from_number": NUMBER, "api_base_url": twilio.front.url},
        )
        config["gateway"]["public_url"] = twilio.postman.url

        async def reads(text: str) -> dict[str, Any]:
            def found() -> list[dict[str, Any]]:
                return [sent for sent in twilio.sent() if text in (sent["body"] or "")]

            await until(found, lambda: str([sent["body"] for sent in twilio.sent()]))
            return found()[0]

        with GatewayProcess(tmp_path, config) as gateway:
            await gateway.start()
            await serves(gateway, "whatsapp")
            await twilio.says("new project demo")
            await reads("is ready")
            await twilio.says("hello **there**")
            answer = await reads("You said:\nhello *there*")
            await twilio.tells(answer["sid"], "delivered")
            (*_, callback) = twilio.postman.posts
            assert (b"MessageStatus=delivered" in callback.body, callback.statuses) == (True, [200])

            await twilio.says("@@write result.csv a,b\n@@send result.csv\n@@say sent")
            await until(lambda: any(sent["num_media"] == "1" for sent in twilio.sent()), lambda: "no file")
            (sid,) = (sent["sid"] for sent in twilio.sent() if sent["num_media"] == "1")
            assert await twilio.medium(sid) == b"a,b\n"

            (post,) = (post for post in twilio.postman.posts if b"hello" in post.body and b"received" in post.body)
            await gateway.stop()
            await gateway.start()
            await serves(gateway, "whatsapp")
            assert (await twilio.postman.deliver(post)).status == 200
            await twilio.says("the end")
            await reads("the end")
            assert sum("hello" in sent["body"] for sent in twilio.sent() if sent["body"]) == 1
