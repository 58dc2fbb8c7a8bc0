"""The one way out: which proxy an address is reached by, and that nothing else decides."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gateway import outbound
from tests.support.tls import make_certificates
from tests.support.way_out import WayOut


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without any proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("address", "proxy"),
    [
        ("http://a.example/x", "http://plain:1"),
        ("ws://a.example/x", "http://plain:1"),
        ("https://a.example/x", "http://secure:2"),
        ("wss://a.example:8443/x", "http://secure:2"),
        ("https://inside.example.org/x", ""),
        ("https://x.corp.example/x", ""),
        ("http://localhost:8008/x", ""),
        ("http://127.0.0.1:8008/x", ""),
        ("http://[::1]:8008/x", ""),
        ("http://app.localhost/x", ""),
    ],
)
def test_the_proxy_of_an_address(monkeypatch: pytest.MonkeyPatch, address: str, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "plain:1")
    monkeypatch.setenv("https_proxy", "http://secure:2")
    monkeypatch.setenv("NO_PROXY", "inside.example.org,.corp.example")
    assert str(outbound.proxy_for(URL(address)) or "") == proxy


def test_without_a_proxy_the_way_is_direct() -> None:
    assert outbound.proxy_for(URL("https://a.example/x")) is None


async def test_what_is_asked_goes_by_the_proxy_with_its_login_and_never_with_a_netrcs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(f"{request.path_qs} {request.headers.get('Authorization', 'nothing')}")
        if request.path == "/socket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str("hello")
            return socket
        return web.Response(text="there")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with WayOut() as way:
        way.hosts["far.example:80"] = runner.addresses[0][1]
        way.login = "Basic YW5hOnB3"
        monkeypatch.setenv("HTTP_PROXY", way.url.replace("//", "//ana:pw@"))
        (tmp_path / ".netrc").write_text("default login ana password canary\n")
        (tmp_path / ".netrc").chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        async with outbound.session() as session:
            async with session.get("http://far.example/a?b=1", headers={"Authorization": "mine"}) as response:
                assert await response.text() == "there"
            async with session.ws_connect("http://far.example/socket") as socket:
                assert (await socket.receive()).data == "hello"
            with pytest.raises(OSError):
                async with session.get("http://127.0.0.1:9/direct"):
                    pass
        assert way.asked == {"GET far.example": 2}
    assert seen == ["/a?b=1 mine", "/socket nothing"]
    await runner.cleanup()


async def test_tls_goes_through_the_proxy_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By CONNECT, with the authorities that SSL_CERT_FILE names, and the login only for the proxy."""
    ca_file, context = make_certificates(tmp_path)
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Proxy-Authorization", "nothing"))
        return web.Response(text="there")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    async with WayOut() as way:
        way.hosts["far.example:443"] = runner.addresses[0][1]
        way.login = "Basic YW5hOnB3"
        monkeypatch.setenv("HTTPS_PROXY", way.url.replace("//", "//ana:pw@"))
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        async with outbound.session() as session:
            async with session.get("https://far.example/", server_hostname="localhost") as response:
                assert await response.text() == "there"
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                async with session.get("https://far.example/"):
                    pass
        assert way.asked["CONNECT far.example"] == 2
    assert seen == ["nothing"]
    await runner.cleanup()
