"""Behind a company's proxy, which is the only way out: every client of the gateway goes through it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi
from tests.support.gateway_process import GatewayProcess
from tests.support.grounds import until
from tests.support.matrix_room import Room, contains
from tests.support.matrix_user import MatrixUser
from tests.support.slack_server import SlackServer, shown
from tests.support.synapse import Synapse
from tests.support.way_out import WayOut

KEY = "sk-ant-canary-way-out"


@pytest.mark.synapse
@pytest.mark.claude
@pytest.mark.timeout(300)
async def test_every_client_goes_by_the_proxy(synapse: Synapse, tmp_path: Path) -> None:
    """The names resolve nowhere: who does not ask the proxy reaches nothing."""
    bot, ana = synapse.register("huskies-way"), synapse.register("ana-way")
    async with contextlib.AsyncExitStack() as stack:
        way = await stack.enter_async_context(WayOut())
        api = await stack.enter_async_context(ClaudeApi(require_key=KEY))
        slack = await stack.enter_async_context(SlackServer("socket"))
        user = await stack.enter_async_context(MatrixUser(synapse.url, ana))
        slack.host = "slack.invalid"
        slack.channel("D0ANA")
        for name, url in (
            ("matrix", synapse.url),
            ("slack", f"http://127.0.0.1:{slack.port}"),
            ("api", api.base_url),
        ):
            way.hosts[f"{name}.invalid:80"] = int(url.rpartition(":")[2])
        config: dict[str, dict[str, Any]] = {
            "access": {"operators": [f"matrix:{ana.user_id}", "slack:U0ANA"]},
            "dispatcher": {"coalesce_window_ms": 100},
            "agent": {"kind": "claude", "api_key": KEY, "api_base_url": "http://api.invalid"},
            "transports": {
                "matrix": {
                    "homeserver": "http://matrix.invalid",
                    "user_id": bot.user_id,
                    "access_token": bot.access_token,
                    "device_id": bot.device_id,
                },
                "slack": {
                    "mode": "socket",
                    "bot_token": "xoxb-canary",
                    "app_token": "xapp-canary",
                    "api_base_url": "http://slack.invalid/api/",
                },
            },
        }
        gateway = stack.enter_context(GatewayProcess(tmp_path, config))
        gateway.environment |= {"HTTP_PROXY": way.url, "http_proxy": way.url}
        await gateway.start()
        async with asyncio.timeout(60 * patience()):
            while not all(part["ok"] for part in await gateway.get("/doctor") if part["name"] in ("matrix", "slack")):
                await asyncio.sleep(0.1)
        room_id = await user.create_room(invite=[bot.user_id])
        await user.sees_member(room_id, bot.user_id)
        room = Room(user, room_id, bot.user_id)
        await room.say("new project demo")
        await room.sees(contains("is ready"))
        slack.say("D0ANA", "whoami")
        await until(lambda: any("slack:U0ANA, operator" in shown(post) for post in slack.posts("D0ANA")), str, 30)
        await room.say("what do you see?")
        await api.arrived(lambda request: "what do you see?" in request.prompt)
        await gateway.get("/checks")
        for name in ("matrix", "slack", "api"):
            assert way.asked[f"GET {name}.invalid"] + way.asked[f"POST {name}.invalid"] > 0, (name, way.asked)
