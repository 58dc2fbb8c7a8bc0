"""Images: built layer by layer, checked before they get their name, and removed when no project uses them.

The name (a tag of its content) is given to an image last, after the check. So an image that has its name is good, and a
gateway killed in the middle leaves nothing that could be taken for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.engine.build_times import BuildTimes
from gateway.engine.container import Resources, check_container, image_prefix
from gateway.engine.docker.build_proxy import BuildProxy, Way
from gateway.engine.docker.client import Client
from gateway.engine.docker.layer_build import LayerBuild
from gateway.engine.docker.probe import prove
from gateway.engine.engine import Prepared
from gateway.engine.spec import SledSpec
from gateway.errors import BuildFailed, EngineDown, EngineError
from stacks.images import ImagePlan, Layer
from stacks.told import Told, read_told

if TYPE_CHECKING:
    from docker import APIClient

log = logging.getLogger(__name__)

#: Bytes that the engine's disk must have free before a build: the largest stack, and its layers while they are made.
ROOM = 3 * 2**30
#: Seconds that the image contract's check may take.
_CHECK_S = 180
_PULL_S = 900.0
_REMOVE_S = 120.0
#: What the image's stacks tell of themselves, as the check printed it; as JSON, so that it is one line.
_LABEL_TOLD = "huskies.told"


class Images:
    """The images of one gateway."""

    def __init__(self, client: Client, instance: str, limits: Resources, times: BuildTimes, proxy: BuildProxy) -> None:
        self._client = client
        self._instance = instance
        self._limits = limits
        self._times = times
        self._proxy = proxy
        #: A container of this engine has reached us.
        self._proven = False
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        #: How many images are being built or checked.
        self.busy = 0

    async def ensure(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        """Make sure that the image is there. Two who want the same one build it once.

        Raises BuildFailed, EngineError.
        """
        # Under its lock, so that what is seen is not just being removed. Let go before the layers' own are taken.
        async with self._turn(plan.layers[-1], said):
            if (there := await self._client.image(plan.image)) is not None:
                return Prepared([], _told_by(there))
        self.busy += 1
        arguments, pull = plan.layers[0].arguments, partial(self._pull, self._proxy.image, said)
        try:
            async with self._proxy.open(self._client, self._instance, arguments, spec.owner, pull) as way:
                return await self._make(spec, plan, way, said)
        finally:
            self.busy -= 1

    async def _prove(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> None:
        """Before the first build: an engine that cannot run projects is refused by name. Raises EngineError."""
        if self._proven:
            return
        image = plan.base_image or self._proxy.image
        await self._pull(image, said)

        async def run(config: dict[str, Any]) -> tuple[int, str]:
            return await self._client.call(partial(_run, config=config), _CHECK_S)

        await prove(image, self._instance, spec.owner, self._proxy.folder, run)
        self._proven = True

    async def _make(self, spec: SledSpec, plan: ImagePlan, way: Way, said: Callable[[str], None]) -> Prepared:
        await self._prove(spec, plan, said)
        built: list[str] = []
        for number, layer in enumerate(plan.layers):
            async with self._turn(layer, said):
                if await self._client.image(layer.tag) is not None:
                    continue
                await self._client.call(_room)
                if plan.base_image and layer is plan.layers[0]:
                    await self._pull(plan.base_image, said)
                began = time.monotonic()
                left = self._times.estimate([each.name for each in plan.layers[number:]])
                build = LayerBuild(self._client, spec.paths.build_log, layer, said, way=way, left_s=left)
                image = await build.run()
                if layer is plan.layers[-1]:
                    said(f"Checking {layer.name}")
                    told = await self._check(spec, layer, image)
                    image = await build.label(image, {_LABEL_TOLD: json.dumps(told)})
                await self._client.call(partial(_tag, image=image, tag=layer.tag))
                if not build.cached:
                    self._times.note(layer.name, time.monotonic() - began)
                built.append(layer.name)
        await asyncio.to_thread(self._times.save)
        there = await self._client.image(plan.image)
        return Prepared(built, _told_by(there or {}))

    @contextlib.asynccontextmanager
    async def _turn(self, layer: Layer, said: Callable[[str], None]) -> AsyncIterator[None]:
        """Be the only one who looks for a layer, builds or removes it."""
        lock = self._locks[layer.tag]
        if lock.locked():
            said(f"Waiting for {layer.name}, which another project is building")
        async with lock:
            yield

    async def reap(self, keep: Callable[[], Collection[str]]) -> list[str]:
        """Remove the images of this gateway that are not to be kept; what they were.

        What an unfinished build left has no name, and is the engine's cache for the next try. `keep` is asked again
        before each removal: a project may want the image by now.

        Raises EngineError for those that the engine did not remove, after the others.
        """
        prefix = image_prefix(self._instance)
        mine = {"reference": f"{prefix}-*"}
        there = await self._client.call(lambda api: api.images(filters=mine))
        wanted = set(keep())
        removed, failed = [], []
        for tag in [tag for image in there for tag in image["RepoTags"] or [] if tag.startswith(f"{prefix}-")]:
            if tag in wanted:
                continue
            async with self._locks[tag]:
                if tag in keep():
                    continue
                try:
                    if await self._client.call(partial(_remove, name=tag), _REMOVE_S):
                        removed.append(tag)
                except EngineDown:
                    raise
                except EngineError as error:
                    log.info("the image %s stays: %s", tag, error)
                    failed.append(f"the image {tag} could not be removed: {error}")
        if failed:
            raise EngineError("; ".join(failed))
        return removed

    async def _pull(self, base_image: str, said: Callable[[str], None]) -> None:
        """Fetch the image that everything begins with, unless it is there."""
        if await self._client.image(base_image) is not None:
            return
        said(f"Pulling {base_image}")
        try:
            await self._client.call(lambda api: _pull(api, base_image), _PULL_S)
        except EngineDown:
            raise
        except EngineError as error:
            raise BuildFailed(
                f"the base image {base_image} is not on this host and could not be pulled: {error} With a "
                f"registry, type on the host: `docker pull {base_image}`. Without one: `debootstrap "
                "--variant=minbase --include=ca-certificates trixie rootfs && tar -C rootfs -c . | docker import - "
                f"{base_image}`. Or set build.base_image."
            ) from error

    async def _check(self, spec: SledSpec, layer: Layer, image: str) -> str:
        """The image contract: whatever is refused here would fail a project later, and less clearly.

        What the image tells of itself, as it printed it. Raises BuildFailed, EngineError.
        """
        limits = self._limits.within(await self._client.cpus())
        config = check_container(spec, image, self._instance, limits)
        code, output = await self._client.call(lambda api: _run(api, config), _CHECK_S)
        await asyncio.to_thread(_note, spec.paths.build_log, output)
        if code != 0:
            await self._client.call(partial(_remove, name=image), _REMOVE_S)
            lines = [line for line in output.splitlines() if line.startswith("FAILED")] or output.splitlines()[-1:]
            told = lines[0] if lines else f"its check ended with {code}"
            raise BuildFailed(f"the image {layer.name} breaks the image contract: {told}")
        return "\n".join(line for line in output.splitlines() if line.startswith("told "))


def _told_by(image: dict[str, Any]) -> dict[str, Told]:
    """What an image that was inspected tells of itself; of one without that label, nothing."""
    try:
        told = json.loads(((image.get("Config") or {}).get("Labels") or {}).get(_LABEL_TOLD, '""'))
    except ValueError:
        return {}
    return read_told(told) if isinstance(told, str) else {}


def _room(api: APIClient) -> None:
    root = Path(api.info().get("DockerRootDir", "/"))
    with contextlib.suppress(OSError):  # not this gateway's to look at
        free = shutil.disk_usage(root).free
        if problem := no_room(free, str(root)):
            raise BuildFailed(problem)


def no_room(free: int, where: str) -> str:
    """Why nothing can be built with `free` bytes left; empty if it can."""
    if free >= ROOM:
        return ""
    return (
        f"the disk of {where} has {free / 2**30:.1f} GiB left, but a build needs {ROOM / 2**30:.0f}. "
        "`docker system df` shows what fills it, `docker image prune` removes what nothing uses."
    )


def _tag(api: APIClient, image: str, tag: str) -> None:
    repository, _, version = tag.rpartition(":")
    api.tag(image, repository, version)


def _remove(api: APIClient, name: str) -> bool:
    """Remove an image by name; False when something still uses it."""
    from docker import errors

    try:
        api.remove_image(name)
    except errors.NotFound:
        return False
    except errors.APIError as error:
        if error.status_code != 409:
            raise
        log.info("the image %s stays: %s", name, error.explanation)
        return False
    return True


def _pull(api: APIClient, name: str) -> None:
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(name)  # also a digest
    for message in api.pull(repository, tag=tag or "latest", stream=True, decode=True):
        if "error" in message:
            raise EngineError(str(message["error"]))


def _run(api: APIClient, config: dict[str, Any]) -> tuple[int, str]:
    """Run a container to its end; its exit code and what it printed."""
    made = api.create_container_from_config(config)["Id"]
    try:
        api.start(made)
        code = int(api.wait(made, timeout=_CHECK_S)["StatusCode"])
        return code, api.logs(made).decode(errors="replace")
    finally:
        api.remove_container(made, force=True, v=True)


def _note(file: Path, text: str) -> None:
    with file.open("a", encoding="utf-8", errors="replace") as log_file:
        log_file.write(text)
