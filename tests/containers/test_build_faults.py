"""Builds that fail for the network around them, with the real tools: their first line names the cause."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from gateway.engine import ProjectPaths, SledSpec
from gateway.engine.container import Resources, image_prefix
from gateway.engine.docker import BuildProxy, DockerEngine
from gateway.errors import BuildFailed
from gateway.projects.ssh import furnish
from stacks.images import plan_image
from stacks.own import Own
from tests.support.containers import BASE_IMAGE, inputs, remove_all

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]
INSTANCE = f"faults{os.getpid()}"
#: A server of TLS whose authority nobody knows, as a company's gate is to whoever was not told of it.
GATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout /k -out /c -days 1 -subj /CN=localhost 2>/dev/null"
    " && (openssl s_server -quiet -accept 8443 -key /k -cert /c -www &)"
    " && until curl -ks -o /dev/null https://localhost:8443/; do :; done && "
)
PIP = "/opt/huskies/venv/bin/pip install --no-cache-dir --retries 1 --timeout 5"
TLS, NAMES, NETWORK, DISK = "Set `[build] ca_certificates`", "look up names", "do not reach the network", "disk is full"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[DockerEngine, SledSpec]]:
    folder = tmp_path_factory.mktemp("faults")
    spec = SledSpec("demo", ProjectPaths.of(folder, "demo"), folder, "t", oauth=False, owner=(1000, 1000), ssh_port=2)
    await furnish(spec)
    made = DockerEngine(INSTANCE, Resources(), BuildProxy(folder, BASE_IMAGE))
    await made.prepare(spec, plan_image(inputs(), [], image_prefix(INSTANCE)), lambda _: None)
    yield made, spec
    await made.close()
    remove_all(INSTANCE)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"{GATE}curl -fsS https://localhost:8443/", TLS),
        (f"{GATE}git clone https://localhost:8443/x", TLS),
        (f"{GATE}{PIP} --index-url https://localhost:8443/simple six", TLS),
        ("curl -fsS http://nowhere.invalid/", NAMES),
        (f"{PIP} --index-url https://nowhere.invalid/simple six", NAMES),
        ("git clone http://nowhere.invalid/x", NAMES),
        ("curl -fsS http://127.0.0.1:9/", NETWORK),
        (f"{PIP} --index-url http://127.0.0.1:9/simple six", NETWORK),
        ("curl -fsS --proxy http://127.0.0.1:9 http://a.example/", NETWORK),
        ("dd if=/dev/zero of=/dev/full", DISK),
    ],
)
async def test_the_first_line_names_the_cause(engine: tuple[DockerEngine, SledSpec], command: str, told: str) -> None:
    made, spec = engine
    plan = plan_image(inputs(), [], image_prefix(INSTANCE), Own(fragment=f"RUN {command}\n"))
    with pytest.raises(BuildFailed) as failure:
        await made.prepare(spec, plan, lambda _: None)
    first, _, rest = str(failure.value).partition("\n")
    assert told in first
    assert "\x1b" not in rest


@pytest.mark.asyncio(loop_scope="module")
async def test_apt_goes_through_its_own_proxy_from_the_first_package_on(engine: tuple[DockerEngine, SledSpec]) -> None:
    made, spec = engine
    proxy = "".join(f'Acquire::{kind}::Proxy "http://127.0.0.1:9";\n' for kind in ("http", "https"))
    given = inputs()
    through = replace(given, apt_sources={**given.apt_sources, "huskies-proxy.conf": proxy.encode()})
    with pytest.raises(BuildFailed) as failure:
        await made.prepare(spec, plan_image(through, [], image_prefix(INSTANCE)), lambda _: None)
    assert NETWORK in str(failure.value).partition("\n")[0]
    assert "127.0.0.1:9" in spec.paths.build_log.read_text()
