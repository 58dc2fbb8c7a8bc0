"""What people and hosts get wrong: a clear reply each time, nothing left behind, the name free."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from gateway.testing import patience
from tests.support.containers import ContainerGateway, docker, inspect, names
from tests.support.engine_relay import EngineRelay
from tests.support.ports import take_ports
from tests.support.small_disk import small_disk

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


def assert_nothing_left(gateway: ContainerGateway, name: str = "demo") -> None:
    assert gateway.containers() == []
    assert not gateway.paths(name).folder.exists()
    assert not (gateway.projects / name).exists()


@pytest.mark.slow
async def test_words_that_cannot_work(gateway: ContainerGateway) -> None:
    await gateway.start()
    for text, told in {
        "new project demo --stack pythn": "There is no stack pythn. There are: ",
        "new project demo --stak python": "--stack",
        "new project Demo!": "2 to 40 lower-case letters",
        "new project demo --git file:///etc": "https://",
        "new project demo --git https://example.org/a.git --adopt": "leave one out",
        f"new project demo --path {gateway.state}/x": "is not inside an allowed folder",
        "rebuild demo --stack python": "",
        "logs demo build": "",
    }.items():
        assert told in await gateway.said(text, text)
        assert_nothing_left(gateway)
    assert "is ready" in await gateway.said("new project demo", "p")
    assert "There is no stack pythn" in await gateway.said("rebuild demo --stack pythn", "r")
    assert "stack" in await gateway.said("rebuild demo --stak python", "r2")
    assert await gateway.said("hello", "h") == "You said:\nhello"


@pytest.mark.slow
async def test_ports_that_are_used_up_or_somebody_elses(tmp_path: Path, engine: None) -> None:
    first, second, third = take_ports(3)
    ports = f"{first}-{third}"
    with ContainerGateway(tmp_path, {"projects": {"ssh_ports": ports}}) as gateway, socket.socket() as other:
        other.bind(("127.0.0.1", second))
        other.listen()
        await gateway.start()
        assert f"-p {first} " in await gateway.said("new project one", "p1")
        assert f"-p {third} " in await gateway.said("new project two", "p2"), "the taken one is passed over"
        refused = await gateway.said("new project demo", "p3")
        assert f"{ports} are used up" in refused
        assert "projects.ssh_ports" in refused
        assert not gateway.paths("demo").folder.exists()
        # The port of a project that is down is taken by somebody else meanwhile.
        await gateway.said("down two", "d")
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended linger
            thief.bind(("127.0.0.1", third))
            thief.listen()
            told = await gateway.said("up two", "u")
            assert f"port {third} of 127.0.0.1 is taken by another program" in told
            assert f"ss -ltnp 'sport = :{third}'" in told
            assert gateway.container("two") not in gateway.containers()
        assert "two is up" in await gateway.said("up two", "u2")
        await gateway.logs_in("two")


async def test_no_base_image_and_no_registry(tmp_path: Path, engine: None) -> None:
    missing = "127.0.0.1:9/nothing/here:1"
    with ContainerGateway(tmp_path, {"build": {"base_image": missing}}) as gateway:
        await gateway.start()
        told = await gateway.said("new project demo", "p")
        assert "failed at this step: build the image" in told
        assert f"`docker pull {missing}`" in told
        assert "debootstrap" in told
        assert "Nothing was left behind" in told
        assert_nothing_left(gateway)
        assert gateway.images() == []


@pytest.mark.slow
async def test_a_build_that_fails_shows_its_last_lines(tmp_path: Path, engine: None) -> None:
    sources = tmp_path / "company.sources"
    sources.write_text("Types: deb\nURIs: http://127.0.0.1:9/debian\nSuites: trixie\nComponents: main\nTrusted: yes\n")
    with ContainerGateway(tmp_path, {"build": {"apt_sources": str(sources)}}) as gateway:
        await gateway.start()
        before = names("ps", "-aq")
        told = await gateway.said("new project demo", "p")
        assert "building base failed: builds do not reach the network" in told and "It was at step" in told
        assert "connect to 127.0.0.1:9" in told.partition("The last lines:")[0], "the line that tells why"
        assert told.count("\n") < 40
        whole = gateway.state / ".logs" / "build-demo.log"
        assert f"The whole log: `{whole}`" in told
        assert "Step 1/" in whole.read_text()
        assert "Nothing was left behind" in told
        assert_nothing_left(gateway)
        assert gateway.images() == []
        assert names("ps", "-aq") == before, "no container of the build is left"


@pytest.mark.slow
async def test_an_image_that_breaks_the_contract_is_refused(tmp_path: Path, engine: None) -> None:
    """A base of the operator's own in which git does not work."""
    warm = names("images", "huskies-tests-base", "--format", "{{.Repository}}:{{.Tag}}")[0]  # has all packages already
    context = tmp_path / "broken"
    context.mkdir()
    (context / "Dockerfile").write_text(
        f"FROM {warm}\nRUN printf '#!/bin/sh\\necho broken git >&2\\nexit 1\\n' > /usr/local/bin/git"
        " && chmod 755 /usr/local/bin/git\n"
    )
    base = f"huskies-broken-{os.getpid()}:1"
    docker("build", "-q", "-t", base, str(context))
    try:
        with ContainerGateway(tmp_path, {"build": {"base_image": base}}) as gateway:
            await gateway.start()
            told = await gateway.said("new project demo", "p")
            assert "breaks the image contract: FAILED git: git --version said: broken git" in told
            assert_nothing_left(gateway)
            assert set(gateway.images()) <= {"base"}, "an image gets its name after its check"
    finally:
        docker("rmi", base)


@pytest.mark.slow
async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, engine: None) -> None:
    with (
        small_disk(tmp_path / "disk", 4) as disk,
        ContainerGateway(tmp_path, {"projects": {"root": str(disk.folder)}}) as gateway,
    ):
        await gateway.start()
        disk.fill()
        told = await gateway.said("new project demo", "p")
        assert "No space left on device" in told
        assert gateway.containers() == []
        assert not gateway.paths("demo").folder.exists()
        disk.free()
        assert "is ready" in await gateway.said("new project demo", "p2")


@pytest.mark.slow
async def test_the_engine_freezes_goes_and_comes_back(tmp_path: Path, engine: None) -> None:
    async with EngineRelay(tmp_path / "engine.sock") as relay:
        with ContainerGateway(tmp_path, {"engine": {"reconcile_s": 0.5}}) as gateway:
            gateway.environment["DOCKER_HOST"] = relay.address
            await gateway.start()
            assert "is ready" in await gateway.said("new project demo", "p")
            relay.freeze()
            # What runs goes on: the wire does not pass through the engine.
            assert await gateway.said("frozen", "m1") == "You said:\nfrozen"
            creating = asyncio.create_task(gateway.said("new project second", "p2", "two"))
            for number in range(40):
                began = asyncio.get_running_loop().time()
                await gateway.get("/projects")
                assert asyncio.get_running_loop().time() - began < 0.5 * patience(), f"look {number}"
            told = await asyncio.wait_for(creating, 60 * patience())
            assert "the Docker engine did not answer" in told
            assert "systemctl start docker" in told
            assert not gateway.paths("second").folder.exists()
            doctor = {part["name"]: part for part in await gateway.get("/doctor")}
            assert not doctor["engine"]["ok"]
            assert "systemctl start docker" in doctor["engine"]["text"]
            relay.thaw()
            assert "is ready" in await gateway.said("new project second", "p3", "two")

            await relay.go()
            told = await gateway.said("new project third", "p4", "three")
            assert "does not answer" in told
            assert str(tmp_path / "engine.sock") in told
            # Deleted while the engine is away: gone for people at once, and for good when it is back.
            receipt = await gateway.confirmed("delete demo", "d")
            assert "the container, until the engine removes it" in receipt
            assert inspect(gateway.container("demo"))["State"]["Running"]
            await relay.come_back()
            while gateway.containers() != [gateway.container("second")]:
                await asyncio.sleep(0.1)
            assert "is ready" in await gateway.said("new project third", "p5", "three")
