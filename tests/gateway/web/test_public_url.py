"""Whether the public address leads to this gateway: each way in which it does not has its own words."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from gateway.chat.finding import Finding, Verdict
from gateway.web import public_url
from tests.support.other_server import other_server
from tests.support.tls import make_certificates

LISTEN = "127.0.0.1:8700"
LIFE = "0123456789abcdef"


def always(response: Callable[[], web.Response]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return response()

    return answer


async def look(response: Callable[[], web.Response], life: str | None = LIFE) -> Finding:
    """What is found where a server answers so."""
    async with other_server(always(response)) as url:
        return await public_url.check(url, LISTEN, life)


async def test_this_gateway() -> None:
    told = await look(lambda: public_url.answer(LIFE))
    assert told.verdict is Verdict.OK
    assert told.text.endswith("leads to this gateway")


async def test_another_gateway_of_the_same_kind() -> None:
    told = await look(lambda: public_url.answer("another life"))
    assert told.broken
    assert "another huskies gateway" in told.text


async def test_a_server_that_is_no_gateway() -> None:
    told = await look(lambda: web.Response(text="ok\n"))
    assert told.broken
    assert "leads to another server, not to this gateway" in told.text
    assert f"pass /healthz and /webhooks/ on to {LISTEN}" in told.text


@pytest.mark.parametrize("status", [401, 404, 502])
async def test_a_server_that_refuses(status: int) -> None:
    told = await look(lambda: web.Response(status=status))
    assert told.broken
    assert f"something else, which answers /healthz with {status}" in told.text


async def test_a_proxy_with_nothing_behind_it_while_no_gateway_runs() -> None:
    told = await look(lambda: web.Response(status=502), life=None)
    assert told.verdict is Verdict.HINT
    assert "type: huskies run" in told.text


async def test_a_gateway_that_nobody_can_vouch_for() -> None:
    told = await look(lambda: public_url.answer("some life"), life=None)
    assert told.verdict is Verdict.HINT
    assert "whether it is yours shows once it runs here" in told.text


async def test_a_redirect_to_the_address_that_was_meant() -> None:
    there = {"Location": "https://bot.example.org/healthz"}
    told = await look(lambda: web.Response(status=301, headers=there))
    assert told.broken
    assert 'set gateway.public_url = "https://bot.example.org"' in told.text


async def test_a_redirect_to_a_login_page() -> None:
    there = {"Location": "/login?back=/healthz&ticket=canary"}
    told = await look(lambda: web.Response(status=302, headers=there))
    assert told.broken
    assert "/login, perhaps a login page" in told.text
    assert "canary" not in told.text


async def test_a_redirect_is_not_followed() -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=302, headers={"Location": "/login"})

    async with other_server(answer) as url:
        await public_url.check(url, LISTEN, LIFE)
    assert paths == ["/healthz"]


async def test_nothing_answers_at_an_address_of_this_host(unused_port: int) -> None:
    told = await public_url.check(f"http://127.0.0.1:{unused_port}", LISTEN, LIFE)
    assert told.broken
    assert "nothing answers at" in told.text


async def test_a_name_that_nobody_has() -> None:
    told = await public_url.check("https://no.such.host.invalid", LISTEN, LIFE)
    assert told.broken
    assert "there is no such host" in told.text


async def test_an_address_that_may_only_be_out_of_reach_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a router without hairpin NAT: the name leads to an address that is not this host's."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def elsewhere(host: str | bytes | None, *arguments: object, **options: object) -> object:
        if host != "bot.test":
            return await real(host, *arguments, **options)  # type: ignore[arg-type]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.7", 443))]

    async def unreachable(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(loop, "getaddrinfo", elsewhere)
    monkeypatch.setattr(loop, "sock_connect", unreachable)
    told = await public_url.check("https://bot.test", LISTEN, LIFE)
    assert told.verdict is Verdict.HINT
    assert told.text.startswith("could not be checked from here: nothing answers at https://bot.test")
    assert "from another network" in told.text


async def test_a_certificate_of_nobody_knows_whom(tmp_path: Path) -> None:
    _, tls = make_certificates(tmp_path)
    async with other_server(always(lambda: public_url.answer(LIFE)), tls) as url:
        told = await public_url.check(url, LISTEN, LIFE)
    assert told.broken
    assert "the certificate of https://127.0.0.1" in told.text
    assert "get one for this name" in told.text


async def test_no_tls_where_tls_was_meant() -> None:
    async with other_server(always(lambda: public_url.answer(LIFE))) as url:
        told = await public_url.check(url.replace("http://", "https://"), LISTEN, LIFE)
    assert told.broken
    assert "does not speak TLS" in told.text


async def test_a_server_that_says_nothing() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with other_server(silent) as url:
        told = await public_url.check(url, LISTEN, LIFE, look_s=0.3)
    assert told.broken
    assert "no answer in time" in told.text


async def test_a_stand_in_proves_the_way_before_the_first_start(unused_port: int) -> None:
    listen = f"127.0.0.1:{unused_port}"
    async with public_url.stand_in(listen) as life:
        assert (await public_url.check(f"http://{listen}", listen, life)).verdict is Verdict.OK
        async with public_url.stand_in(listen) as second:
            assert second is None, "something listens there already"
    assert (await public_url.check(f"http://{listen}", listen, life)).broken
