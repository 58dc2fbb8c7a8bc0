"""An upstream that sends whoever asks by TLS on to an address without it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from aiohttp import web

from tests.support.tls import make_certificates

UPSTREAM = Path(__file__).parents[2] / "docker" / "setup" / "upstream"


@dataclass
class Servers:
    """One with TLS and one without; the first sends on to the second, the second to itself."""

    tls: str
    plain: str
    ca_file: Path

    async def fetch(self, address: str, into: Path) -> tuple[int, str]:
        """Run the script with the real curl, which trusts the first; its exit code and what it says."""
        process = await asyncio.create_subprocess_exec(
            *("sh", str(UPSTREAM), address, str(into)),
            env={"PATH": os.environ["PATH"], "CURL_CA_BUNDLE": str(self.ca_file)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        return process.returncode or 0, said.decode()


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    ca_file, context = make_certificates(tmp_path / "tls")
    made = Servers("", "", ca_file)

    async def serve(request: web.Request) -> web.Response:
        if request.path == "/file":
            return web.Response(text="a toolchain")
        raise web.HTTPFound(f"{made.plain}/file" if request.path == "/down" else "/file")

    app = web.Application()
    app.router.add_get("/{path}", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    (_, plain), (_, tls) = runner.addresses
    made.plain, made.tls = f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"
    yield made
    await runner.cleanup()


async def test_nobody_is_sent_on_from_https_to_http(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "file"
    code, said = await servers.fetch(f"{servers.tls}/down", file)
    assert (code, said) == (1, f"{servers.tls.removeprefix('https://')} sends on to an address without TLS\n")
    assert not file.exists()


async def test_other_redirects_are_followed(servers: Servers, tmp_path: Path) -> None:
    for address in (f"{servers.tls}/on", f"{servers.plain}/on", f"{servers.plain}/down"):
        file = tmp_path / "file"
        assert await servers.fetch(address, file) == (0, "")
        assert file.read_text() == "a toolchain"
