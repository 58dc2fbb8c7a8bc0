"""What an operator chose for agents reaches the real Claude CLI, through a whole gateway: servers of tools, skills."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from gateway.testing import patience
from tests.support import databases, mcp_server
from tests.support.claude_api import ClaudeApi, script
from tests.support.gateway_process import GatewayProcess
from tests.support.mcp_server import HttpServer

KEY = "sk-ant-canary-tools"
SECRET = "tok-canary-tools-0123"
SKILL = "---\nname: release-notes\ndescription: Writes what is new in a release\n---\nThe canary sings at noon.\n"

pytestmark = [pytest.mark.claude, pytest.mark.timeout(120)]


@dataclass
class Talk:
    """Ana in front of two projects: `demo` has a server by the gateway, which `other` has not."""

    api: ClaudeApi
    gateway: GatewayProcess
    server: HttpServer

    def prompt(self, *steps: dict[str, Any], name: str, where: str = "default") -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(self.gateway.send_surely(script(*steps), name, where))

    async def says(self, text: str, name: str, where: str = "default") -> str:
        return "\n".join((await self.gateway.send_surely(text, name, where))["replies"])

    def told(self) -> str:
        """What the model was told last."""
        return str(self.api.main[-1].messages[-1])


async def replies(asking: asyncio.Task[dict[str, Any]]) -> list[str]:
    return list((await asyncio.wait_for(asking, 60 * patience()))["replies"])


def say(server: str, text: str) -> dict[str, Any]:
    return {"tools": [{"name": f"mcp__{server}__say", "input": {"text": text}}]}


def command_lines() -> list[str]:
    """Of every process on this machine, which each of its users can read."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with ClaudeApi(require_key=KEY) as api, HttpServer(f"Bearer {SECRET}") as server:
        chosen = {
            "echo": {"url": server.url, "token": SECRET, "projects": ["demo"]},
            "local": {"command": [sys.executable, mcp_server.__file__], "env": {"GREETING": "from inside"}},
        }
        agent = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url, "permissions": "allow", "mcp": chosen}
        config: dict[str, dict[str, Any]] = {"agent": agent, "dispatcher": {"coalesce_window_ms": 50}}
        with GatewayProcess(tmp_path, config) as gateway:
            folder = gateway.state / ".skills" / "release-notes"
            folder.mkdir(parents=True)
            gateway.state.chmod(0o700)
            (folder / "SKILL.md").write_text(SKILL)
            gateway.environment["HUSKIES_GATEWAY__LOG_LEVEL"] = "debug"
            await gateway.start()
            await gateway.send("new project demo", "p")
            while not gateway.cards.empty():  # on a slow machine it told how far it had got
                gateway.cards.get_nowait()
            yield Talk(api, gateway, server)


async def test_servers_of_both_kinds_and_skills_reach_the_model(talk: Talk) -> None:
    await talk.gateway.send("new project other", "p2", "elsewhere")
    looked = talk.prompt({"gate": "look", "text": "a word and more"}, name="m1")
    await talk.api.arrived(lambda request: request.main)
    lines = command_lines()
    assert any("mcp-config" in line and "/mcp/echo" in line for line in lines)
    tokens = [sled.environ()["HUSKIES_TOKEN"] for sled in talk.gateway.sleds()]
    assert len(tokens) == 2 and not [line for line in lines for secret in (SECRET, *tokens) if secret in line]
    talk.api.open("look")
    assert await replies(looked) == ["a word and more"]

    assert await replies(talk.prompt(say("echo", "one"), {"text": "done"}, name="m2")) == ["done"]
    assert "heard: one" in talk.told()
    assert all(headers["authorization"] == f"Bearer {SECRET}" for _, headers in talk.server.requests)
    assert await replies(talk.prompt(say("local", "two"), {"text": "done"}, name="m3")) == ["done"]
    assert "from inside: two" in talk.told()
    story = "\n".join(text for (text,) in databases.rows(talk.gateway.state, "SELECT text FROM audit"))
    assert story.count("the token of [agent.mcp.echo] was first used") == 1
    assert story.count("api_key of all was first used") == 1
    use = {"tools": [{"name": "Skill", "input": {"skill": "huskies-skills:release-notes"}}]}
    assert await replies(talk.prompt(use, {"text": "read"}, name="m4")) == ["read"]
    request = talk.api.main[-1]
    assert "huskies-skills:release-notes: Writes what is new in a release" in json.dumps(request.body)
    assert "The canary sings at noon." in json.dumps(request.body)

    # The other project has its own server only, whatever its agent tries.
    assert await replies(talk.prompt(say("echo", "no"), {"text": "tried"}, name="m5", where="elsewhere")) == ["tried"]
    assert "heard" not in talk.told()
    look = 'curl -s -H "Authorization: Bearer $ANTHROPIC_AUTH_TOKEN" $ANTHROPIC_BASE_URL/mcp/echo; env'
    bash = {"tools": [{"name": "Bash", "input": {"command": look, "description": "looks"}}]}
    assert await replies(talk.prompt(bash, {"text": "looked"}, name="m6", where="elsewhere")) == ["looked"]
    assert "there is no such server for this project" in talk.told()

    seen = "\n".join(json.dumps(request.body) for request in talk.api.requests)
    assert SECRET not in seen + talk.gateway.log.read_text()
    homes = [file for file in talk.gateway.state.rglob("*") if file.is_file()]
    assert not [file for file in homes if SECRET.encode() in file.read_bytes()]


async def test_with_ask_a_card_comes_first_and_tools_lists_them(talk: Talk) -> None:
    await talk.says("permissions ask", "pa")
    asking = talk.prompt(say("local", "may I"), {"text": "first"}, name="m1")
    card = await talk.gateway.card()
    assert "May I use mcp\\_\\_local\\_\\_say?" in card
    assert '"text": "may I"' in card and "`allow session` (from now on: `mcp__local__say`)" in card
    await talk.says("no, not now", "a1")
    assert await replies(asking) == ["first"]
    assert "not now" in talk.told() and "from inside" not in talk.told()
    asking = talk.prompt(say("local", "again"), {"text": "second"}, name="m2")
    await talk.gateway.card()
    await talk.says("yes", "a2")
    assert await replies(asking) == ["second"]
    assert "from inside: again" in talk.told()

    listed = await talk.says("tools", "t")
    assert f"- `echo`: by the gateway, `{talk.server.url.split('/')[2]}`" in listed
    assert f"- `local`: on this host, `{sys.executable} {mcp_server.__file__}`" in listed
    assert "- skill `release-notes`: Writes what is new in a release, read on this host" in listed
    assert SECRET not in listed
