"""The git proxy in front of a real git server; the relay and the real git are in some of the tests too."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gateway.testing import patience
from gateway.wire import Bodies
from gateway.wire import git as git_proxy
from gateway.wire.git import GitProxy
from sled.relay import Relay
from tests.support.git_server import GitServer, not_asked
from tests.support.wire import serving

CANARY = "tok-canary-0123"
#: The same as it goes over the wire.
ENCODED = base64.b64encode(f"x-access-token:{CANARY}".encode()).decode()
TOKEN = {"Authorization": "Bearer wire-token"}
READ = "info/refs?service=git-upload-pack"


@dataclass
class Client:
    """A project's requests to the proxy, on the wire."""

    http: aiohttp.ClientSession
    wire: Path

    def get(
        self, path: str, headers: Mapping[str, str] = TOKEN, method: str = "GET", data: bytes | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        url = URL(f"http://gateway/git/{path}", encoded=True)
        return self.http.request(method, url, headers=headers, data=data, allow_redirects=False)

    async def refused(
        self, path: str, headers: Mapping[str, str] = TOKEN, method: str = "GET", data: bytes | None = None
    ) -> tuple[int, str]:
        """Status and text of a request that is not served; git shows text/plain only."""
        async with self.get(path, headers, method, data) as response:
            assert response.content_type == "text/plain"
            return response.status, (await response.text()).strip()


@contextlib.asynccontextmanager
async def project_of(proxy: GitProxy, wire: Path) -> AsyncIterator[Client]:
    """The proxy as the gateway serves it, with one project called `demo`."""

    def authenticate(request: web.Request) -> str | None:
        return "demo" if request.headers.get("Authorization") == TOKEN["Authorization"] else None

    connector = aiohttp.UnixConnector(str(wire))
    async with (
        serving(wire, proxy.routes(authenticate)),
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as http,
    ):
        yield Client(http, wire)
    await proxy.close()


@pytest.fixture
async def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GitServer]:
    async with GitServer(tmp_path / "forge", token=CANARY) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
        yield server


@pytest.fixture
async def project(forge: GitServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Client]:
    caplog.set_level(logging.DEBUG)
    proxy = GitProxy({forge.host: CANARY, "no-token.example": ""}, not_asked, Bodies(), stall_s=5)
    assert proxy.hosts == {forge.host}
    assert CANARY not in repr(proxy)
    async with project_of(proxy, tmp_path / "s") as client:
        yield client
    assert CANARY not in caplog.text and ENCODED not in caplog.text


def git_environment(tmp_path: Path) -> dict[str, str]:
    header = {"GIT_CONFIG_KEY_0": "http.extraHeader", "GIT_CONFIG_VALUE_0": f"Authorization: {TOKEN['Authorization']}"}
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_COUNT": "1", **header}


async def git(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """Run git in a project; its exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *("git", *arguments),
        cwd=tmp_path,
        env=git_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.fixture
async def relay(project: Client) -> AsyncIterator[str]:
    made = Relay(project.wire, "wire-token")
    yield await made.start()
    await made.close()


# --- what is served --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0", "1", "2"])
async def test_git_clones_and_fetches(
    forge: GitServer, project: Client, relay: str, tmp_path: Path, version: str
) -> None:
    await forge.repository("demo", {"a.txt": "one\n", "folder/b.txt": "two\n"})
    url, protocol = f"{relay}/git/{forge.host}/demo.git", ("-c", f"protocol.version={version}")
    assert await git(tmp_path, *protocol, "clone", "--quiet", url, "clone") == (0, "")
    assert (tmp_path / "clone" / "folder" / "b.txt").read_text() == "two\n"
    work = forge.folder / "work" / "demo"
    # So many that git compresses its request.
    for number in range(60):
        await forge.git(work, "commit", "--quiet", "--allow-empty", f"--message={number}")
        await forge.git(work, "branch", f"b{number}")
    await forge.publish("demo")
    code, _ = await git(tmp_path / "clone", *protocol, "fetch", "--quiet")
    assert code == 0
    assert (await git(tmp_path / "clone", "log", "-1", "--format=%s", "origin/main"))[1] == "59\n"

    for request in forge.requests:
        assert request.headers["authorization"] == f"Basic {ENCODED}"
        assert "wire-token" not in str(request)
        assert request.headers["user-agent"].startswith("git/")
    assert {request.headers.get("git-protocol") for request in forge.requests} <= {None, f"version={version}"}


async def test_git_cannot_push(forge: GitServer, project: Client, relay: str, tmp_path: Path) -> None:
    await forge.repository("demo", {"a.txt": "one\n"})
    await git(tmp_path, "clone", "--quiet", f"{relay}/git/{forge.host}/demo.git", "clone")
    before = len(forge.requests)
    code, output = await git(tmp_path / "clone", "push", "origin", "HEAD:other")
    assert code != 0
    assert "remote: nobody can be asked here" in output
    assert len(forge.requests) == before


async def test_only_what_git_needs_passes(forge: GitServer, project: Client) -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {"Set-Cookie": "a=b", "WWW-Authenticate": "Basic", "x-huskies-hold": "1", "ETag": "e", "Pragma": "p"}
        return web.Response(body=b"refs", headers=headers, content_type="application/x-git-upload-pack-advertisement")

    forge.instead = answer
    headers = {**TOKEN, "Cookie": "c=1", "X-Api-Key": "k", "Git-Protocol": "version=2", "X-Forwarded-For": "h"}
    async with project.get(f"{forge.host}/a%20b/x.git/{READ}", headers) as response:
        assert (response.status, await response.read()) == (200, b"refs")
        assert response.content_type == "application/x-git-upload-pack-advertisement"
        assert response.headers["Pragma"] == "p"
        assert not {"Set-Cookie", "WWW-Authenticate", "x-huskies-hold", "ETag"} & set(response.headers)
    [request] = forge.requests
    assert request.path == f"/a%20b/x.git/{READ}"
    assert request.headers.keys() <= {
        *("host", "accept", "git-protocol", "user-agent", "accept-encoding", "authorization")
    }
    assert request.headers["accept-encoding"] == "identity"


async def test_a_value_with_a_colon_is_user_and_password(forge: GitServer, tmp_path: Path) -> None:
    forge.token = "ana:päss:word"
    await forge.repository("demo", {})
    async with (
        project_of(GitProxy({forge.host: forge.token}, not_asked, Bodies()), tmp_path / "s") as project,
        project.get(f"{forge.host}/demo.git/{READ}") as response,
    ):
        assert response.status == 200


NOT_SERVED = "the gateway does not serve this"


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (
            "GET HOST/x.git/info/refs?service=git-receive-pack",
            (403, "nobody can be asked here"),
        ),
        ("POST HOST/x.git/git-receive-pack", (403, "nobody can be asked here")),
        (f"GET localhost/x.git/{READ}", (404, "no token is set for localhost in [git] tokens")),
        (f"GET no-token.example/x.git/{READ}", (404, "no token is set for no-token.example in [git] tokens")),
        ("GET HOST/x.git/info/refs", (404, NOT_SERVED)),
        ("GET HOST/x.git/info/refs?service=git-upload-archive", (404, NOT_SERVED)),
        ("GET HOST/x.git/info/refs?service=git-upload-pack&x=1", (404, NOT_SERVED)),
        ("POST HOST/x.git/git-upload-archive", (404, NOT_SERVED)),
        ("POST HOST/x.git/git-upload-pack?x=1", (404, NOT_SERVED)),
        ("GET HOST/x.git/git-upload-pack", (404, NOT_SERVED)),
        (f"POST HOST/x.git/{READ}", (404, NOT_SERVED)),
        (f"PUT HOST/x.git/{READ}", (404, NOT_SERVED)),
        ("GET HOST/x.git/HEAD", (404, NOT_SERVED)),
        ("GET HOST/x.git/objects/info/packs", (404, NOT_SERVED)),
        ("POST HOST/x.git/info/lfs/objects/batch", (404, NOT_SERVED)),
        ("GET HOST/api/v4/user", (404, NOT_SERVED)),
        (f"GET HOST/{READ}", (404, NOT_SERVED)),
        (f"GET HOST//x.git/{READ}", (404, NOT_SERVED)),
        (f"GET HOST/x.git//{READ}", (404, NOT_SERVED)),
        (f"GET HOST/../x.git/{READ}", (404, NOT_SERVED)),
        (f"GET HOST/a/%2e%2e/x.git/{READ}", (404, NOT_SERVED)),
        (f"GET HOST/x.git%00/{READ}", (404, NOT_SERVED)),
        (f"GET HOST/x.git%3f/{READ}", (404, NOT_SERVED)),
        (f"GET ana:pass@HOST/x.git/{READ}", (404, NOT_SERVED)),
        (f"GET evil.example@HOST/x.git/{READ}", (404, NOT_SERVED)),
        (f"GET HOST@evil.example/x.git/{READ}", (404, NOT_SERVED)),
        (f"GET LOCALHOST:1/x.git/{READ}", (404, NOT_SERVED)),
        (f"GET https://HOST/x.git/{READ}", (404, NOT_SERVED)),
        ("GET ", (404, NOT_SERVED)),
    ],
)
async def test_nothing_else_is_served(
    forge: GitServer, project: Client, request_line: str, answer: tuple[int, str]
) -> None:
    method, _, path = request_line.replace("HOST", forge.host).partition(" ")
    status, text = await project.refused(path, method=method)
    assert (status, text[: len(answer[1])]) == answer
    assert forge.requests == []


async def test_unknown_projects_are_refused(forge: GitServer, project: Client) -> None:
    path = f"{forge.host}/x.git/{READ}"
    assert await project.refused(path, headers={"Authorization": "Bearer other"}) == (401, "unknown project token")
    assert forge.requests == []


async def test_requests_are_bounded(forge: GitServer, project: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_proxy, "MAX_BODY", 1000)
    path = f"{forge.host}/x.git/git-upload-pack"
    assert await project.refused(path, method="POST", data=b"x" * 1001) == (
        413,
        "more than 1000 bytes; push fewer commits at a time",
    )
    assert forge.requests == []


# --- what a host answers ---------------------------------------------------------------------------------------------


async def test_a_token_that_is_refused_or_a_repository_that_is_not_there(forge: GitServer, project: Client) -> None:
    status, text = await project.refused(f"{forge.host}/none.git/{READ}")
    assert (status, text) == (404, f"{forge.url('none')} does not exist, or the token for {forge.host} may not read it")
    forge.token = "another"
    status, text = await project.refused(f"{forge.host}/none.git/{READ}")
    assert (status, text) == (403, f"{forge.host} did not accept the token that [git] tokens has for it")


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://HOST/new.git/" + READ, ""),
        ("/new.git/" + READ, ""),
        ("../../new.git/" + READ, ""),
        (
            "https://other.example/new.git/" + READ,
            "another host; if you trust it, clone from https://other.example/new",
        ),
        ("https://localhost/new.git/" + READ, "another host; if you trust it, clone from https://localhost/new.git"),
        ("//other.example/new.git/" + READ, "another host"),
        ("http://HOST/new.git/" + READ, "not a repository"),
        ("https://ana:s3cret@HOST/new.git/" + READ, "not a repository"),
        ("https://HOST/login", "not a repository"),
        ("https://HOST/new.git/info/refs?service=git-receive-pack", "not a repository"),
        ("https://HOST/new.git/info/refs?token=s3cret", "not a repository"),
        ("https://[::1/x", "not a repository"),
        ("https://HOST:99999/x", "not a repository"),
        ("ext::sh", "not a repository"),
        ("file:///etc/passwd", "not a repository"),
        ("", "not a repository"),
    ],
)
@pytest.mark.parametrize("status", [301, 307])
async def test_redirects_stay_on_their_host(
    forge: GitServer, project: Client, location: str, told: str, status: int
) -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {"Location": location.replace("HOST", forge.host)} if location else {}
        return web.Response(status=status, headers=headers)

    forge.instead = answer
    async with project.get(f"{forge.host}/old.git/{READ}") as response:
        text = await response.text()
        if told:
            assert (response.status, told in text, "s3cret" in text) == (502, True, False)
            assert "Location" not in response.headers
        else:
            assert (response.status, response.headers["Location"]) == (status, f"/git/{forge.host}/new.git/{READ}")
    assert len(forge.requests) == 1


async def test_git_follows_a_repository_that_moved(
    forge: GitServer, project: Client, relay: str, tmp_path: Path
) -> None:
    await forge.repository("new", {"a.txt": "one\n"})

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/old.git"):
            raise web.HTTPMovedPermanently(f"{forge.url('new')}/{READ}")
        return await forge._git_backend(request)

    forge.instead = answer
    code, output = await git(tmp_path, "clone", "--quiet", f"{relay}/git/{forge.host}/old.git", "clone")
    assert code == 0, output
    assert (tmp_path / "clone" / "a.txt").read_text() == "one\n"


async def test_a_host_that_cannot_be_reached_or_trusted(
    forge: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with project_of(GitProxy({"localhost:1": CANARY}, not_asked, Bodies()), tmp_path / "s") as project:
        assert await project.refused(f"localhost:1/x.git/{READ}") == (502, "localhost:1 cannot be reached")
    monkeypatch.delenv("SSL_CERT_FILE")
    async with project_of(GitProxy({forge.host: CANARY}, not_asked, Bodies()), tmp_path / "s") as project:
        status, text = await project.refused(f"{forge.host}/x.git/{READ}")
        assert (status, text) == (502, f"{forge.host} has no certificate that the gateway trusts")
    assert forge.requests == []
    assert CANARY not in caplog.text and ENCODED not in caplog.text


# --- time and size ---------------------------------------------------------------------------------------------------


async def test_a_large_answer_streams_and_waits_for_who_reads_it(forge: GitServer, project: Client) -> None:
    chunk, chunks = b"x" * 2**20, 100
    sent: list[int] = []
    stuck = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(chunks):
            sent.append(number)
            writing = asyncio.ensure_future(response.write(chunk))
            done, _ = await asyncio.wait({writing}, timeout=1)
            if not done and not stuck.done():
                stuck.set_result(len(sent))
            await writing
        return response

    forge.instead = answer
    async with project.get(f"{forge.host}/x.git/{READ}") as response:
        size = len(await response.content.readany())
        assert await asyncio.wait_for(stuck, 30 * patience()) < chunks / 2
        async for part in response.content.iter_any():
            size += len(part)
    assert size == chunks * len(chunk)


async def test_a_host_that_falls_silent_is_cut(forge: GitServer, tmp_path: Path) -> None:
    silent = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if "begun" in request.path:
            await response.prepare(request)
            await response.write(b"one")
        await silent.wait()
        return response

    forge.instead = answer
    async with project_of(GitProxy({forge.host: CANARY}, not_asked, Bodies(), stall_s=0.3), tmp_path / "s") as project:
        async with project.get(f"{forge.host}/begun.git/{READ}") as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert await project.refused(f"{forge.host}/x.git/{READ}") == (502, f"{forge.host} cannot be reached")
        await forge.until(lambda: forge.abandoned == 2)


@pytest.mark.parametrize("begun", [True, False])
async def test_a_client_that_leaves_ends_the_call(forge: GitServer, project: Client, begun: bool) -> None:
    never = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if begun:
            await response.prepare(request)
            await response.write(b"one")
        await never.wait()
        return response

    async def ask() -> None:
        async with project.get(f"{forge.host}/x.git/{READ}") as response:
            await response.read()

    forge.instead = answer
    client = asyncio.create_task(ask())
    await forge.until(lambda: bool(forge.requests))
    client.cancel()
    await forge.until(lambda: forge.abandoned == 1, timeout=5)
