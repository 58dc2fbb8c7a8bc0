"""What dies in a container, and what does not die with it; and the wire, whoever restarts."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi, script
from tests.support.containers import ContainerGateway, docker, inspect
from tests.support.processes import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


async def a_run(gateway: ContainerGateway, order: str, external_id: str, begun: str) -> asyncio.Task[dict[str, Any]]:
    """Have an agent at work; returns once its command has begun."""
    asking = asyncio.create_task(gateway.send_surely(f"@@run touch {begun}; {order}", external_id))
    await until((gateway.projects / "demo" / begun).exists, 30)
    return asking


def inside(gateway: ContainerGateway, wanted: str) -> list[str]:
    """The pids, within the container, of processes whose command line contains `wanted`."""
    lines = gateway.inside("demo", "ps", "-eo", "pid,args").splitlines()
    return [line.split()[0] for line in lines if wanted in line and "ps -eo" not in line]


def has_run_twice(file: Path) -> bool:
    return file.read_text() == "ran\nran\n"


@pytest.mark.slow
async def test_killed_container_sled_and_agent_are_interrupted_and_retried(gateway: ContainerGateway) -> None:
    """The marker makes the command wait the first time only: so a retry can end, and is seen to have run."""
    await gateway.start()
    await gateway.said("new project demo", "p")
    for name in ("container", "sled", "agent"):
        order = f"echo ran >> {name}-ran; [ -e {name}-go ] || {{ setsid sleep 300 & sleep 300; }}"
        run = await a_run(gateway, order, f"m-{name}", f"{name}-begun")
        container = inspect(gateway.container("demo"))["Id"]
        if name == "container":
            docker("kill", gateway.container("demo"))
        else:
            # The engine's kill of what is process 1 to nobody: an operator's, or the kernel's.
            module = "-m sled" if name == "sled" else "-m sled.runner"
            pids = [p for p in inside(gateway, module) if name == "agent" or p not in inside(gateway, "sled.runner")]
            docker("exec", gateway.container("demo"), "bash", "-c", f"kill -9 {' '.join(pids)}", check=False)
        answer = await asyncio.wait_for(run, 60 * patience())
        assert answer["fate"] == "interrupted", name
        assert "retry" in "".join(answer["replies"]), name
        (gateway.projects / "demo" / f"{name}-go").touch()
        await gateway.said("retry", f"r-{name}")
        ran = gateway.projects / "demo" / f"{name}-ran"
        await until(partial(has_run_twice, ran), 30)
        assert await gateway.said("hello", f"h-{name}") == "You said:\nhello"
        assert inside(gateway, "sleep 300") == [], "nothing of the run is left"
        if name == "agent":
            assert inspect(gateway.container("demo"))["Id"] == container
            assert inspect(gateway.container("demo"))["RestartCount"] <= 1
    await gateway.logs_in("demo")


@pytest.mark.slow
async def test_out_of_memory_and_a_fork_bomb_stay_inside(tmp_path: Path, engine: None) -> None:
    limits = {"engine": {"memory": "256m", "pids": 128}}
    with ContainerGateway(tmp_path, limits) as gateway:
        await gateway.start()
        await gateway.said("new project demo", "p", "one")
        await gateway.said("new project other", "o", "two")
        other = inspect(gateway.container("other"))["State"]["StartedAt"]

        eat = "python3 -c 'x = bytearray(2**30); x[::4096] = bytes(len(x[::4096]))' || echo ended with $?"
        await gateway.said(f"@@run {eat} > oom", "m1", "one")
        assert "ended with 137" in (gateway.projects / "demo" / "oom").read_text()
        # The kernel took what the agent had started, not the sled.
        assert await gateway.said("still there", "m2", "one") == "You said:\nstill there"
        assert inspect(gateway.container("demo"))["RestartCount"] == 0

        bomb = "f() { f | f & }; touch bomb; f; sleep 300"
        run = asyncio.create_task(gateway.send_surely(f"@@run {bomb}", "m3", "one"))
        await until((gateway.projects / "demo" / "bomb").exists, 30)
        began = time.monotonic()
        assert await gateway.said("a neighbour", "m4", "two") == "You said:\na neighbour"
        assert time.monotonic() - began < 5 * patience()
        stopped = await gateway.said("stop", "s", "one")
        assert "Stopped the run" in stopped
        await asyncio.wait_for(run, 30 * patience())
        assert await gateway.said("again", "m5", "one") == "You said:\nagain"
        assert inspect(gateway.container("other"))["State"]["StartedAt"] == other


@pytest.mark.slow
@pytest.mark.claude
async def test_without_any_network_chat_and_model_go_on(tmp_path: Path, engine: None) -> None:
    key = "sk-ant-canary-5d21"
    async with ClaudeApi(require_key=key) as api:
        agent = {"kind": "claude", "api_key": key, "api_base_url": api.base_url, "permissions": "allow"}
        with ContainerGateway(tmp_path, {"agent": agent}) as gateway:
            await gateway.start()
            await gateway.said("new project demo", "p")
            docker("network", "disconnect", f"huskies-{gateway.instance}", gateway.container("demo"))
            assert [line.split(":")[0] for line in gateway.inside("demo", "cat", "/proc/net/dev").splitlines()[2:]] == [
                "    lo"
            ]
            tool = script(
                {"tools": [{"name": "Bash", "input": {"command": "cat /proc/net/dev > net"}}]}, {"text": "yes"}
            )
            assert await gateway.said(tool, "m1") == "yes"
            assert "eth0" not in (gateway.projects / "demo" / "net").read_text()
            # Whoever restarts, they find each other: the directory is mounted, not the socket.
            gateway.kill()
            await gateway.start()
            assert await gateway.said(script({"text": "after the gateway"}), "m2") == "after the gateway"


@pytest.mark.slow
async def test_the_wire_finds_itself_again_in_any_order(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo", "p")
    done = gateway.projects / "demo" / "done"
    run = await a_run(gateway, "until [ -e go ]; do sleep 0.05; done; echo once >> done", "m1", "begun")
    gateway.kill()
    (gateway.projects / "demo" / "go").touch()
    await until(done.exists, 20)
    await gateway.start()
    assert (await asyncio.wait_for(run, 30 * patience()))["fate"] == "answered"
    assert done.read_text() == "once\n", "the run went on without its gateway, once"
    for number in range(3):
        docker("restart", "-t", "1", gateway.container("demo"))
        if number == 1:
            gateway.kill()
            await gateway.start()
        assert await gateway.said("hello", f"h{number}") == "You said:\nhello"
