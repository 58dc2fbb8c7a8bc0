"""What another user of this host gets from an agent's files, and what containers reach that they should not."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.engine import SledSpec
from gateway.engine.container import Resources
from gateway.engine.docker import DockerEngine
from gateway.projects import exposure, folders
from gateway.testing import InMemoryEngine
from tests.support.containers import NO_PROXY, ContainerGateway, inspect
from tests.support.house import house

#: A machine at home, with a network of Docker's.
ROUTES = """Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0
eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0
eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("user", "above"), [(0, 0o711), (1000, 0o700)])
def test_nobody_else_enters_a_source_that_we_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, above: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    before = mode(tmp_path)
    source = tmp_path / "projects" / "mine" / "demo"
    folders.make_source(source, None)
    assert [mode(source), mode(source.parent), mode(source.parent.parent)] == [0o700, above, above]
    assert mode(tmp_path) == before, "what was there stays as it is"
    assert not folders.is_open_to_others(source)


def test_a_folder_is_open_only_if_all_above_it_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat

    def as_if(path: Path, **how: bool) -> os.stat_result:
        """Of the test's folders the modes count; what is above them is open."""
        if path == tmp_path or tmp_path in path.parents:
            return real(path, **how)
        return real(Path("/"), **how)

    monkeypatch.setattr(Path, "stat", as_if)
    source = tmp_path / "a" / "b"
    source.mkdir(parents=True)
    for folder in (tmp_path, source.parent, source):
        folder.chmod(0o755)
    assert folders.is_open_to_others(source)
    for folder in (tmp_path, source.parent, source):
        folder.chmod(0o750)
        assert not folders.is_open_to_others(source)
        folder.chmod(0o755)


async def test_doctor_names_a_source_that_others_can_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as made:
        await made.ask("new project demo", contains="is ready")
        assert await made.app.projects.exposed() == []
        monkeypatch.setattr(folders, "is_open_to_others", lambda _: True)
        (told,) = [finding for finding in await made.app.checks() if finding.name == "project demo"]
        assert f"chmod o-x {tmp_path}/projects/demo" in told.text
        assert not told.broken


async def test_doctor_says_what_a_container_reaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Isolated(InMemoryEngine):
        isolated = True
        there: ClassVar = {("fd00:ec2::254", 80), ("192.168.1.1", 443)}

        async def reaches(self, spec: SledSpec, address: str, port: int) -> bool:
            assert spec.project == "demo"
            return (address, port) in self.there

    monkeypatch.setattr(exposure, "ROUTES", tmp_path / "route")
    exposure.ROUTES.write_text(ROUTES)
    async with house(tmp_path) as made:
        await made.ask("new project demo", contains="is ready")
        engine = Isolated()
        monkeypatch.setattr(made.app.projects.registry, "engine", engine)
        metadata, neighbours = await made.app.projects.exposed()
        assert "ip6tables -I DOCKER-USER -d fd00:ec2::254 -j REJECT" in metadata.text
        assert "169.254" not in metadata.text
        assert "containers reach 192.168.1.1, and so this machine's own network 192.168.1.0/24" in neighbours.text
        # Each line goes on top: what asks for names passes before all else is refused.
        refuse, let_by = neighbours.text.partition("type: ")[2].split("; ")
        assert refuse == "iptables -I DOCKER-USER -d 192.168.1.0/24 -j REJECT"
        assert let_by == "iptables -I DOCKER-USER -d 192.168.1.1 -p udp --dport 53 -j RETURN"
        engine.there.clear()
        assert [found.text for found in await made.app.projects.exposed()] == [
            "no container reaches this machine's metadata service",
            "no container was answered by 192.168.1.1, this machine's router",
        ]
        exposure.ROUTES.write_text(ROUTES.replace("0101A8C0", "01010808"))  # a router that everybody reaches anyway
        assert len(await made.app.projects.exposed()) == 1


@pytest.mark.docker
@pytest.mark.timeout(240)
async def test_it_is_measured_from_inside_a_container(gateway: ContainerGateway, tmp_path: Path) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    engine = DockerEngine(gateway.instance, Resources(), NO_PROXY)
    spec = SledSpec("demo", gateway.paths("demo"), tmp_path, "t", oauth=False, owner=(1000, 1000), ssh_port=2)
    (network,) = inspect(gateway.container("demo"))["NetworkSettings"]["Networks"].values()
    server = await asyncio.start_server(lambda _r, writer: writer.close(), network["Gateway"], 0)
    port = server.sockets[0].getsockname()[1]
    try:
        assert await engine.reaches(spec, network["Gateway"], port)
        server.close()
        await server.wait_closed()
        assert not await engine.reaches(spec, network["Gateway"], port)
    finally:
        server.close()
        await engine.close()
