"""The story again, in containers: an encrypted room, the real Claude CLI, a clone over https, and `ssh` at its end.

Real are Synapse, the encryption, the gateway, the Docker engine, git and its server, the CLI and the system's `ssh`;
only the model behind the API is a stub.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.test_story import KEY, three_within_the_window, two_more_during_a_run
from tests.support.claude_api import ClaudeApi, script
from tests.support.containers import ContainerGateway, as_here, docker, inspect, shell
from tests.support.git_server import GitServer
from tests.support.matrix_room import Room, contains
from tests.support.matrix_user import MatrixUser
from tests.support.processes import command_line, told_by, until
from tests.support.synapse import Synapse

TOKEN = "ghp-canary-31e0d5"
PROJECT = {
    "pyproject.toml": '[project]\nname = "sums"\nversion = "1"\n',
    "sums.py": "def add(a, b):\n    return a + b\n",
    "tests/test_sums.py": "from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
    "conftest.py": "",
}


@pytest.mark.docker
@pytest.mark.synapse
@pytest.mark.claude
@pytest.mark.timeout(400)
async def test_the_story_in_containers(synapse: Synapse, engine: None, tmp_path: Path) -> None:
    bot, ana = synapse.register("huskies-docker"), synapse.register("ana-docker")
    async with (
        ClaudeApi(require_key=KEY) as api,
        GitServer(tmp_path / "git", token=TOKEN) as git,
        MatrixUser(synapse.url, ana) as user,
    ):
        url = await git.repository("demo", PROJECT)
        matrix = {
            "homeserver": synapse.url,
            "user_id": bot.user_id,
            "access_token": bot.access_token,
            "device_id": bot.device_id,
        }
        config: dict[str, dict[str, Any]] = {
            "dispatcher": {},
            "access": {"operators": [f"matrix:{ana.user_id}"]},
            "agent": {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url},
            "git": {"user_name": "Test", "user_email": "test@example.org", "tokens": {git.host: TOKEN}},
            "transports": {"matrix": matrix},
            "build": as_here(tmp_path / "authorities"),
        }
        with ContainerGateway(tmp_path, config) as gateway:
            gateway.environment["SSL_CERT_FILE"] = str(git.ca_file)
            await gateway.start()
            room_id = await user.create_room(invite=[bot.user_id], encrypted=True)
            await user.sees_member(room_id, bot.user_id)
            await user.trusts_keys_of(bot.user_id)
            room = Room(user, room_id, bot.user_id)

            await room.say(f"new project demo --git {url} --stack python")
            await room.say(script({"text": "written while it was made"}))
            ready = await room.sees(contains("is ready"), 120)
            assert str(gateway.projects / "demo") in ready
            assert "stack: python 3.13." in ready and "(asked for)" in ready
            await room.sees(contains("written while it was made"))
            assert any("Building python" in text or "Cloning" in text for text in shown_on_the_way(room)), (
                "live progress"
            )

            await three_within_the_window(room, api)
            await two_more_during_a_run(room, api)
            await stop_during_the_third(room, gateway)

            await room.say("status")
            assert "- waiting" not in await room.sees(contains("**demo**: ready"))

            line = re.findall(r"`(ssh huskies@[^`]*)`", ready)[0]
            await the_line_works(line, gateway)
            the_secrets_are_nowhere(gateway)

            await room.say("delete demo")
            asked = await room.sees(contains("Delete demo?"))
            await room.say(re.findall(r"`(confirm \w+)`", asked)[0])
            receipt = await room.sees(contains("is deleted"))
            assert "removed: container, client key" in receipt
            assert gateway.containers() == []
            assert (gateway.projects / "demo" / "sums.py").exists()
            assert await gateway.stop() == 0
            for secret in (KEY, TOKEN):
                assert secret not in gateway.log.read_text()


def shown_on_the_way(room: Room) -> list[str]:
    """Every text that a message of the bot's has had."""
    found = []
    for place, event in room.user.seen:
        if place == room.room and event["sender"] == room.bot and event["type"] == "m.room.message":
            content = event["content"]
            found.append(content.get("m.new_content", content)["body"])
    return found


async def stop_during_the_third(room: Room, gateway: ContainerGateway) -> None:
    """The agent's shell starts a daemon in a session of its own, and hangs."""
    command = "setsid sh -c 'echo $$ >> pids; exec sleep 300' & echo $$ >> pids; sleep 300"
    await room.say(script({"tools": [{"name": "Bash", "input": {"command": command}}]}, {"text": "never said"}))
    pids = gateway.projects / "demo" / "pids"
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2, 40)
    tree = [p for p in processes(gateway) if "sleep 300" in command_line(p)]
    assert len(tree) >= 2
    waiting = await room.say("never mind the weather")
    await room.accepted(waiting)
    asked = time.monotonic()
    await room.say("stop")
    await asyncio.to_thread(psutil.wait_procs, tree, 5)
    gone_after = time.monotonic() - asked
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree)
    told = await room.sees(contains("Discarded"))
    assert "never mind the weather" in told
    assert "Stopped the run" in told
    # Two seconds from the command's arrival; the rest is the way through the homeserver.
    assert gone_after < 3.5, gone_after


def processes(gateway: ContainerGateway) -> list[psutil.Process]:
    """The container's processes, as this host sees them."""
    first = psutil.Process(inspect(gateway.container("demo"))["State"]["Pid"])
    return [first, *first.children(recursive=True)]


async def the_line_works(line: str, gateway: ContainerGateway) -> None:
    """The system's `ssh` with the line as it was sent, and what it finds there."""
    pinned = ["-o", f"UserKnownHostsFile={gateway.paths('demo').known_hosts}", "-o", "StrictHostKeyChecking=yes"]
    arguments = [*shlex.split(line), *pinned, "-o", "BatchMode=yes", "-F", "none"]

    async def there(command: str) -> str:
        code, output = await shell(*arguments, command)
        assert code == 0, output
        return output

    status = await there("cat /proc/self/status")
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"{capabilities}:\t0+\n", status), status
    assert "NoNewPrivs:\t1" in status
    assert set((await there("ps -eo user=")).split()) == {"huskies"}
    assert all(process.uids().real == 70000 for process in processes(gateway)), "no root process, seen from outside"
    owner = (gateway.projects / "demo").stat()
    assert (await there("pwd; stat -c '%u %g' .; touch made-there")).split() == ["/workspace", "70000", "70000"]
    assert (owner.st_uid, owner.st_gid) == (70000, 70000)
    assert (gateway.projects / "demo" / "made-there").stat().st_uid == 70000
    assert "1 passed" in await there("python3 -m pytest -q")
    assert (await there("git config remote.origin.url")).startswith("https://localhost:")
    assert "the host's sockets" not in await there("ls /var/run/docker.sock 2>/dev/null || true")
    made = inspect(gateway.container("demo"))
    assert made["HostConfig"]["CapDrop"] == ["ALL"]
    assert [mount for mount in made["Mounts"] if "docker.sock" in mount["Source"]] == []
    assert {binding["HostIp"] for bindings in made["NetworkSettings"]["Ports"].values() for binding in bindings} == {
        "127.0.0.1"
    }


def the_secrets_are_nowhere(gateway: ContainerGateway) -> None:
    """Invariant 8: not in the image, the container's settings, its files, nor any of its processes' memory."""
    name = gateway.container("demo")
    image = inspect(name)["Config"]["Image"]
    told = [docker("inspect", name), docker("inspect", image), docker("history", "--no-trunc", image)]
    told += [
        docker("logs", name),
        gateway.inside("demo", "sh", "-c", "cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'"),
    ]
    told.append(
        gateway.inside(
            "demo",
            "sh",
            "-c",
            "cat /run/sshd_config; find /tmp /run /var/tmp -type f -exec cat {} + 2>&1 | tr -d '\\0'",
        )
    )
    told += [told_by(process) for process in processes(gateway)]
    for secret in (KEY, TOKEN):
        for text in told:
            assert text is not None
            assert secret not in text
        for folder in (gateway.paths("demo").folder, gateway.projects):
            for file in folder.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    assert secret.encode() not in file.read_bytes(), file
        for process in processes(gateway):
            assert secret.encode() not in memory(process), process
    # The search finds what is there: the project's own token for its wire is in the sled's memory.
    wire = re.findall(r"HUSKIES_TOKEN=([\w-]+)", told[0] or "")[0]
    assert any(wire.encode() in memory(process) for process in processes(gateway))


def memory(process: psutil.Process) -> bytes:
    """What a process may write to: heaps, stacks, buffers."""
    found = bytearray()
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            first, last = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw" not in line.split()[1] or last - first > 2**28:
                continue
            try:
                file.seek(first)
                found += file.read(last - first)
            except (OSError, ValueError, OverflowError):
                continue  # a part that cannot be read as memory: a device, a guard
    return bytes(found)
