"""Clones by a real sled: real git, relay, wire, git proxy and git server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from gateway.errors import SledAway, SledRefused
from gateway.testing import patience
from gateway.wire import Bodies, GitProxy
from sled.clone import MAX_TOLD, Progress, Relayed, clone_environment, empty, explain, host_of, is_clonable
from sled.protocol import Call
from tests.support.git_server import GitServer, not_asked
from tests.support.processes import until
from tests.support.yard import PROJECT, TOKEN, Yard, make_yard

CANARY = "tok-canary-0123"


@dataclass
class Place:
    """A project that can clone, and the forge to clone from; the gateway has its token."""

    yard: Yard
    forge: GitServer

    @property
    def workspace(self) -> Path:
        return self.yard.workspace

    async def clone(self, url: str, *, proxied: bool = True, said: list[str] | None = None, **more: str) -> str:
        """Have the sled clone; what it answered."""
        arguments = {"url": url, "hosts": f"{host_of(url)},localhost:1" if proxied else "", **more}
        call = Call(call=self.yard.gateway.sleds.new_call_id(), job="clone", arguments=arguments)
        say = None if said is None else said.append
        return await self.yard.gateway.sleds.call(PROJECT, call, 60, said=say)

    async def failure(self, url: str, *, proxied: bool = True) -> str:
        """Why it did not clone; the workspace is as it was."""
        with pytest.raises(SledRefused) as caught:
            await self.clone(url, proxied=proxied)
        assert list(self.workspace.iterdir()) == []
        text = str(caught.value)
        assert CANARY not in text and TOKEN not in text and "127.0.0.1" not in text
        return text

    def trust(self) -> None:
        """Have the project's git trust the forge: for clones that do not go by the gateway."""
        with self.config.open("a") as file:
            file.write(f"[http]\n\tsslCAInfo = {self.forge.ca_file}\n")

    @property
    def config(self) -> Path:
        return self.yard.home / ".gitconfig"

    async def git(self, *arguments: str) -> str:
        return await self.forge.git(self.workspace, *arguments)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    async with GitServer(tmp_path / "forge", token=CANARY) as forge:
        monkeypatch.setenv("SSL_CERT_FILE", str(forge.ca_file))
        proxy = GitProxy({forge.host: CANARY, "localhost:1": CANARY}, not_asked, Bodies())
        async with make_yard(proxy.routes) as yard:
            yard.sled()
            await yard.arrival()
            yield Place(yard, forge)
        await proxy.close()


async def test_a_private_repository_is_cloned_and_keeps_no_trace_of_how(place: Place) -> None:
    url = await place.forge.repository("demo", {"README.md": "hello\n", "folder/run.sh": "true\n"})
    said: list[str] = []
    assert await place.clone(url, said=said) == ""
    assert (place.workspace / "folder" / "run.sh").read_text() == "true\n"
    assert await place.git("status", "--porcelain", "--branch") == "## main...origin/main"
    assert await place.git("config", "remote.origin.url") == url

    assert any("Receiving objects" in line or "Cloning into" in line for line in said)
    for secret in (CANARY, TOKEN, "127.0.0.1"):
        assert not any(secret in line for line in said)
        for file in (*place.workspace.rglob("*"), *place.yard.home.rglob("*"), place.yard.log):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    assert all(TOKEN not in str(request) for request in place.forge.requests)


async def test_a_public_repository_is_cloned_directly(place: Place) -> None:
    place.forge.token = ""
    place.trust()
    url = await place.forge.repository("demo", {"a": "1"})
    assert await place.clone(url, proxied=False) == ""
    assert await place.git("config", "remote.origin.url") == url
    assert all("authorization" not in request.headers for request in place.forge.requests)


async def test_an_empty_repository_is_a_repository(place: Place) -> None:
    work = place.forge.folder / "work" / "empty"
    work.mkdir(parents=True)
    await place.forge.git(work, "init", "--quiet", "--initial-branch=main")
    assert await place.clone(await place.forge.publish("empty")) == ""
    assert [path.name for path in place.workspace.iterdir()] == [".git"]


async def test_nothing_that_came_along_is_started_or_followed(place: Place) -> None:
    """Hooks of a template, filters, helpers that the home names, submodules of the repository."""
    canary, template = place.yard.home / "canary", place.yard.home / "template"
    (template / "hooks").mkdir(parents=True)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (template / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (template / "hooks" / hook).chmod(0o755)
    program = place.yard.home / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    place.config.write_text(
        f"[init]\n\ttemplateDir = {template}\n[core]\n\tfsmonitor = {program}\n\taskPass = {program}\n"
        f"[credential]\n\thelper = {program}\n[submodule]\n\trecurse = true\n[protocol]\n\tallow = always\n"
    )
    place.trust()
    assert "asks for a login" in await place.failure(place.forge.url("x"), proxied=False)
    assert not canary.exists()

    inner = await place.forge.repository("inner", {"secret.txt": "x"})
    await place.forge.repository(
        "outer",
        {".gitmodules": f'[submodule "inner"]\n\tpath = inner\n\turl = {inner}\n\tupdate = !touch {canary}\n'},
    )
    work = place.forge.folder / "work"
    commit = await place.forge.git(work / "inner", "rev-parse", "HEAD")
    await place.forge.git(work / "outer", "update-index", "--add", "--cacheinfo", f"160000,{commit},inner")
    await place.forge.git(work / "outer", "commit", "--quiet", "--message=submodule")
    told = await place.clone(await place.forge.publish("outer"))
    assert told.startswith("the repository has a submodule, not fetched: `git submodule update --init --recursive`")
    assert list((place.workspace / "inner").iterdir()) == []
    assert not any("inner" in request.path for request in place.forge.requests)
    assert not canary.exists()

    empty(place.workspace)
    told = await place.clone(place.forge.url("outer"), submodules="yes")
    assert told.startswith("not every submodule was fetched") and "submodule.inner.update" in told
    assert not canary.exists()


async def with_submodule(place: Place, name: str, inner: str, url: str, folder: str = "inner") -> str:
    """A repository that has another one as a submodule; its URL."""
    await place.forge.repository(name, {".gitmodules": f'[submodule "x"]\n\tpath = {folder}\n\turl = {url}\n'})
    work = place.forge.folder / "work"
    commit = await place.forge.git(work / inner, "rev-parse", "HEAD")
    await place.forge.git(work / name, "update-index", "--add", "--cacheinfo", f"160000,{commit},{folder}")
    await place.forge.git(work / name, "commit", "--quiet", "--message=submodule")
    return await place.forge.publish(name)


@pytest.mark.parametrize("proxied", [True, False], ids=["private", "public"])
async def test_submodules_are_fetched_when_that_is_wanted(place: Place, proxied: bool) -> None:
    """Also theirs, and by a relative address."""
    if not proxied:
        place.forge.token = ""
        place.trust()
    deepest = await place.forge.repository("deepest", {"deep.txt": "deep"})
    await with_submodule(place, "inner", "deepest", deepest, "deeper")
    url = await with_submodule(place, "outer", "inner", "../inner.git")
    assert await place.clone(url, proxied=proxied, submodules="yes") == ""
    assert (place.workspace / "inner" / "deeper" / "deep.txt").read_text() == "deep"
    assert await place.git("status", "--porcelain") == ""
    assert await place.git("config", "submodule.x.url") == place.forge.url("inner")
    empty(place.workspace)
    told = await place.clone(url, proxied=proxied)
    assert "has a submodule, not fetched" in told and "`--submodules`" in told


@pytest.mark.parametrize("url", ["http://localhost:1/x.git", "ext::sh -c touch% canary", "/etc", "git@localhost:x/y"])
async def test_a_submodule_elsewhere_than_https_is_not_fetched(place: Place, url: str) -> None:
    await place.forge.repository("inner", {"a": "1"})
    told = await place.clone(await with_submodule(place, "outer", "inner", url), submodules="yes")
    assert told.startswith("not every submodule was fetched (x has no https URL)")
    assert (place.workspace / ".gitmodules").exists(), "the clone stays"


async def test_a_submodule_that_cannot_be_reached_is_told(place: Place) -> None:
    await place.forge.repository("inner", {"a": "1"})
    url = await with_submodule(place, "outer", "inner", "https://localhost:1/x.git")
    told = await place.clone(url, submodules="yes")
    assert told.startswith("not every submodule was fetched (") and "localhost:1" in told
    assert CANARY not in told and TOKEN not in told and "127.0.0.1" not in told


async def test_files_of_lfs_are_told_of(place: Place) -> None:
    url = await place.forge.repository("demo", {"art/.gitattributes": "*.psd filter=lfs diff=lfs merge=lfs -text\n"})
    assert "`git lfs pull` fetches them" in await place.clone(url)
    empty(place.workspace)
    other = await place.forge.repository("plain", {".gitattributes": "# *.psd filter=lfs\n*.sh eol=lf\n"})
    assert await place.clone(other) == ""


async def test_a_branch_is_taken_and_of_a_page_below_it_what_is_one(place: Place) -> None:
    url = await place.forge.repository("demo", {"a": "1"})
    work = place.forge.folder / "work" / "demo"
    await place.forge.git(work, "checkout", "--quiet", "-b", "feature/x")
    (work / "a").write_text("2")
    await place.forge.git(work, "commit", "--quiet", "--all", "--message=two")
    await place.forge.publish("demo")
    assert await place.clone(url, branch="feature/x") == ""
    assert await place.git("status", "--porcelain", "--branch") == "## feature/x...origin/feature/x"
    empty(place.workspace)
    told = await place.clone(url, branch="feature/x/docs/more")
    assert told == "there is no branch feature/x/docs/more; feature/x was taken"
    empty(place.workspace)
    with pytest.raises(SledRefused, match="has no branch or tag of that name"):
        await place.clone(url, branch="nothing/here")
    assert list(place.workspace.iterdir()) == []


async def test_hostile_urls_start_nothing(place: Place) -> None:
    canary = place.workspace.parent / "canary"
    for url in (
        f"ext::sh -c touch% {canary}",
        f"ext::sh -c 'touch {canary}'",
        f"--upload-pack=touch {canary}",
        f"-ccore.sshCommand=touch {canary}",
        f"--config=core.hooksPath={canary}",
        f"ssh://-oProxyCommand=touch%20{canary}/x",
        f"git@-oProxyCommand=touch {canary}:x",
        "file:///etc",
        "/etc",
        "http://localhost/x",
        "git://localhost/x",
        "https://h/a\nb",
        "https://h/\x1b[2J",
        "https://h/é",
        "HTTPS://h/x",
        "",
    ):
        for proxied in (True, False):
            assert "must begin with https://" in await place.failure(url, proxied=proxied)
    assert not canary.exists()
    assert place.forge.requests == []


async def test_a_redirect_out_of_https_is_not_followed(place: Place) -> None:
    place.trust()

    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://127.0.0.1:1/x.git/info/refs?{request.query_string}")

    place.forge.instead = answer
    assert "disabled" in await place.failure(place.forge.url("x"), proxied=False)
    assert "redirects to something that is not a repository" in await place.failure(place.forge.url("x"))


async def test_a_workspace_with_something_in_it_is_left_alone(place: Place) -> None:
    (place.workspace / ".hidden").write_text("mine")
    with pytest.raises(SledRefused, match="not empty"):
        await place.clone(await place.forge.repository("demo", {"a": "1"}))
    assert [path.name for path in place.workspace.iterdir()] == [".hidden"]
    assert place.forge.requests == []


async def test_the_common_failures_say_what_to_do(place: Place) -> None:
    host, url = place.forge.host, place.forge.url("none")
    assert "has no certificate that is trusted" in await place.failure(url, proxied=False)
    place.trust()
    text = await place.failure(url, proxied=False)
    assert f"{host} asks for a login" in text
    assert f'[git] tokens = {{"{host}" = "..."}}' in text
    assert f"{host} has no such repository" in await place.failure(url)
    assert "cannot be reached" in await place.failure("https://localhost:1/x.git", proxied=False)
    assert "localhost:1 cannot be reached" in await place.failure("https://localhost:1/x.git")
    assert "nowhere.invalid was not found" in await place.failure("https://nowhere.invalid/x.git", proxied=False)
    assert "no token is set for nowhere.invalid" in await place.failure("https://nowhere.invalid/x.git")
    place.forge.token = ""
    assert f"{host} has no such repository" in await place.failure(url, proxied=False)
    place.forge.token = "another"
    assert f"{host} did not accept the token" in await place.failure(url)


async def breaking_off(place: Place) -> asyncio.Event:
    """Have the forge send half of a large repository and then nothing; the event is set there."""
    await place.forge.repository("big", {"noise": os.urandom(3_000_000)})
    half = asyncio.Event()
    backend = place.forge._git_backend

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and b"want " in await request.read():
            whole = await pack(place)
            response = web.StreamResponse(headers={"Content-Type": "application/x-git-upload-pack-result"})
            await response.prepare(request)
            await response.write(whole[: len(whole) // 2])
            half.set()
            await asyncio.Event().wait()
        return await backend(request)

    place.forge.instead = answer
    return half


async def pack(place: Place) -> bytes:
    """What the forge's git answers to a clone of `big`."""
    objects = place.forge.folder / "objects.pack"
    await place.forge.git(place.forge.folder / "work" / "big", "gc", "--quiet")
    [file] = (place.forge.folder / "work" / "big" / ".git" / "objects" / "pack").glob("*.pack")
    objects.write_bytes(file.read_bytes())
    lines = [b"\x01" + objects.read_bytes()[at : at + 60_000] for at in range(0, objects.stat().st_size, 60_000)]
    return b"000dpackfile\n" + b"".join(b"%04x" % (len(line) + 4) + line for line in lines) + b"0000"


async def test_a_clone_that_breaks_off_leaves_nothing(place: Place) -> None:
    half = await breaking_off(place)
    cloning = asyncio.create_task(place.failure(place.forge.url("big")))
    await asyncio.wait_for(half.wait(), 30 * patience())
    await until(lambda: any(place.workspace.iterdir()))
    assert place.forge._runner is not None
    await place.forge._runner.cleanup()
    assert "broke off the transfer" in await asyncio.wait_for(cloning, 30 * patience())


async def test_a_sled_that_ends_ends_its_clone_and_leaves_nothing(place: Place) -> None:
    place.trust()
    half = await breaking_off(place)
    # Not by the relay: its end would be git's too.
    cloning = asyncio.create_task(place.clone(place.forge.url("big"), proxied=False))
    await asyncio.wait_for(half.wait(), 30 * patience())
    await until(lambda: any(place.workspace.iterdir()))
    place.yard.child.send_signal(signal.SIGTERM)
    with pytest.raises(SledAway):
        await cloning
    await until(lambda: place.yard.child.poll() is not None)
    assert list(place.workspace.iterdir()) == []
    assert place.yard.animals.marked() == []


async def test_what_a_killed_sled_left_is_ended_by_the_next(place: Place) -> None:
    async def answer(request: web.Request) -> web.Response:
        never: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()
        return await never

    place.trust()
    place.forge.instead = answer
    cloning = asyncio.create_task(place.clone(place.forge.url("big"), proxied=False))
    await place.forge.until(lambda: bool(place.forge.requests))
    place.yard.child.kill()
    with pytest.raises(SledAway):
        await cloning
    assert any("git" in process.name() for process in place.yard.animals.marked())
    place.yard.sled()
    await place.yard.arrival()
    assert [process.pid for process in place.yard.animals.marked()] == [place.yard.child.pid]


# --- text and environment --------------------------------------------------------------------------------------------

WAY = Relayed("http://127.0.0.1:7", "wire-token")


def config_of(environment: dict[str, str]) -> dict[str, str]:
    count = int(environment["GIT_CONFIG_COUNT"])
    return {environment[f"GIT_CONFIG_KEY_{n}"]: environment[f"GIT_CONFIG_VALUE_{n}"] for n in range(count)}


@pytest.mark.parametrize("way", [WAY, None])
def test_gits_environment(way: Relayed | None) -> None:
    inherited = {
        **{"PATH": "/bin", "HOME": "/h", "GIT_TRACE": "1", "GIT_DIR": "/x", "GIT_SSH_COMMAND": "x", "LC_ALL": "de_DE"},
        **{"GIT_SSL_NO_VERIFY": "1", "GIT_SSL_CAINFO": "/ca", "GIT_CONFIG_COUNT": "90", "GIT_ASKPASS": "x"},
    }
    found = clone_environment(inherited, WAY, ["h:1"] if way else [])
    assert not {"GIT_TRACE", "GIT_DIR", "GIT_SSH_COMMAND", "GIT_SSL_NO_VERIFY"} & found.keys()
    assert (found["HOME"], found["GIT_SSL_CAINFO"], found["GIT_ASKPASS"], found["LC_ALL"]) == ("/h", "/ca", "", "C")
    assert found["GIT_ALLOW_PROTOCOL"] == ("http" if way else "https")
    config = config_of(found)
    assert config["core.hooksPath"] == "/dev/null"
    assert config["core.askPass"] == config["credential.helper"] == ""
    assert config["core.fsmonitor"] == config["submodule.recurse"] == "false"
    assert config["protocol.ext.allow"] == "never"
    assert config.get("url.http://127.0.0.1:7/git/h:1/.insteadOf") == ("https://h:1/" if way else None)
    header = config.get("http.http://127.0.0.1:7/.extraHeader")
    assert header == ("Authorization: Bearer wire-token" if way else None)


def test_progress_is_reported_in_moderation_and_the_last_of_it_always() -> None:
    said: list[str] = []
    now = [10.0]
    progress = Progress(said.append, lambda: now[0])
    progress.feed(b"Cloning into '.'...\nremote: a\x1b[31m\nReceiving objects:  1%\rReceiving ob")
    assert said == ["Cloning into '.'..."]
    now[0] = 10.5
    progress.feed(b"jects:  2%\rReceiving objects:  3%\r\n\n")
    assert said[1:] == ["Receiving objects:  2%"]
    progress.feed(b"Receiving objects: 100%, done.\nfatal: \xff")
    progress.close()
    progress.close()
    assert said[2] == "fatal: \ufffd"
    assert progress.lines == [
        "Cloning into '.'...",
        "remote: a [31m",
        "Receiving objects: 100%, done.",
        "fatal: \ufffd",
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r"])
def test_a_line_without_end_is_bounded(end: bytes) -> None:
    said: list[str] = []
    progress = Progress(said.append, lambda: 0.0)
    for _ in range(1000):
        progress.feed(b"x" * 4096)
    progress.feed(end)
    progress.close()
    assert len(said) == 1 and len(said[0]) <= 2000
    assert len("".join(progress.lines)) <= 2000


def test_a_failure_is_short_and_shows_neither_relay_nor_token() -> None:
    noise = [f"remote: {'x' * 90}" for _ in range(20)]
    text = explain([*noise, "fatal: http://127.0.0.1:7/git/h/x: wire-token 418"], "h", WAY)
    assert text.endswith("fatal: https://h/x: [token] 418")
    assert len(text) <= MAX_TOLD
    assert explain([], "h", WAY) == "git said nothing"
    assert clone_environment({}, WAY, [], elsewhere=True)["GIT_ALLOW_PROTOCOL"] == "https"
    assert clone_environment({}, WAY, ["h"], elsewhere=True)["GIT_ALLOW_PROTOCOL"] == "http:https"


@pytest.mark.parametrize(
    ("url", "yes"), [("https://h/x", True), ("http://h", False), ("https://h/ x", False), ("-c", False)]
)
def test_the_second_look_at_a_url(url: str, yes: bool) -> None:
    assert is_clonable(url) is yes
