"""A warm `new project` beside a plain run of the very same container; twenty at once; and what an idle sled costs.

    python -m benchmarks.bootstrap [--rounds 10] [--bursts 3] [--at-once 20]

The gateway runs in this process, on a platform in memory: only the gateway is between a command and its reply. Its
image (stack python) is built beforehand, and one project stays, so that image and network are in use throughout.

Bare means create and start through the SDK, as the gateway does it and faster than the `docker` command: the same image
and the same JSON (`gateway.engine.container`), with its own port, name, folders and keys, which are made before the
clock starts. Its sled finds no gateway and does nothing.

The clock starts right before `Inbox.accept`, or before the create; it stops when the SSH server's banner can be read on
the published port, and for huskies also when the READY reply is on the platform. The banner is asked for every 5 ms
once the engine says that the container has started: a connection that its proxy takes before that hangs for a second.
Bare and huskies alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from benchmarks.report import Row, main
from gateway.app.app import App
from gateway.app.build import build
from gateway.config import Settings
from gateway.config.state_dir import instance
from gateway.engine import ProjectPaths, SledSpec
from gateway.engine.container import Resources, container, container_name, network
from gateway.engine.docker import DockerEngine
from gateway.engine.docker.client import connect
from gateway.projects import shared, ssh
from gateway.projects.ports import listens_nowhere
from gateway.store import conversations
from gateway.testing import FakeTransport
from tests.support.containers import BASE_IMAGE, NO_PROXY, missing, remove_all

#: Not those of the tests, nor of a gateway that may run here for real.
PORTS = range(24400, 24600)
BARE_PORTS = range(24600, 24800)
BANNER_RATIO, READY_BEHIND_S, BURST_RATIO, SLED_MIB = 1.5, 1.0, 2.0, 60
#: Seconds until a container must have answered.
WITHIN_S = 120.0
#: As a gateway has them without a configuration.
LIMITS = Resources()
BRIEF = {"rounds": 1, "bursts": 1, "at_once": 2}


class Bare:
    """Containers without a gateway, in their own instance: the gateway removes what it does not know."""

    def __init__(self, folder: Path, image: str, owner: tuple[int, int]) -> None:
        self._folder, self._image, self._owner = folder, image, owner
        self.instance = instance(folder)
        self._pool = ThreadPoolExecutor(40)
        self._api = connect(WITHIN_S)
        self._api.create_network(**network(self.instance))
        self._ports = iter(port for port in BARE_PORTS if listens_nowhere(port))
        self._made = 0

    async def prepare(self) -> SledSpec:
        """All that a container needs from its host."""
        self._made += 1
        name, source = f"bare{self._made}", self._folder / f"source{self._made}"
        paths = ProjectPaths.of(self._folder, name)
        spec = SledSpec(
            name, paths, source, "t" * 43, oauth=False, image=self._image, owner=self._owner, ssh_port=next(self._ports)
        )
        await ssh.furnish(spec)
        shared.furnish(spec)
        source.mkdir()
        ssh.own(spec, source)
        return spec

    async def run(self, spec: SledSpec) -> float:
        """Seconds until the banner of one container."""
        began = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(self._pool, self._start, spec)
        return await banner(spec.ssh_port, self._pool) - began

    def _start(self, spec: SledSpec) -> None:
        config = container(spec, self.instance, Resources())
        made = self._api.create_container_from_config(config, container_name(self.instance, spec.project))
        self._api.start(made["Id"])

    async def remove(self, spec: SledSpec) -> None:
        """End the container."""
        name = container_name(self.instance, spec.project)
        await asyncio.to_thread(self._api.remove_container, name, force=True, v=True)


class Watched(DockerEngine):
    """The engine; it also reports each container that it started."""

    def __init__(self, instance: str, limits: Resources) -> None:
        super().__init__(instance, limits, NO_PROXY)
        self.started: defaultdict[str, asyncio.Future[SledSpec]] = defaultdict(asyncio.Future)

    async def start(self, spec: SledSpec) -> None:
        await super().start(spec)
        if not self.started[spec.project].done():
            self.started[spec.project].set_result(spec)


@dataclass
class Huskies:
    """The gateway and the person in front of it."""

    app: App
    engine: Watched
    transport: FakeTransport
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(40))

    async def new(self, name: str, *, watch: bool = True) -> tuple[float, float]:
        """Seconds until the banner (meaningless without `watch`), and until the reply says READY."""
        watching: Awaitable[float] = self._banner(name) if watch else asyncio.sleep(0, 0.0)
        message = self.transport.message(f"new project {name} --stack python", f"m-{name}", room=f"room-{name}")
        began = time.monotonic()
        await self.app.inbox.accept("fake", [message], None)
        seen, ready = await asyncio.gather(watching, self._ready(name))
        return seen - began, ready - began

    async def _banner(self, name: str) -> float:
        spec = await self.engine.started[name]
        return await banner(spec.ssh_port, self.pool)

    async def _ready(self, name: str) -> float:
        def told(texts: list[str]) -> bool:
            assert not any(text.startswith(f"Creating {name} failed") for text in texts), texts
            return any(text.startswith(f"**{name}** is ready.") for text in texts)

        await self.transport.until(told, WITHIN_S)
        return time.monotonic()

    async def remove(self, name: str) -> None:
        """Delete a project with all that it has."""
        project = self.app.projects.get(name)
        said_in = self.transport.message("", "", room=f"room-{name}").conversation
        here = await self.app.store.read(lambda c: conversations.find(c, said_in))
        assert here is not None
        await self.app.projects.delete(project, here.id, purge=True)


async def banner(port: int, pool: ThreadPoolExecutor) -> float:
    """When the SSH server greets; on a thread, so that a busy event loop does not count."""
    return await asyncio.get_running_loop().run_in_executor(pool, _banner, port)


def _banner(port: int) -> float:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        # The engine's proxy takes every connection, and hangs up on those that nobody inside takes.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as there:
            if there.recv(8) == b"SSH-2.0-":
                return time.monotonic()
        time.sleep(0.005)
    raise TimeoutError(f"no SSH server answered on port {port}")


@contextlib.asynccontextmanager
async def gateway(folder: Path, limits: Resources = LIMITS) -> AsyncIterator[Huskies]:
    """A running gateway, as `huskies run` has it."""
    settings = Settings(
        gateway={"state_dir": folder / "state", "listen": "127.0.0.1:0"},
        projects={"root": folder / "projects", "ssh_ports": f"{PORTS[0]}-{PORTS[-1]}"},
        access={"operators": ["fake:ana"]},
        build={"base_image": BASE_IMAGE},
        agent={"kind": "scripted"},
        git={"user_name": "b", "user_email": "b@example.org"},
    )
    (folder / "state" / ".gateway").mkdir(parents=True)
    transport = FakeTransport()
    engine = Watched(instance(settings.gateway.state_dir), limits)
    app = await build(settings, None, engine=engine, more_transports={"fake": transport})
    end = asyncio.Event()
    running = asyncio.create_task(app.run(end))
    started = asyncio.create_task(app.started.wait())
    await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield Huskies(app, engine, transport)
    finally:
        started.cancel()
        end.set()
        await running


async def one_at_a_time(huskies: Huskies, bare: Bare, rounds: int) -> tuple[list[float], list[tuple[float, float]]]:
    """Bare banners, and huskies' banners with their READY."""
    banners, pairs = [], []
    for number in range(rounds + 1):  # the first round warms up: imports, compiled statements, the disk's cache
        spec = await bare.prepare()
        banners.append(await bare.run(spec))
        await bare.remove(spec)
        pairs.append(await huskies.new(f"one{number}"))
        await huskies.remove(f"one{number}")
    return banners[1:], pairs[1:]


async def at_once(huskies: Huskies, bare: Bare, bursts: int, count: int) -> tuple[list[float], list[float]]:
    """Seconds until all bare banners, and until all READYs."""
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(bursts):
        specs = [await bare.prepare() for _ in range(count)]
        took[0].append(await all_of([partial(bare.run, spec) for spec in specs]))
        for spec in specs:
            await bare.remove(spec)
        names = [f"burst{number}-{which}" for which in range(count)]
        took[1].append(await all_of([partial(huskies.new, name, watch=False) for name in names]))
        for name in names:
            await huskies.remove(name)
    return took


async def all_of(works: list[Callable[[], Awaitable[object]]]) -> float:
    """Start all at once; seconds until they are done."""
    began = time.monotonic()
    await asyncio.gather(*(work() for work in works))
    return time.monotonic() - began


def idle_sled(name: str) -> tuple[float, float, float]:
    """RSS and PSS of the sled's process, and the working set of its whole container, in MiB."""
    with contextlib.closing(connect(WITHIN_S)) as api:
        first = psutil.Process(api.inspect_container(name)["State"]["Pid"])
        memory = api.stats(name, stream=False)["memory_stats"]
    sled = next(p for p in (first, *first.children()) if p.cmdline()[1:] == ["-I", "-m", "sled"])
    used = sled.memory_full_info()
    cached = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    return used.rss / 2**20, used.pss / 2**20, (memory["usage"] - cached) / 2**20


def clear(of: str) -> None:
    """Remove all that an instance has; try again if the engine was still busy when a benchmark was cut off."""
    for _ in range(20):
        with contextlib.suppress(AssertionError):
            return remove_all(of)
        time.sleep(0.5)
    return remove_all(of)


async def run(given: argparse.Namespace, folder: Path) -> list[Row]:
    """One gateway, with one project that stays."""
    os.umask(0o077)  # as `huskies run`
    async with gateway(folder) as huskies:
        await huskies.new("stays")
        stays = huskies.app.projects.get("stays")
        assert stays.owner is not None
        bare = Bare(folder / "bare", stays.image, stays.owner)
        alone, pairs = await one_at_a_time(huskies, bare, given.rounds)
        bare_bursts, bursts = await at_once(huskies, bare, given.bursts, given.at_once)
        await asyncio.sleep(2)  # idle: what the last deletions stirred up is over
        sled = container_name(instance(huskies.app.settings.gateway.state_dir), "stays")
        rss, pss, working = await asyncio.to_thread(idle_sled, sled)
    banner_s, ready_s = (statistics.median(values) for values in zip(*pairs, strict=True))
    bare_s, bare_all_s, all_s = map(statistics.median, (alone, bare_bursts, bursts))
    row = partial(Row, "bootstrap")
    return [
        row("new project to the SSH banner, beside a bare start", banner_s, "s", bare_s, BANNER_RATIO),
        row("READY, behind the bare banner", ready_s - bare_s, "s", bound=READY_BEHIND_S),
        row(f"{given.at_once} at once, the last one READY, beside bare banners", all_s, "s", bare_all_s, BURST_RATIO),
        row("RSS of an idle sled", rss, "MiB", bound=SLED_MIB),
        row("PSS of an idle sled", pss, "MiB"),
        row("working set of its container", working, "MiB"),
    ]


def measure(given: argparse.Namespace) -> list[Row]:
    """In a folder, and with containers, that go with it."""
    if problem := missing():
        sys.exit(problem)
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        try:
            return asyncio.run(run(given, Path(name)))
        finally:
            # The bare ones first: they run on the gateway's image.
            for of in (instance(Path(name) / "bare"), instance(Path(name) / "state")):
                clear(of)


def options(parser: argparse.ArgumentParser) -> None:
    """How often, and how many at once."""
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--bursts", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=20)


if __name__ == "__main__":
    sys.exit(main(__doc__, options, measure, BRIEF))
