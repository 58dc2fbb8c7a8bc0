"""No secret of the gateway's is anywhere but with the gateway (invariant 8): canaries, and a real Claude run."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi, script
from tests.support.huskies import Huskies, family
from tests.support.processes import command_line

OF_ENVIRONMENT, OF_ALL, OF_PROJECT, OF_GIT = (f"sk-canary-{name}-0123456789" for name in ("env", "all", "demo", "git"))
CANARIES = (OF_ENVIRONMENT, OF_ALL, OF_PROJECT, OF_GIT)

pytestmark = [pytest.mark.claude, pytest.mark.timeout(90)]


def holders(data: bytes) -> list[str]:
    return [canary for canary in CANARIES if canary.encode() in data]


def assert_processes_are_clean(huskies: Huskies) -> None:
    """Sled, runner, CLI and what it runs: their environment and command line."""
    processes = [process for sled in huskies.sleds() for process in family(sled)]
    names = " ".join(map(command_line, processes))
    assert "sled" in names, names
    assert "claude" in names, names
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
            for part in ("environ", "cmdline"):
                assert not holders(Path(f"/proc/{process.pid}/{part}").read_bytes()), (process, part)


def assert_files_are_clean(huskies: Huskies) -> None:
    """State, sources and log; the gateway's own store of secrets is the one exception."""
    files = [path for root in (huskies.state, huskies.projects) for path in root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in files), "the CLI's transcripts are among them"
    assert any(path.name == "huskies.db" for path in files)
    for file in (*files, huskies.log):
        if file != huskies.state / ".gateway" / "secrets.json":
            assert not holders(file.read_bytes()), file


def assert_command_lines_are_clean() -> None:
    """Of every process on this machine, `huskies secrets` above all."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert not holders("\0".join(process.cmdline()).encode()), process


async def test_secrets_stay_with_the_gateway(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=OF_ENVIRONMENT) as api:
        config: dict[str, dict[str, Any]] = {
            "agent": {"kind": "claude", "api_base_url": api.base_url, "permissions": "allow"},
            "git": {"user_name": "T", "user_email": "t@example.org", "tokens": {"git.example.org": OF_GIT}},
        }
        with Huskies(tmp_path, config) as huskies:
            huskies.environment |= {"HUSKIES_AGENT__API_KEY": OF_ENVIRONMENT, "HUSKIES_GATEWAY__LOG_LEVEL": "debug"}
            await huskies.start()
            replies = (await huskies.send("new project demo", "p"))["replies"]
            paid_by = []
            for number, (scope, key, value) in enumerate(
                (("", "", OF_ENVIRONMENT), ("all", "api_key", OF_ALL), ("demo", "oauth_token", OF_PROJECT))
            ):
                if scope:
                    done = await huskies("secrets", "set", scope, key, stdin=value.encode())
                    assert not holders(f"{done.out}{done.err}".encode())
                api.require_key = value
                replies += await run(huskies, tmp_path / f"gate{number}", f"m{number}")
                paid_by.append(api.requests[-1].headers.get("x-api-key") or api.requests[-1].headers["authorization"])
            assert paid_by == [OF_ENVIRONMENT, OF_ALL, f"Bearer {OF_PROJECT}"], "they were all in use"
            api.require_key = "revoked"
            refused = asyncio.create_task(huskies.send("hello", "refused"))
            replies.append(await huskies.card())
            assert "model key was refused" in replies[-1]
            for command in ("status", "version", "logs demo", "logs demo agent", "usage", "whoami", "help"):
                replies += (await huskies.send(command, command))["replies"]
            replies += (await huskies.send("stop", "stop"))["replies"] + (await refused)["replies"]
            replies.append((await huskies("doctor")).out)
            replies.append((await huskies("secrets", "list")).out)
            await huskies.stop()
            assert not holders("\n".join(replies).encode())
            assert_files_are_clean(huskies)
            assert holders((huskies.state / ".gateway" / "secrets.json").read_bytes()) == [OF_ALL, OF_PROJECT]


async def run(huskies: Huskies, gate: Path, external_id: str) -> list[str]:
    """A turn that is looked at while its tool runs; what the tool can see of itself is its answer."""
    look = "env; cat /proc/self/environ; tr '\\0' ' ' < /proc/$PPID/cmdline"
    command = f"{look}; touch {gate}; while test -e {gate}; do sleep 0.05; done"
    steps = ({"tools": [{"name": "Bash", "input": {"command": command}}]}, {"text": "looked"})
    running = asyncio.create_task(huskies.send(script(*steps), external_id))
    async with asyncio.timeout(30 * patience()):
        while not gate.exists():
            assert not running.done(), running.result()
            await asyncio.sleep(0.02)
    assert_processes_are_clean(huskies)
    assert_command_lines_are_clean()
    gate.unlink()
    answer = await asyncio.wait_for(running, 30 * patience())
    assert answer["replies"] == ["looked"]
    return list(answer["replies"])
