"""Releases: what fails leaves what there was, and what there was comes back."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.testing import patience
from tests.support.containers import ContainerGateway, docker, inspect

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


def wants(gateway: ContainerGateway, layer: str) -> None:
    """The source of `demo` asks for a layer of its own."""
    folder = gateway.projects / "demo" / ".huskies"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile.fragment").write_text(layer)


async def confirmed(gateway: ContainerGateway, command: str, name: str) -> str:
    """The reply to a command that is confirmed."""
    code = re.search(r"confirm \w+", await gateway.said(command, name))
    assert code is not None
    return await gateway.said(code[0], f"{name}-confirmed")


async def test_what_fails_leaves_the_release_and_rollback_brings_the_one_before(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    wants(gateway, "RUN touch /opt/two\n")
    assert "a fresh container: release 2." in await confirmed(gateway, "rebuild", "r1")
    second = inspect(gateway.container("demo"))

    wants(gateway, "RUN touch /opt/three && echo the tests broke it && false\n")
    assert "Rebuilding demo failed; nothing changed." in await confirmed(gateway, "rebuild", "r2")
    assert inspect(gateway.container("demo"))["Id"] == second["Id"]
    listed = (await gateway.said("releases", "l1")).splitlines()
    assert [line.partition(",")[0] for line in listed[1:]] == [
        "- **1**: `new project`",
        "- **2** (now): `rebuild`",
        "- not made: `rebuild`",
    ]
    assert "the tests broke it" in listed[-1]

    told = await gateway.said("rollback", "b1")
    assert "demo runs with release 1 again, as release 3. Source and home are as they were" in told
    assert await gateway.logs_in("demo", "ls /opt | grep -c two || true") == "0\n"
    # A gateway that starts again knows what to keep.
    await gateway.stop()
    await gateway.start()
    assert docker("image", "inspect", second["Config"]["Image"], check=False) is not None
    assert "as release 4. Source" in await gateway.said("rollback demo 2", "b2"), "nothing is built"
    assert await gateway.logs_in("demo", "ls /opt/two") == "/opt/two\n"
    assert inspect(gateway.container("demo"))["Image"] == second["Image"]
    assert "has no release 9" in await gateway.said("rollback demo 9", "b3")
    assert "runs with release 4 already" in await gateway.said("rollback demo 4", "b4")


async def test_limits_are_a_release(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    told = await gateway.said("limits demo cpus=1 memory=1g", "l")
    assert told == "demo runs with `memory=1g cpus=1 pids=1024` (release 2)."
    host = inspect(gateway.container("demo"))["HostConfig"]
    assert (host["Memory"], host["NanoCpus"]) == (2**30, 10**9)
    assert "memory must be an amount of memory of at least 64m" in await gateway.said("limits memory=1k", "l2")
    assert "This host has" in await gateway.said("limits memory=900t", "l3")
    assert "release 1 again" in await gateway.said("rollback", "b")
    assert inspect(gateway.container("demo"))["HostConfig"]["Memory"] == 4 * 2**30


async def test_an_agent_proposes_and_people_see_the_difference(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    wants(gateway, "RUN touch /opt/libpq\n")
    propose = "@@huskies propose rebuild because the tests need libpq"
    asking = asyncio.create_task(gateway.send_surely(propose, "m1"))
    card = await gateway.card()
    assert "rebuild because the tests need libpq" in card
    await gateway.said("no, use the pure one", "n")
    replies = (await asyncio.wait_for(asking, 60 * patience()))["replies"]
    assert replies[-1] == "refused: This was not allowed: use the pure one"
    listed = await gateway.said("releases", "l")
    assert "- not made: `propose rebuild`" in listed
    assert "by demo's agent. Reason: the tests need libpq. Not allowed: use the pure one" in listed

    asking = asyncio.create_task(gateway.send_surely(propose, "m2"))
    await gateway.card()
    # What was shown is what is built, or nothing.
    wants(gateway, "RUN touch /opt/other\n")
    await gateway.said("allow", "a2")
    replies = (await asyncio.wait_for(asking, 60 * patience()))["replies"]
    assert "no longer what people were shown" in replies[-1]

    wants(gateway, "RUN touch /opt/libpq\n")
    asking = asyncio.create_task(gateway.send_surely(propose, "m3"))
    await gateway.card()
    await gateway.said("allow", "a3")
    await asyncio.wait_for(asking, 300 * patience())  # its run is stopped: it lived in the container before
    listed = ""
    while "(now): `rebuild`" not in listed:
        listed = await gateway.said("releases", f"l{asyncio.get_running_loop().time()}")
    assert "by demo's agent, allowed by cli:" in listed and "Reason: the tests need libpq" in listed
    assert await gateway.logs_in("demo", "ls /opt/libpq") == "/opt/libpq\n"


async def test_a_grant_spares_no_card_for_what_runs_as_root(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    assert "may now" in await gateway.said("grant demo rebuild", "g")
    wants(gateway, "RUN touch /opt/unseen\n")
    assert "`propose rebuild because …`" in await gateway.said("@@huskies rebuild", "m")
