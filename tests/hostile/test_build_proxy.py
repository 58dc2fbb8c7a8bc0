"""A proxy that wants a password: builds reach it, and none of their layers sees the password."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.log import secrets_of
from gateway.config.settings import load
from gateway.engine import ProjectPaths, SledSpec
from gateway.engine.container import LABEL_INSTANCE, Resources, image_prefix
from gateway.engine.docker import BuildProxy, DockerEngine
from gateway.engine.docker.proxy_relay import Proxy, behind_relay, serve
from gateway.errors import BuildFailed, ConfigError
from gateway.projects.ssh import furnish
from stacks.images import ImagePlan, plan_image
from stacks.own import Own
from tests.support.containers import BASE_IMAGE, docker, inputs, names, remove_all

#: What the engine knows as this test's.
INSTANCE = f"relay{os.getpid()}"
CANARY = "can@ry/word"
WRITTEN = "can%40ry%2Fword"
CREDENTIAL = b"Basic " + base64.b64encode(f"ana:{CANARY}".encode())
ME = (os.getuid(), os.getgid())


class ProxyServer:
    """A proxy that serves those who bring the credential; to each request it answers with the request's target."""

    def __init__(self) -> None:
        #: What was asked for, by whom: the head and the body of each request.
        self.asked: list[tuple[bytes, bytes]] = []
        self.port = 0

    async def __aenter__(self) -> ProxyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError), contextlib.closing(writer):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if b"chunked" in head:
                    body = await reader.readuntil(b"0\r\n\r\n")
                self.asked.append((head, body))
                if b"Proxy-Authorization: " + CREDENTIAL + b"\r\n" not in head:
                    writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    continue
                target = head.split(b" ")[1]
                if head.startswith(b"CONNECT "):
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    writer.write(b"echo " + await reader.readexactly(4))
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target))
                if b"\r\nConnection: close\r\n" in head:
                    return


@contextlib.asynccontextmanager
async def relayed(tmp_path: Path, proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A build's connection to a relay."""
    async with serve(proxy, tmp_path / "0", ME):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "0")
        with contextlib.closing(writer):
            yield reader, writer


def behind(port: int) -> Proxy:
    """The proxy of a configuration, as the relay knows it."""
    (proxy,) = behind_relay({"HTTPS_PROXY": f"http://ana:{WRITTEN}@127.0.0.1:{port}"}).values()
    return proxy


async def test_each_request_of_a_connection_gets_the_credential(tmp_path: Path) -> None:
    async with ProxyServer() as there, relayed(tmp_path, behind(there.port)) as (reader, writer):
        for asked in (
            b"GET http://a/1 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST http://a/2 HTTP/1.1\r\nHost: a\r\ncontent-length: 24\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n",
            b"GET http://a/3 HTTP/1.1\r\nProxy-Authorization: Basic bWluZQ==\r\n\r\n",
            b"PUT http://a/4 HTTP/1.1\r\n"
            b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ):
            target = asked.split(b" ")[1]
            writer.write(asked)
            assert await reader.readuntil(target) == b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + target
        assert await reader.read() == b"", "where an end is not looked for, nothing follows"
    bodies = [body for _, body in there.asked]
    assert bodies == [b"", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", b"", b"2\r\nhi\r\n0\r\n\r\n"]
    assert all(head.count(b"Proxy-Authorization") == 1 for head, _ in there.asked)


async def test_a_tunnel_is_passed_through_as_it_is(tmp_path: Path) -> None:
    async with ProxyServer() as there, relayed(tmp_path, behind(there.port)) as (reader, writer):
        writer.write(b"CONNECT a:443 HTTP/1.1\r\n\r\n\x16\x03\x01\x00")
        assert await reader.read() == b"HTTP/1.1 200 Connection established\r\n\r\necho \x16\x03\x01\x00"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"TRACE http://a/ HTTP/1.1\r\nMax-Forwards: 0\r\n\r\n", b"405 "),
        (b"GET http://a/" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"431 "),
    ],
)
async def test_what_would_give_the_credential_away_or_is_too_long_is_refused(
    tmp_path: Path, asked: bytes, status: bytes
) -> None:
    async with ProxyServer() as there, relayed(tmp_path, behind(there.port)) as (reader, writer):
        writer.write(asked)
        assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
        assert there.asked == []


async def test_a_proxy_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with ProxyServer() as there:
        pass
    async with relayed(tmp_path, behind(there.port)) as (reader, writer):
        writer.write(b"GET http://a/ HTTP/1.1\r\n\r\n")
        told = await reader.read()
    assert told.startswith(b"HTTP/1.1 502 ")
    assert f"huskies: the proxy 127.0.0.1:{there.port}: ".encode() in told


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("http://ana:canary@proxy.example.org:3128", "http://127.0.0.1:1"),
        ("https://canary@proxy.example.org", "http://127.0.0.1:1"),
        ("ana:canary@proxy.example.org:8080", "http://127.0.0.1:1"),
        ("http://localhost:3128", "http://127.0.0.1:1"),
        ("127.0.0.2:3128", "http://127.0.0.1:1"),
        ("http://[::1]:3128/", "http://127.0.0.1:1"),
        ("socks5h://127.0.0.1:1080", "socks5h://127.0.0.1:1"),
        ("http://proxy.example.org:3128", None),
        ("http://10.0.0.1:3128", None),
        ("", None),
        ("http://[oops", None),
    ],
)
def test_which_proxies_are_behind_a_relay(address: str, seen: str | None) -> None:
    found = behind_relay({"https_proxy": address, "NO_PROXY": "localhost", "PIP_INDEX_URL": "http://localhost/"})
    assert {name: proxy.seen_at(1) for name, proxy in found.items()} == ({} if seen is None else {"https_proxy": seen})


def test_a_password_of_a_proxy_is_a_secret_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[build.build_args]\nhttps_proxy = "http://ana:{WRITTEN}@proxy.example.org"\n')
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="holds secrets that others can read"):
        load(file)
    file.chmod(0o600)
    assert {CANARY, WRITTEN} <= set(secrets_of(load(file)))
    file.write_text('[build.build_args]\nALL_PROXY = "socks5://ana:canary@proxy.example.org"\n')
    with pytest.raises(ConfigError, match=r"ALL_PROXY is a SOCKS proxy with a password.*http://") as refused:
        load(file)
    assert "canary" not in str(refused.value)


#: A source's layer that steals what the layers above it are given, and fetches something by itself.
THIEF = "{ env; cat /proc/1/environ; } >> /stolen"
HOSTILE = f"""\
RUN echo '#!/bin/bash' > /evil && echo '{THIEF}' >> /evil && echo 'exec /bin/bash "$@"' >> /evil
RUN chmod 755 /evil && mv /evil /bin/dash
RUN /opt/huskies/venv/bin/python -c "from urllib.request import *; print('FETCHED', urlopen('http://a.example/x').read())"
"""


@pytest.fixture
async def spec(tmp_path: Path) -> SledSpec:
    paths = ProjectPaths.of(tmp_path, "demo")
    made = SledSpec("demo", paths, tmp_path, "t", oauth=False, owner=(1000, 1000), ssh_port=2)
    await furnish(made)
    return made


@pytest.fixture
async def engine(tmp_path: Path, spec: SledSpec) -> AsyncIterator[DockerEngine]:
    made = DockerEngine(INSTANCE, Resources(), BuildProxy(tmp_path, BASE_IMAGE))
    await made.prepare(spec, plan("", ""), lambda _: None)  # what is below the source's layer
    yield made
    await made.close()
    remove_all(INSTANCE)


def plan(address: str, fragment: str = HOSTILE) -> ImagePlan:
    """An image of a hostile source, with this proxy."""
    given = inputs(build_args={"HTTP_PROXY": address, "http_proxy": address})
    return plan_image(given, [], image_prefix(INSTANCE), Own(fragment=fragment))


@pytest.mark.docker
async def test_no_layer_sees_the_password(tmp_path: Path, spec: SledSpec, engine: DockerEngine) -> None:
    async with ProxyServer() as there:
        wanted = plan(f"http://ana:{WRITTEN}@127.0.0.1:{there.port}")
        await engine.prepare(spec, wanted, lambda _: None)
    log = spec.paths.build_log.read_text()
    assert "FETCHED b'http://a.example/x'" in log, "the layer reached what is behind the proxy"
    stolen = docker("run", "--rm", "--entrypoint", "/bin/cat", wanted.image, "/stolen") or ""
    assert "HTTP_PROXY=http://127.0.0.1:3128" in stolen, "the thief was at work"
    made = docker("history", "--no-trunc", wanted.image), docker("inspect", wanted.image)
    for place in (log, stolen, *map(str, made)):
        assert CANARY not in place
        assert WRITTEN not in place
        assert CREDENTIAL.decode() not in place
    assert names("ps", "-a", "--filter", f"label={LABEL_INSTANCE}={INSTANCE}", "--format", "{{.Names}}") == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("relay")] == []


@pytest.mark.docker
async def test_a_proxy_that_refuses_is_told_by_the_build(spec: SledSpec, engine: DockerEngine) -> None:
    async with ProxyServer() as there:
        with pytest.raises(BuildFailed, match="407"):
            await engine.prepare(spec, plan(f"http://ana:no@127.0.0.1:{there.port}"), lambda _: None)
