"""A cold build of a project's image: how much of its time is the engine's, and how much is ours.

    python -m benchmarks.build [--stack minimal] [--rounds 1]

Cold: a build argument that nobody had before is declared right behind each FROM, so that the engine has no instruction
in its cache; the build log is searched for proof. (With `--brief` the engine may use its cache.) The time of one
`prepare` is taken apart into the engine's builds (one `Client.build` for each layer, its connection included), the
image contract's check (`Images._check`: one container from create to remove), and what is left: our own time, the
engine's small answers to it included. The SDK is imported before; in a gateway the first look at the engine does that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.report import Row, main
from gateway.config.state_dir import instance
from gateway.engine import ProjectPaths, SledSpec
from gateway.engine.container import Resources, image_prefix
from gateway.engine.docker import DockerEngine
from gateway.engine.docker.client import Client
from gateway.engine.docker.images import Images
from gateway.projects import ssh
from stacks.catalog import FALLBACK, catalog
from stacks.images import ImagePlan, Layer, Overlay, plan_image
from tests.support.containers import BASE_IMAGE, NO_PROXY, docker, inputs, missing, names, remove_all

OWN_S = 0.5
BRIEF = {"rounds": 1}
_IMAGE = re.compile(r" ---> ([0-9a-f]{12})$")


@dataclass
class Parts:
    """Where the time of one `prepare` went, in seconds. `image` is the newest that a build made."""

    builds: list[float] = field(default_factory=list)
    check: float = 0.0
    whole: float = 0.0
    image: str = ""

    @property
    def own(self) -> float:
        """What is neither the engine's builds nor the check."""
        return self.whole - sum(self.builds) - self.check

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Have the builds and the check report here."""
        make, check = Client.build, Images._check

        async def timed_build(
            client: Client, arguments: dict[str, Any], hear: Callable[[dict[str, Any]], None], *rest: float
        ) -> None:
            def heard(message: dict[str, Any]) -> None:
                if found := _IMAGE.match(str(message.get("stream", "")).rstrip()):
                    self.image = found[1]
                hear(message)

            began = time.monotonic()
            await make(client, arguments, heard, *rest)
            self.builds.append(time.monotonic() - began)

        async def timed_check(images: Images, spec: SledSpec, layer: Layer, image: str) -> str:
            began = time.monotonic()
            told = await check(images, spec, layer, image)
            self.check = time.monotonic() - began
            return told

        with patch.object(Client, "build", timed_build), patch.object(Images, "_check", timed_check):
            yield


def plan(stack: str, of: str, *, cached: bool) -> ImagePlan:
    """An image that no engine has a single instruction of, unless `cached`."""
    given = inputs(base_image=BASE_IMAGE)
    unique = {} if cached else {f"HUSKIES_BENCHMARK_{secrets.token_hex(6)}": "yes"}
    overlays = [Overlay(found, found.version) for found in catalog() if found.name == stack and found.has_image]
    return plan_image(replace(given, arguments={**given.arguments, **unique}), overlays, image_prefix(of))


async def build(folder: Path, planned: ImagePlan, parts: Parts, *, cached: bool) -> None:
    """One build, from nothing unless `cached`."""
    spec = SledSpec("cold", ProjectPaths.of(folder, "cold"), folder, "t", oauth=False, owner=(1000, 1000), ssh_port=2)
    await ssh.furnish(spec)
    engine = DockerEngine(instance(folder), Resources(), NO_PROXY)
    try:
        await engine.check()
        with parts.watching():
            began = time.monotonic()
            built = (await engine.prepare(spec, planned, lambda _: None)).built
            parts.whole = time.monotonic() - began
    finally:
        await engine.close()
    assert built == [layer.name for layer in planned.layers]
    assert len(parts.builds) == len(built) + 1, "a build for each layer, and one for the label of the last"
    assert cached or "Using cache" not in spec.paths.build_log.read_text(), "this was no cold build"


def one_round(stack: str, *, cached: bool) -> Parts:
    """Build, and leave nothing behind."""
    parts, before = Parts(), set(names("images", "-aq"))
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        folder = Path(name)
        try:
            asyncio.run(build(folder, plan(stack, instance(folder), cached=cached), parts, cached=cached))
        finally:
            remove_all(instance(folder))
            if parts.image not in before:
                remove_nameless(parts.image)
    return parts


def remove_nameless(image: str) -> None:
    """Remove what an interrupted build had made so far; the engine needs a moment to let go of it."""
    for _ in range(20):
        if image not in names("images", "-aq") or docker("rmi", image, check=False) is not None:
            return
        time.sleep(0.5)


def measure(given: argparse.Namespace) -> list[Row]:
    """Build, and take the time apart."""
    if problem := missing():
        sys.exit(problem)
    rounds = [one_round(given.stack, cached=given.brief) for _ in range(given.rounds)]
    layers = [layer.name for layer in plan(given.stack, "names", cached=True).layers]
    whole, engine, check, own = (
        statistics.median(values)
        for values in zip(*((p.whole, sum(p.builds), p.check, p.own) for p in rounds), strict=True)
    )
    row = partial(Row, "build", unit="s")
    return [
        row(f"cold build of {given.stack}, beside the engine's part", whole, bare=engine),
        *(
            row(f"engine: {layer}", statistics.median(parts.builds[number] for parts in rounds))
            for number, layer in enumerate([*(f"layer {name}" for name in layers), "label"])
        ),
        row("image contract's check", check),
        row("our own", own, bound=OWN_S),
    ]


def options(parser: argparse.ArgumentParser) -> None:
    """What, and how often."""
    parser.add_argument("--stack", default=FALLBACK, choices=[FALLBACK, *(s.name for s in catalog() if s.has_image)])
    parser.add_argument("--rounds", type=int, default=1)


if __name__ == "__main__":
    sys.exit(main(__doc__, options, measure, BRIEF))
