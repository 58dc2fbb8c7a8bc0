"""Calls to the engine: every error is one of ours, and a frozen engine holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import requests
import urllib3
from docker import errors

from gateway.engine.container import Resources
from gateway.engine.docker import DockerEngine, address, answers, client
from gateway.engine.docker.client import Client, translated
from gateway.errors import EngineDown, EngineError, UserError
from gateway.testing import patience
from tests.support.containers import NO_PROXY
from tests.support.engine_relay import EngineRelay
from tests.support.fake_engine import FakeEngine

#: Classes that cannot be made of words.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "urllib3.exceptions.InvalidChunkLength": (SimpleNamespace(tell=lambda: 0, length_remaining=1), b"x"),
    "urllib3.exceptions.IncompleteRead": (1, 2),
    "requests.exceptions.JSONDecodeError": ("Expecting value", "", 0),
}


def exceptions_of(module: ModuleType) -> list[type[Exception]]:
    """The exceptions that a module defines, but for its warnings, and what is about proxies that need TLS."""
    found = [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__]
    aside = (Warning, urllib3.exceptions.ProxySchemeUnsupported)
    return [kind for kind in dict.fromkeys(found) if issubclass(kind, Exception) and not issubclass(kind, aside)]


def make(kind: type[Exception]) -> Exception:
    """One of a class, whatever it wants to be made of."""
    arguments = ARGUMENTS.get(f"{kind.__module__}.{kind.__name__}")
    if arguments is None:
        parameters = [*inspect.signature(kind.__init__).parameters.values()][1:]
        wanted = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        arguments = tuple("words" for _ in wanted) or ("words",)
    return kind(*arguments)


KINDS = [kind for module in (errors, requests.exceptions, urllib3.exceptions) for kind in exceptions_of(module)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__.split('.')[0]}-{kind.__name__}")
def test_whatever_the_sdk_raises_becomes_an_error_of_ours(kind: type[Exception]) -> None:
    with pytest.raises(EngineError) as caught, translated():
        raise make(kind)
    assert str(caught.value).strip()
    assert caught.value.__cause__.__class__ is kind
    refused = issubclass(kind, errors.DockerException | errors.StreamParseError)
    assert isinstance(caught.value, EngineDown) is not refused


def test_the_list_of_errors_is_not_empty() -> None:
    assert {errors.NotFound, errors.StreamParseError, requests.exceptions.ReadTimeout} <= set(KINDS)
    assert {urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError} <= set(KINDS)
    assert len(KINDS) > 60


@pytest.mark.parametrize("kind", [KeyError, TypeError, AttributeError, ZeroDivisionError, UserError])
def test_errors_of_our_own_are_left_as_they_are(kind: type[Exception]) -> None:
    with pytest.raises(kind), translated():
        raise kind("x")


def test_what_the_engine_refuses_is_told_in_its_own_words() -> None:
    with pytest.raises(EngineError, match=r"^No such image: x$"), translated():
        raise errors.NotFound("404 Client Error", explanation="No such image: x")


@pytest.mark.parametrize("kind", [ConnectionRefusedError, BrokenPipeError, TimeoutError])
def test_a_lost_connection_is_an_engine_that_is_down(kind: type[OSError]) -> None:
    with pytest.raises(EngineDown, match="systemctl start docker"), translated():
        raise kind("x")


# --- where the engine is ---------------------------------------------------------------------------------------------


@pytest.fixture
async def calls() -> AsyncIterator[Client]:
    made = Client()
    yield made
    made.close()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine that a test may freeze; requests to it may take a second or two, pings a fifth of one."""
    monkeypatch.setattr(client, "REQUEST_S", 1.0)
    monkeypatch.setattr(client, "PATIENCE_S", 2.0)
    monkeypatch.setattr(client, "PING_S", 0.2)
    with FakeEngine(tmp_path / "engine.sock") as made:
        monkeypatch.setenv("DOCKER_HOST", made.address)
        yield made


async def version(calls: Client, within_s: float = 5.0) -> str:
    return await calls.call(lambda api: api.info()["ServerVersion"], within_s)


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "ssh://ana@build", "npipe:////./pipe/docker_engine", "x"])
async def test_an_engine_of_another_machine_is_refused(
    calls: Client, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError) as caught:
        await version(calls)
    assert f"DOCKER_HOST is {host}" in str(caught.value)
    assert "unset DOCKER_HOST, or set engine.kind to process" in str(caught.value)
    assert client.start_it() == str(caught.value), "`init` and `doctor` say the same"
    assert not answers()


def test_an_empty_docker_host_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "")
    assert address.find().address == "unix:///var/run/docker.sock"


async def test_without_a_socket_one_is_told_what_to_type(
    calls: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert not answers()
    with pytest.raises(EngineDown) as caught:
        await version(calls)
    assert f"No such file or directory: {tmp_path}/none.sock" in str(caught.value)
    assert "`systemctl start docker`" in str(caught.value)
    assert calls.trouble == str(caught.value)


async def test_an_engine_that_answers(calls: Client, fake: FakeEngine) -> None:
    assert answers()
    assert await version(calls) == "20.10"
    assert calls.trouble == ""
    with pytest.raises(EngineError, match="No such thing") as caught:
        await calls.call(lambda api: api.inspect_container("x"))
    assert not isinstance(caught.value, EngineDown)
    assert calls.trouble == "", "it answered"


async def test_what_an_engine_says_of_itself_is_kept_until_it_was_away(calls: Client, fake: FakeEngine) -> None:
    assert (await calls.info())["ServerVersion"] == "20.10"
    assert await calls.cpus() == 4
    assert fake.asked.count("/info") == 1
    fake.freeze()
    await down(calls, 0.3)
    fake.thaw()
    fake.asked.clear()
    await calls.info()
    await calls.info()
    assert fake.asked.count("/info") == 1, "another may have come back"


async def test_what_keeps_an_engine_from_saying_that_is_told_as_for_any_other_call(
    calls: Client, fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.freeze()
    with pytest.raises(EngineDown, match=r"did not answer within|it takes too long"):
        await calls.info()
    fake.thaw()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    calls.trouble = ""
    with pytest.raises(EngineDown, match=r"No such file or directory: .*`systemctl start docker`"):
        await calls.info()
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    calls.trouble = ""
    with pytest.raises(EngineError, match="needs an engine on this host"):
        await calls.info()


def test_who_only_asks_what_an_engine_is_needs_no_sdk() -> None:
    """A gateway that starts is ready sooner without it."""
    code = "import sys, gateway.app, gateway.engine.docker.client as c; c.answers()\n"
    code += "try: c.look('/info')\nexcept c.EngineError: pass\n"
    code += "print(*{'docker', 'requests', 'urllib3'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- a frozen engine -------------------------------------------------------------------------------------------------


class Ticks:
    """How long the event loop was kept from anything else, in seconds, at most."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(0.005)
            self.longest, before = max(self.longest, loop.time() - before), loop.time()

    async def stop(self) -> float:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return self.longest


async def down(calls: Client, within_s: float) -> float:
    """A call that fails; the seconds that it took."""
    began = time.monotonic()
    with pytest.raises(EngineDown, match="systemctl start docker"):
        await version(calls, within_s)
    return time.monotonic() - began


@pytest.mark.parametrize("connected", [True, False], ids=["connected before", "never connected"])
async def test_a_frozen_engine_costs_seconds_and_is_used_once_it_thaws(
    calls: Client, fake: FakeEngine, connected: bool
) -> None:
    await version(calls)  # imports the SDK
    if not connected:
        calls._api = None
    fake.freeze()
    ticks = Ticks()
    assert 0.5 <= await down(calls, 0.5) < 2.5
    assert "did not answer within" in calls.trouble
    assert await down(calls, 5) < 2.5 * patience(), "the next one is told by a ping"
    assert await ticks.stop() < 0.1 * patience(), "the event loop is never held up"
    fake.thaw()
    assert await version(calls) == "20.10"
    assert calls.trouble == ""


@pytest.mark.parametrize("connected", [True, False], ids=["connected before", "never connected"])
async def test_sixty_calls_at_once_all_end_and_the_next_is_told_by_a_ping(
    calls: Client, fake: FakeEngine, connected: bool
) -> None:
    await version(calls)
    if not connected:
        calls._api = None
    fake.freeze()
    ticks = Ticks()
    took = await asyncio.gather(*(down(calls, 0.5) for _ in range(60)))
    assert max(took) < 2.5
    # All threads wait for the engine still: who comes now has one all the same.
    fake.asked.clear()
    took = await asyncio.gather(*(down(calls, 5) for _ in range(60)))
    assert max(took) < 2.5
    assert fake.asked.count("/_ping") == 1, "they ask together"
    assert await ticks.stop() < 0.5 * patience(), "a hundred threads of this process want the processor too"
    fake.thaw()
    assert await asyncio.gather(*(version(calls) for _ in range(60))) == ["20.10"] * 60


async def test_threads_come_back_from_a_frozen_engine_together(calls: Client, fake: FakeEngine) -> None:
    """Forty that want to connect wait for the first one, not for one another."""
    fake.freeze()
    began = time.monotonic()
    with pytest.raises(EngineDown):
        await version(calls, 0.2)
    calls.trouble = ""
    await asyncio.gather(*(down(calls, 5) for _ in range(39)))
    assert time.monotonic() - began < 4 * patience()


async def test_closing_waits_for_no_thread(fake: FakeEngine) -> None:
    calls = Client()
    fake.freeze()
    await down(calls, 0.3)
    began = time.monotonic()
    calls.close()
    assert time.monotonic() - began < 0.1 * patience()


def test_a_process_ends_soon_with_calls_under_way(fake: FakeEngine) -> None:
    fake.freeze()
    program = """
import asyncio
from gateway.engine.docker import address, client
from gateway.errors import EngineDown
client.REQUEST_S, client.PING_S = 1.0, 0.2
async def main():
    calls = client.Client()
    asked = (calls.call(lambda api: api.info(), 0.3) for _ in range(50))
    print({type(answer) for answer in await asyncio.gather(*asked, return_exceptions=True)} == {EngineDown})
    calls.close()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=10 * patience(), check=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


# --- builds ----------------------------------------------------------------------------------------------------------


async def build(calls: Client, hear: Any = lambda _: None, within_s: float = 30.0) -> None:
    arguments = {"fileobj": io.BytesIO(b"a context"), "custom_context": True, "rm": True}
    await calls.build(arguments, hear, within_s)


async def test_a_builds_messages_are_heard_one_by_one(calls: Client, fake: FakeEngine) -> None:
    fake.build_says = [{"stream": "Step 1/1"}, {"aux": {"ID": "sha256:1"}}, None]
    heard: list[dict[str, Any]] = []
    await build(calls, heard.append)
    assert heard == fake.build_says[:2]


async def test_a_cancelled_builds_connection_is_cut(calls: Client, fake: FakeEngine) -> None:
    fake.build_says = [{"stream": "Step 1/1"}]
    heard, loop = asyncio.Event(), asyncio.get_running_loop()
    building = asyncio.create_task(build(calls, lambda _: loop.call_soon_threadsafe(heard.set)))
    await asyncio.wait_for(heard.wait(), 5 * patience())
    assert not fake.cut.is_set()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(building, 2 * patience())
    assert await asyncio.to_thread(fake.cut.wait, 2), "the engine ends a build that nobody listens to"
    assert await version(calls) == "20.10", "the others' connection is none of its"


async def test_a_build_that_froze_before_its_first_word_is_not_waited_for(calls: Client, fake: FakeEngine) -> None:
    await version(calls)
    fake.freeze()
    building = asyncio.create_task(build(calls, within_s=4))
    assert await asyncio.to_thread(fake.building.wait, 2)
    building.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert time.monotonic() - began < 2 * patience()


async def test_a_build_may_be_silent_for_so_long_only(calls: Client, fake: FakeEngine) -> None:
    fake.build_says = [{"stream": "Step 1/1"}]
    with pytest.raises(EngineDown, match="takes too long"):
        await asyncio.wait_for(build(calls, within_s=1), 5 * patience())
    assert await asyncio.to_thread(fake.cut.wait, 2)


async def test_an_engine_that_dies_in_a_build_is_down(calls: Client, fake: FakeEngine) -> None:
    fake.build_says = [{"stream": "Step 1/1"}, "die"]
    with pytest.raises(EngineDown, match="systemctl start docker"):
        await build(calls)


async def test_what_a_listener_raises_ends_the_build(calls: Client, fake: FakeEngine) -> None:
    def refuse(_: object) -> None:
        raise UserError("no room for the log")

    fake.build_says = [{"stream": "Step 1/1"}]
    with pytest.raises(UserError, match="no room for the log"):
        await asyncio.wait_for(build(calls, refuse), 5 * patience())
    assert await asyncio.to_thread(fake.cut.wait, 2)


# --- the engine as a whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rootless", "userns"])
async def test_an_engine_whose_users_are_not_this_hosts_is_refused(fake: FakeEngine, mode: str) -> None:
    made = DockerEngine("1a2b", Resources(), NO_PROXY)
    assert await made.check() == "docker 20.10, containers running: 3"
    fake.security = ["name=seccomp,profile=default", f"name={mode}"]
    with pytest.raises(EngineError, match=f"runs with {mode}.*engine.kind to process"):
        await made.check()
    await made.close()


@pytest.mark.docker
async def test_a_real_engine_freezes_and_thaws(
    engine: None, calls: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PING_S", 0.3)
    async with EngineRelay(tmp_path / "relay.sock") as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.address)
        assert await version(calls, 20)
        relay.freeze()
        ticks = Ticks()
        await down(calls, 1)
        assert await down(calls, 20) < 1 * patience()
        assert await ticks.stop() < 0.1 * patience()
        relay.thaw()
        assert await version(calls, 20)
        assert calls.trouble == ""
