"""Claude in real containers: the model's keys stay outside, and a project's token opens no other project's wire."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.containers.test_story import memory, processes
from tests.support.claude_api import ClaudeApi, script
from tests.support.containers import ContainerGateway, docker, inspect, shell
from tests.support.mcp_server import HttpServer
from tests.support.processes import until

CANARY = "sk-canary-container-0123456789"
#: One model call over the container's own wire, with a token that it is given; prints the status.
_CALL = """
import http.client, socket, sys
wire = socket.socket(socket.AF_UNIX)
wire.connect("/run/huskies/gateway.sock")
connection = http.client.HTTPConnection("gateway")
connection.sock = wire
headers = {"Authorization": "Bearer " + sys.argv[1]}
connection.request("POST", "/model/v1/messages", b'{"model": "m", "messages": []}', headers)
print(connection.getresponse().status)
"""


def config(api: ClaudeApi) -> dict[str, dict[str, Any]]:
    return {"agent": {"kind": "auto", "api_base_url": api.base_url, "permissions": "allow"}}


async def set_key(gateway: ContainerGateway, value: str) -> None:
    arguments = ["--config", str(gateway.state.parent / "config.toml"), "secrets", "set", "all", "api_key"]
    code, output = await shell(sys.executable, "-m", "gateway", *arguments, stdin=value.encode())
    assert (code, "is used from the next call on" in output) == (0, True), output


@pytest.mark.docker
@pytest.mark.claude
@pytest.mark.timeout(300)
async def test_a_key_that_is_set_while_containers_run_reaches_none_of_them(engine: None, tmp_path: Path) -> None:
    async with ClaudeApi(require_key=CANARY) as api:
        with ContainerGateway(tmp_path, config(api)) as gateway:
            gateway.environment["HUSKIES_GATEWAY__LOG_LEVEL"] = "debug"
            await gateway.start()
            assert "is ready" in await gateway.said("new project demo", "p")
            assert "You said" in await gateway.said("hello", "m1"), "there is no key yet"
            await set_key(gateway, CANARY)
            await gateway.said("new project other", "p2", "elsewhere")

            gate = gateway.projects / "demo" / "gate"
            # A pipe, so that no process comes or goes while they are looked at.
            hold = {"name": "Bash", "input": {"command": "env; mkfifo gate; cat gate"}}
            running = asyncio.create_task(gateway.said(script({"tools": [hold]}, {"text": "looked"}), "m2"))
            await until(gate.exists, 60)
            nowhere(gateway)
            await asyncio.to_thread(gate.write_text, "go on")
            assert await asyncio.wait_for(running, 60 * patience()) == "looked"
            assert api.main[-1].headers["x-api-key"] == CANARY, "it was in use"

            # In a thread: the stub that answers lives in this one.
            await asyncio.to_thread(tokens_open_only_their_own_wire, gateway)
            assert await gateway.stop() == 0
            assert CANARY not in gateway.log.read_text()


@pytest.mark.docker
@pytest.mark.claude
@pytest.mark.timeout(300)
async def test_what_an_operator_chose_is_inside_and_its_secret_is_not(engine: None, tmp_path: Path) -> None:
    async with ClaudeApi(require_key="k") as api, HttpServer(f"Bearer {CANARY}") as server:
        settings = config(api)
        settings["agent"] |= {"api_key": "k", "mcp": {"echo": {"url": server.url, "token": CANARY}}}
        with ContainerGateway(tmp_path, settings) as gateway:
            skill = gateway.state / ".skills" / "release-notes" / "SKILL.md"
            skill.parent.mkdir(parents=True)
            gateway.state.chmod(0o700)
            skill.write_text("---\nname: release-notes\ndescription: Writes what is new\n---\nSing.\n")
            await gateway.start()
            assert "is ready" in await gateway.said("new project demo", "p")
            say = {"name": "mcp__echo__say", "input": {"text": "hello"}}
            change = {"name": "Bash", "input": {"command": "touch /opt/huskies-skills/skills/mine; env"}}
            answer = await gateway.said(script({"tools": [say]}, {"tools": [change]}, {"text": "done"}), "m1")
            assert answer == "done"
            requests = [str(request.body) for request in api.main]
            assert "huskies-skills:release-notes: Writes what is new" in requests[0]
            assert "heard: hello" in str(api.main[1].messages[-1])
            assert "Read-only file system" in str(api.main[2].messages[-1])
            assert "- `echo`: by the gateway, `127.0.0.1:" in await gateway.said("tools", "t")
            nowhere(gateway)
            assert CANARY not in "".join(requests) + gateway.log.read_text()


def nowhere(gateway: ContainerGateway) -> None:
    """Not in image, settings, files, environment, command lines or memory of the container."""
    name = gateway.container("demo")
    image = inspect(name)["Config"]["Image"]
    told = [docker("inspect", name), docker("inspect", image), docker("history", "--no-trunc", image)]
    told.append(docker("logs", name))
    told.append(gateway.inside("demo", "sh", "-c", "cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'"))
    told.append(gateway.inside("demo", "sh", "-c", "find /tmp /run /var/tmp -type f -exec cat {} + 2>&1 | tr -d '\\0'"))
    assert "claude" in (told[4] or ""), "the CLI is under way"
    assert not [text for text in told if CANARY in (text or "")]
    for folder in (gateway.paths("demo").folder, gateway.projects):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                assert CANARY.encode() not in file.read_bytes(), file
    for process in processes(gateway):
        assert CANARY.encode() not in memory(process), process


def tokens_open_only_their_own_wire(gateway: ContainerGateway) -> None:
    def token(project: str) -> str:
        settings: list[str] = inspect(gateway.container(project))["Config"]["Env"]
        return next(value.partition("=")[2] for value in settings if value.startswith("HUSKIES_TOKEN="))

    def call(project: str, bearer: str) -> str:
        return gateway.inside(project, "/opt/huskies/venv/bin/python", "-I", "-c", _CALL, bearer)

    assert call("demo", token("demo")) == "403", "it is known, though no run is open"
    assert call("other", token("other")) == "403"
    assert call("demo", token("other")) == "401"
    assert call("other", token("demo")) == "401"
