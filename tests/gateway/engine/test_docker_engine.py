"""What is asked of an engine, in which order, and what follows from its answers: an engine of this process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docker import errors

from gateway.engine import Prepared
from gateway.engine.build_times import BuildTimes
from gateway.engine.container import Resources, container, labels
from gateway.engine.docker import DockerEngine, client
from gateway.engine.docker.client import REQUEST_S, Client, translated
from gateway.engine.docker.images import Images
from gateway.engine.spec import SledSpec
from gateway.errors import EngineDown, EngineError
from gateway.testing import patience
from stacks.images import ImagePlan, Layer
from tests.gateway.engine.test_container import make_spec
from tests.support.containers import NO_PROXY

BASE, TOP = "huskies-1a2b-base:01", "huskies-1a2b-python:02"


def layer(tag: str) -> Layer:
    return Layer(name=tag, tag=tag, dockerfile="FROM scratch\n", files={}, arguments={})


PLAN = ImagePlan("debian:trixie-slim", (layer(BASE), layer(TOP)))


class Api:
    """The SDK's client: images and containers that are there, and those that cannot be removed."""

    def __init__(self) -> None:
        self.tags = [BASE, TOP]
        self.there: dict[str, dict[str, Any]] = {}
        self.stuck: set[str] = set()
        self.down: set[str] = set()
        self.about: dict[str, Any] = {"NCPU": 2, "SecurityOptions": []}
        self.asked = 0
        self.created: list[dict[str, Any]] = []
        self.networks_removed = 0

    def info(self) -> dict[str, Any]:
        self.asked += 1
        return self.about

    def images(self, filters: object) -> list[dict[str, Any]]:
        return [{"RepoTags": [tag]} for tag in self.tags]

    def look(self, path: str) -> dict[str, Any] | None:
        """What is asked without the SDK."""
        if path == "/info":
            return self.info()
        return {} if path.removeprefix("/images/").removesuffix("/json") in self.tags else None

    def remove_image(self, name: str) -> None:
        self._refuse(name)
        self.tags.remove(name)

    def containers(self, all: bool, filters: object) -> list[dict[str, Any]]:
        return [
            {"Id": name, "Names": [f"/{name}"], "Labels": found["Config"]["Labels"]}
            for name, found in self.there.items()
        ]

    def inspect_container(self, name: str) -> dict[str, Any]:
        if name not in self.there:
            raise errors.NotFound("404")
        return self.there[name]

    def remove_container(self, name: str, force: bool, v: bool) -> None:
        self._refuse(name)
        self.there.pop(name, None)

    def create_container_from_config(self, config: dict[str, Any], name: str | None = None) -> dict[str, str]:
        self.created.append(config)
        return {"Id": "made"}

    def start(self, name: str) -> None:
        """Nothing can go wrong."""

    def wait(self, name: str, timeout: float) -> dict[str, int]:
        return {"StatusCode": 0}

    def logs(self, name: str) -> bytes:
        return b""

    def remove_network(self, name: str) -> None:
        self.networks_removed += 1

    def run(self, name: str, spec: SledSpec, **other: str) -> None:
        """Have a container of a project run."""
        state = {"Running": True, "Restarting": False, "Paused": False}
        self.there[name] = {"Id": name, "State": state, "Config": {"Labels": labels(spec, "1a2b") | other}}

    def _refuse(self, name: str) -> None:
        if name in self.down:
            raise ConnectionRefusedError("gone")
        if name in self.stuck:
            raise errors.APIError("500", explanation="device or resource busy")


class Straight(Client):
    """Calls without threads; each lets others go first, as a real one does, and one that takes its time more so."""

    def __init__(self, api: Api) -> None:
        super().__init__()
        self.api = api

    async def call(self, work: Callable[[Any], Any], within_s: float = REQUEST_S) -> Any:
        for _ in range(5 if within_s > REQUEST_S else 1):
            await asyncio.sleep(0)
        with translated():
            return work(self.api)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    monkeypatch.setattr(client, "look", made.look)
    return made


@pytest.fixture
async def calls(api: Api) -> AsyncIterator[Straight]:
    made = Straight(api)
    yield made
    made.close()


@pytest.fixture
def images(calls: Straight) -> Images:
    return Images(calls, "1a2b", Resources(cpus=64), BuildTimes(None), NO_PROXY)


@pytest.fixture
async def engine(calls: Straight, images: Images) -> AsyncIterator[DockerEngine]:
    made = DockerEngine("1a2b", Resources(cpus=64), NO_PROXY)
    made._client.close()
    made._client, made._images = calls, images
    yield made


# --- what is removed -------------------------------------------------------------------------------------------------


async def test_an_image_that_is_wanted_meanwhile_stays(api: Api, images: Images) -> None:
    """The first removal is under way when somebody begins to want the second image."""
    wanted: set[str] = set()

    def keep() -> set[str]:
        if BASE not in api.tags:
            wanted.add(TOP)
        return wanted

    assert await images.reap(keep) == [BASE]
    assert api.tags == [TOP]


async def test_who_finds_an_image_there_does_not_lose_it(
    api: Api, calls: Straight, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a project comes while images are removed: what it is told to be there is there, or is built for it."""
    for at in range(20):
        api.tags = [BASE, TOP]
        wanted: set[str] = set()
        made: list[str] = []

        async def make(*_: object, made: list[str] = made) -> Prepared:
            made.append(TOP)
            return Prepared([TOP])

        async def come(at: int = at, wanted: set[str] = wanted) -> list[str]:
            for _ in range(at):
                await asyncio.sleep(0)
            wanted |= PLAN.tags
            return (await images.ensure(make_spec(), PLAN, lambda _: None)).built

        monkeypatch.setattr(images, "_make", make)
        built, _ = await asyncio.gather(come(), images.reap(partial(set, wanted)))
        assert built == made
        assert built or TOP in api.tags, at


async def test_removing_waits_for_no_build_of_an_image_that_is_wanted(api: Api, images: Images) -> None:
    async with images._turn(PLAN.layers[0], lambda _: None):
        assert await asyncio.wait_for(images.reap(lambda: {BASE}), 1 * patience()) == [TOP]


async def test_one_image_that_cannot_be_removed_does_not_keep_the_others(api: Api, images: Images) -> None:
    api.stuck = {BASE}
    with pytest.raises(EngineError, match=f"the image {BASE} could not be removed: device or resource busy") as caught:
        await images.reap(set)
    assert not isinstance(caught.value, EngineDown)
    assert api.tags == [BASE]
    api.stuck = set()
    assert await images.reap(set) == [BASE]


async def test_an_engine_that_went_down_is_not_asked_further(api: Api, images: Images) -> None:
    api.down = {BASE}
    with pytest.raises(EngineDown):
        await images.reap(set)
    assert api.tags == [BASE, TOP]


async def test_one_container_that_cannot_be_removed_does_not_keep_the_others(api: Api, engine: DockerEngine) -> None:
    for name in ("one", "two", "three"):
        api.run(name, make_spec())
    api.stuck = {"one", BASE}
    with pytest.raises(EngineError) as caught:
        await engine.reap(set, set)
    assert not isinstance(caught.value, EngineDown)
    assert "the container one could not be removed: device or resource busy" in str(caught.value)
    assert f"the image {BASE} could not be removed" in str(caught.value)
    assert list(api.there) == ["one"]
    assert api.tags == [BASE]
    api.stuck = set()
    assert await engine.reap(set, set) == ["one", BASE]
    api.run("one", make_spec())
    api.down = {"one"}
    with pytest.raises(EngineDown):
        await engine.reap(set, set)


# --- what runs -------------------------------------------------------------------------------------------------------


async def test_a_container_of_an_earlier_making_is_not_this_project(api: Api, engine: DockerEngine) -> None:
    spec = make_spec()
    assert not await engine.is_running(spec)
    api.run("huskies-1a2b-demo", make_spec(token="earlier"))
    assert not await engine.is_running(spec)
    api.run("huskies-1a2b-demo", spec, another="label")
    assert await engine.is_running(spec)
    api.there["huskies-1a2b-demo"]["Config"]["Labels"] = None
    assert not await engine.is_running(spec)


async def test_no_container_asks_for_more_processors_than_there_are(
    api: Api, images: Images, engine: DockerEngine, tmp_path: Path
) -> None:
    spec = make_spec(state=tmp_path, source=tmp_path)
    spec.paths.build_log.parent.mkdir(parents=True)
    await engine.start(spec)
    await engine.start(spec)
    await images._check(spec, PLAN.layers[-1], "sha256:abcd")
    assert [made["HostConfig"]["NanoCpus"] for made in api.created] == [2 * 10**9] * 3
    assert api.created[0] == container(spec, "1a2b", Resources(cpus=2))
    assert api.asked == 1, "it is kept"


@pytest.mark.parametrize("mode", ["rootless", "userns"])
async def test_nothing_is_prepared_on_an_engine_whose_users_are_not_this_hosts(
    api: Api, engine: DockerEngine, mode: str
) -> None:
    assert await engine.prepare(make_spec(), PLAN, lambda _: None) == Prepared()
    assert await engine.prepare(make_spec(), PLAN, lambda _: None) == Prepared()
    assert api.asked == 1
    api.about = {"SecurityOptions": ["name=seccomp,profile=default", f"name={mode}"]}
    with pytest.raises(EngineError) as caught:
        await engine.check()
    with pytest.raises(EngineError) as again:
        await engine.prepare(make_spec(), PLAN, lambda _: None)
    assert str(again.value) == str(caught.value)
    assert f"runs with {mode}" in str(again.value)
