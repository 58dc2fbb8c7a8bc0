"""A gateway with the real Docker engine. What it leaves there is removed with the test, and must be nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config import build_inputs, host_network
from gateway.config.sections import BuildSection
from gateway.config.state_dir import instance
from gateway.engine import ProjectPaths, SledSpec
from gateway.engine.container import (
    LABEL_INSTANCE,
    LABEL_PROJECT,
    Resources,
    container_name,
    image_prefix,
    network_name,
)
from gateway.engine.docker import BuildProxy, DockerEngine, answers
from gateway.projects.ssh import furnish
from gateway.testing import patience
from stacks.catalog import catalog
from stacks.images import BuildInputs, Overlay, plan_image
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import take_ports

#: Where the SSH ports of a test's projects are; one test has them after the other.
PORTS = take_ports(8)
BASE_IMAGE = "debian:trixie-slim"
#: Keeps the layers that every test builds on in the engine's cache, from one run of the tests to the next.
CACHE = "tests"
#: For an engine whose builds go out by themselves.
NO_PROXY = BuildProxy(Path(tempfile.gettempdir()), BASE_IMAGE)


def missing() -> str:
    """What keeps the tests from using a real engine; empty when nothing does."""
    if not answers():
        return "no Docker engine answers: apt-get install docker.io, and start dockerd"
    if docker("image", "inspect", BASE_IMAGE, check=False) is None:
        return f"the engine has no {BASE_IMAGE}: docker pull {BASE_IMAGE}, or what .ci/run does without a registry"
    return ""


def docker(*arguments: str, check: bool = True) -> str | None:
    """Run the `docker` command; what it printed, None if it failed and that was to be expected."""
    done = subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300 * patience(),
        check=False,
    )
    if done.returncode != 0:
        assert not check, done.stderr
        return None
    return done.stdout.strip()


def inspect(name: str) -> dict[str, Any]:
    """All that the engine says about a container."""
    found: dict[str, Any] = json.loads(docker("inspect", name) or "[]")[0]
    return found


def inputs(**build: Any) -> BuildInputs:
    """What builds get here: all that this machine trusts and goes through, and what is configured."""
    return build_inputs.read(BuildSection(**build), host_network.find(os.environ))


def as_here(folder: Path) -> dict[str, str]:
    """A `[build]` section for the same builds as without one, where the gateway's own environment is another."""
    certificates = inputs().certificates
    folder.mkdir()
    for name, data in certificates.items():
        (folder / name).write_bytes(data)
    return {"ca_certificates": str(folder) if certificates else "none"}


async def warm_up(folder: Path) -> None:
    """Build what all tests share, once."""
    spec = SledSpec("warm", ProjectPaths.of(folder, "warm"), folder, "t", oauth=False, owner=(1000, 1000), ssh_port=2)
    await furnish(spec)
    engine = DockerEngine(CACHE, Resources(), NO_PROXY)
    try:
        stacks = {stack.name: stack for stack in catalog()}
        overlays: list[list[Overlay]] = [[], [Overlay(stacks["python"], stacks["python"].version)]]
        plans = [plan_image(inputs(), each, image_prefix(CACHE)) for each in overlays]
        for plan in plans:
            await engine.prepare(spec, plan, lambda _: None)
        await engine.reap(lambda: ["warm"], lambda: {tag for plan in plans for tag in plan.tags})
    finally:
        await engine.close()


class ContainerGateway(GatewayProcess):
    """A gateway process whose projects live in containers."""

    def __init__(self, folder: Path, config: dict[str, dict[str, Any]] | None = None) -> None:
        config = config or {}
        super().__init__(
            folder,
            {
                "dispatcher": {"coalesce_window_ms": 50},
                "agent": {"kind": "scripted"},
                **config,
                "engine": {"kind": "docker", "allow_unsandboxed": False, **config.get("engine", {})},
                "projects": {
                    "root": str(folder / "projects"),
                    "ssh_ports": f"{PORTS[0]}-{PORTS[-1]}",
                    **config.get("projects", {}),
                },
            },
        )
        self.instance = instance(self.state)

    def __exit__(self, *reason: object) -> None:
        self.kill()
        remove_all(self.instance)
        super().__exit__(*reason)

    def container(self, project: str) -> str:
        """The name of a project's container."""
        return container_name(self.instance, project)

    def containers(self) -> list[str]:
        """The names of this gateway's containers, those that do not run too."""
        return names("ps", "-a", "--filter", f"label={LABEL_INSTANCE}={self.instance}", "--format", "{{.Names}}")

    def images(self) -> list[str]:
        """The names of this gateway's images, without their hashes."""
        found = names("images", f"{image_prefix(self.instance)}-*", "--format", "{{.Repository}}")
        return sorted(name.removeprefix(f"{image_prefix(self.instance)}-") for name in found)

    def networks(self) -> list[str]:
        """The networks of this gateway."""
        return names("network", "ls", "--filter", f"name={network_name(self.instance)}", "--format", "{{.Name}}")

    def paths(self, project: str) -> ProjectPaths:
        """The places of a project."""
        return ProjectPaths.of(self.state, project)

    def inside(self, project: str, *command: str) -> str:
        """Run a command in the container as the engine's operator could, not by SSH."""
        return docker("exec", self.container(project), *command) or ""

    async def said(self, text: str, external_id: str, conversation: str = "default") -> str:
        """What the bot answers."""
        return "\n".join((await self.send_surely(text, external_id, conversation))["replies"])

    async def confirmed(self, text: str, external_id: str, conversation: str = "default") -> str:
        """The same for a command that asks first."""
        asked = await self.said(text, external_id, conversation)
        return await self.said(asked.split("`")[1], f"{external_id}-yes", conversation)

    async def logs_in(self, project: str, command: str = "true", stdin: bytes = b"", within_s: float = 60) -> str:
        """Log in with the system's `ssh` and run a command; what it printed. It has to succeed."""
        code, output = await shell(*self.ssh(project), command, stdin=stdin, within_s=within_s)
        assert code == 0, output
        return output

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run `huskies ARGUMENTS`; its exit code and all that it printed."""
        config = ["--config", str(self.state.parent / "config.toml")]
        return await shell(sys.executable, "-m", "gateway", *config, *arguments)

    def ssh(self, project: str, *options: str) -> list[str]:
        """The start of an `ssh` command line with the project's own key and known host."""
        paths = self.paths(project)
        port = paths.known_hosts.read_text().split("]:")[1].split()[0]
        return [
            *("ssh", "huskies@127.0.0.1", "-p", port, "-i", str(paths.client_key)),
            *("-o", f"UserKnownHostsFile={paths.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-F", "none"),
            *options,
        ]


def names(*arguments: str) -> list[str]:
    """The lines that a `docker` command prints."""
    return (docker(*arguments) or "").split()


def remove_all(of: str) -> None:
    """Remove every container, network and image of an instance; nothing of it is left then."""
    label = f"label={LABEL_INSTANCE}={of}"
    deadline = time.monotonic() + 10 * patience()
    while left := names("ps", "-aq", "--filter", label):
        docker("rm", "-f", "-v", *left, check=False)  # the engine may be at it already, for a gateway that was killed
        assert time.monotonic() < deadline, left
    docker("network", "rm", network_name(of), check=False)
    if images := names("images", f"{image_prefix(of)}-*", "--format", "{{.Repository}}:{{.Tag}}"):
        docker("rmi", *images)
    assert names("ps", "-aq", "--filter", label) == []
    assert names("network", "ls", "-q", "--filter", f"name={network_name(of)}") == []


async def shell(*command: str, stdin: bytes = b"", within_s: float = 60) -> tuple[int, str]:
    """Run a command of this host; its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(stdin), within_s * patience())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """A test that leaves a container, a network or a volume behind fails, whoever made it."""
    before = _everything()
    yield
    assert _everything() - before == set()


def _everything() -> set[str]:
    return {
        *names("ps", "-a", "--format", "{{.Names}}"),
        *names("network", "ls", "--format", "{{.Name}}"),
        *names("volume", "ls", "-q"),
    }


__all__ = ["LABEL_PROJECT", "ContainerGateway", "docker", "inspect", "missing", "nothing_left", "shell", "warm_up"]
