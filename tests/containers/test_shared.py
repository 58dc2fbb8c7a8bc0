"""What projects share, and what an agent keeps: /shared, and ~/notes."""

from __future__ import annotations

import pytest

from tests.support.containers import ContainerGateway, shell

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


async def test_the_lead_writes_what_all_read(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p1")
    assert "chief leads:" in await gateway.said("new project chief --lead", "p2")
    await gateway.logs_in(
        "chief", "mkdir /shared/about && echo ports > /shared/about/ports.md; ln -s /etc /shared/link"
    )
    assert await gateway.logs_in("demo", "cat /shared/about/ports.md") == "ports\n"
    code, output = await shell(*gateway.ssh("demo"), "echo mine > /shared/about/ports.md")
    assert code != 0 and "Read-only file system" in output
    code, output = await shell(*gateway.ssh("demo"), "rm -rf /shared/about")
    assert code != 0

    assert "demo leads:" in await gateway.said("lead demo", "l1")
    await gateway.logs_in("demo", "echo mine > /shared/about/ports.md")
    code, output = await shell(*gateway.ssh("chief"), "echo again > /shared/about/ports.md")
    assert code != 0 and "Read-only file system" in output
    assert await gateway.logs_in("chief", "cat /shared/about/ports.md") == "mine\n"
    assert "does not lead any more" in await gateway.said("lead off", "l2")
    code, _ = await shell(*gateway.ssh("demo"), "touch /shared/x")
    assert code != 0


async def test_an_agents_notes_outlive_its_container_and_it_is_told_so(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    await gateway.said("@@run mkdir -p ~/notes && echo remember > ~/notes/one.md", "m1")
    assert "release 2" in await gateway.said("rebuild", "r")
    told = await gateway.said("@@context\n@@run cat ~/notes/one.md", "m2")
    assert "remember" in told and "Your notes are in ~/notes." in told and "release 2 (rebuild)" in told
    assert "Your notes are in ~/notes." not in await gateway.said("@@context", "m3")
