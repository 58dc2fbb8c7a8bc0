"""Pushing: only the gateway has the forge's token, and it asks before it uses it for that. Real git at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.testing import patience
from tests.support.gateway_process import GatewayProcess
from tests.support.git_server import GitServer

TOKEN = "ghp-canary-push-77aa"

pytestmark = pytest.mark.timeout(90)

COMMIT = "git -c user.name=A -c user.email=a@x commit -q --allow-empty -m"


class Scene:
    """A project whose repository is on a forge that wants a token."""

    def __init__(self, forge: GitServer, gateway: GatewayProcess) -> None:
        self.forge = forge
        self.gateway = gateway
        self.bare = forge.folder / "repositories" / "demo.git"

    async def heads(self) -> list[str]:
        """The subjects of the commits that the forge has, newest first."""
        return (await self.forge.git(self.bare, "log", "--format=%s", "main")).splitlines()

    def push(self, subject: str, name: str, how: str = "git push 2>&1") -> asyncio.Task[dict[str, Any]]:
        order = f"@@run {COMMIT} {subject}; {how}; echo ended with $?"
        return asyncio.create_task(self.gateway.send_surely(order, name))

    async def told(self, pushing: asyncio.Task[dict[str, Any]]) -> str:
        return "\n".join((await asyncio.wait_for(pushing, 30 * patience()))["replies"])


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with GitServer(tmp_path / "git", token=TOKEN) as forge:
        url = await forge.repository("demo", {"README.md": "demo\n"})
        await forge.git(forge.folder / "repositories" / "demo.git", "config", "http.receivepack", "true")
        config: dict[str, dict[str, Any]] = {
            "dispatcher": {"coalesce_window_ms": 50},
            "agent": {"kind": "scripted"},
            "git": {"user_name": "Test", "user_email": "test@example.org", "tokens": {forge.host: TOKEN}},
        }
        with GatewayProcess(tmp_path, config) as gateway:
            gateway.environment["SSL_CERT_FILE"] = str(forge.ca_file)
            await gateway.start()
            await gateway.send("new project demo", "p")
            pull = f"git remote add origin {url} && git pull -q origin main && git branch -q -u origin/main"
            assert (await gateway.send(f"@@run {pull}; git log --format=%s", "c"))["replies"] == ["first"], (
                "fetched by the gateway"
            )
            yield Scene(forge, gateway)


async def test_a_push_is_asked_for_once_allowed_and_denied(scene: Scene) -> None:
    pushing = scene.push("one", "m1")
    card = await scene.gateway.card()
    assert "may the agent use git push?" in card
    assert f"https://{scene.forge.host}/demo.git" in card
    assert await scene.heads() == ["first"], "nothing has left yet"
    await scene.gateway.send("allow", "a1")
    assert "ended with 0" in await scene.told(pushing)
    assert await scene.heads() == ["one", "first"]
    # What was allowed holds for a while: a push is several requests, and often one of several pushes.
    assert "ended with 0" in await scene.told(scene.push("two", "m2"))
    assert (await scene.heads())[0] == "two"
    for file in (scene.gateway.projects / "demo").rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file


async def test_what_is_denied_stays_and_the_agent_reads_why(scene: Scene) -> None:
    pushing = scene.push("one", "m1")
    await scene.gateway.card()
    await scene.gateway.send("deny", "d1")
    told = await scene.told(pushing)
    assert "nobody allowed this push" in told
    assert "ended with 0" not in told
    assert await scene.heads() == ["first"]
    # An address in another spelling is the same place.
    pushing = scene.push("two", "m2", f"git push git@{scene.forge.host}:demo.git HEAD:main 2>&1")
    assert f"https://{scene.forge.host}/demo.git" in await scene.gateway.card()
    await scene.gateway.send("deny", "d2")
    assert "nobody allowed this push" in await scene.told(pushing)


async def test_a_push_that_is_given_up_closes_its_card(scene: Scene) -> None:
    pushing = scene.push("one", "m1", "timeout 2 git push 2>&1")
    await scene.gateway.card()
    assert "ended with 124" in await scene.told(pushing)
    assert "1. git push" not in (await scene.gateway.send("questions", "q"))["replies"][0]


async def test_without_a_run_nobody_pushes(scene: Scene) -> None:
    source = scene.gateway.projects / "demo"
    script = "until [ -e go ]; do sleep 0.05; done; git push > pushed 2>&1; echo ended with $? >> pushed"
    await scene.gateway.send(f"@@run ({COMMIT} one; {script}) > /dev/null 2>&1 & sleep 0.1", "m1")
    (source / "go").touch()
    async with asyncio.timeout(20 * patience()):
        while not (source / "pushed").exists() or "ended with" not in (source / "pushed").read_text():
            await asyncio.sleep(0.05)
    assert "none is under way" in (source / "pushed").read_text()
    assert await scene.heads() == ["first"]


async def test_fetching_goes_by_the_gateway_unasked(scene: Scene) -> None:
    work = scene.forge.folder / "work" / "demo"
    await scene.forge.git(work, "commit", "--quiet", "--allow-empty", "--message=second")
    await scene.forge.git(work, "push", "--quiet", str(scene.bare), "main")
    told = await scene.gateway.send("@@run git pull -q 2>&1; git log --format=%s", "m1")
    assert told["replies"] == ["second\nfirst"]
