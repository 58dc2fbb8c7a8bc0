"""Live checks of a Matrix account, against a real homeserver, and against what is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.chat.finding import Finding, Verdict
from gateway.testing import patience
from tests.support.matrix_bot import Bot
from tests.support.other_server import other_server
from tests.support.synapse import Account, Synapse
from transports.matrix import MatrixConfig
from transports.matrix.check import check

if TYPE_CHECKING:
    from tests.transports.conftest import World


async def found(url: str, account: Account, store: Path, **settings: Any) -> dict[str, Finding]:
    """What a check finds, by name; no token and no password is in it."""
    defaults: dict[str, Any] = {"user_id": account.user_id, "access_token": account.access_token, "store": store}
    now = settings.pop("now", None)
    config = MatrixConfig(**({"homeserver": url} | defaults | settings))
    findings = await (check(config, now) if now else check(config))
    assert account.access_token not in str(findings)
    assert account.password not in str(findings)
    return {finding.name: finding for finding in findings}


ANYBODY = Account("@bot:hs.test", "a canary for a password", "canary-token", "DEVICE")


async def test_an_account_that_is_well(synapse: Synapse, tmp_path: Path) -> None:
    account = synapse.register("bot")
    told = await found(synapse.url, account, tmp_path)
    assert told["matrix.homeserver"].verdict is Verdict.OK
    assert told["matrix.clock"].verdict is Verdict.OK
    assert told["matrix.account"].text == f"{account.user_id}, device {account.device_id}"
    assert told["matrix.device"].verdict is Verdict.HINT
    assert "has no keys yet" in told["matrix.device"].text
    assert not any(tmp_path.iterdir()), "a look leaves nothing behind"


async def test_the_token_is_another_users(synapse: Synapse, tmp_path: Path) -> None:
    bot, other = synapse.register("bot"), synapse.register("other")
    told = await found(synapse.url, bot, tmp_path, access_token=other.access_token)
    assert told["matrix.account"].broken
    assert f"the token belongs to {other.user_id}, not to {bot.user_id}" in told["matrix.account"].text


async def test_a_revoked_token(synapse: Synapse, tmp_path: Path) -> None:
    account = synapse.register("bot")
    synapse.api("POST", "/_matrix/client/v3/logout", {}, account.access_token)
    told = await found(synapse.url, account, tmp_path)
    assert told["matrix.account"].broken
    assert "the homeserver refused the token" in told["matrix.account"].text


async def test_another_device_than_the_configured_one(synapse: Synapse, tmp_path: Path) -> None:
    account = synapse.register("bot")
    told = await found(synapse.url, account, tmp_path, device_id="OTHER")
    assert "correct or remove transports.matrix.device_id" in told["matrix.account"].text


async def test_the_password_alone_is_tried_and_leaves_no_device(synapse: Synapse, tmp_path: Path) -> None:
    account = synapse.register("bot")
    told = await found(synapse.url, account, tmp_path, access_token="", password=account.password)
    assert told["matrix.account"].verdict is Verdict.OK
    devices = synapse.api("GET", "/_matrix/client/v3/devices", None, account.access_token)["devices"]
    assert [device["device_id"] for device in devices] == [account.device_id]
    wrong = await found(synapse.url, account, tmp_path, access_token="", password="wrong-canary")
    assert wrong["matrix.account"].broken
    assert "correct transports.matrix.user_id or .password" in wrong["matrix.account"].text
    assert "wrong-canary" not in str(wrong)


async def test_no_credential_at_all(synapse: Synapse, tmp_path: Path) -> None:
    told = await found(synapse.url, synapse.register("bot"), tmp_path, access_token="")
    assert told["matrix.account"].broken
    assert "set transports.matrix.access_token" in told["matrix.account"].text


async def device(bot: Bot, holds: Callable[[Finding], bool]) -> Finding:
    """What is found of a running bot's device, once it is as asked."""
    async with asyncio.timeout(20 * patience()):
        while True:
            told = next(finding for finding in await check(bot.config) if finding.name == "matrix.device")
            if holds(told):
                return told
            await asyncio.sleep(0.1)


async def test_a_device_that_is_signed(world: World) -> None:
    """As it is while the gateway runs: its store is locked, and stays so."""
    bot = await world.bot(password="a password for tests")
    told = await device(bot, lambda told: told.verdict is Verdict.OK)
    assert "is signed" in told.text
    assert bot.transport.serving


async def test_a_device_that_strict_clients_will_not_trust(world: World) -> None:
    """The account's signing identity is another client's: here, of the same bot before it lost its store."""
    bot = await world.bot(password="a password for tests")
    await device(bot, lambda told: told.verdict is Verdict.OK)
    await bot.stop()
    for name in ("signing.json", "session.json"):
        (bot.config.store / name).unlink()
    bot.reborn()
    await bot.start()
    told = await device(bot, lambda told: "no keys yet" not in told.text)
    assert told.verdict is Verdict.HINT
    assert "'s signing identity, which another client may have made" in told.text
    assert "verify it from that client" in told.text


async def test_a_clock_that_is_off(synapse: Synapse, tmp_path: Path) -> None:
    told = await found(synapse.url, synapse.register("bot"), tmp_path, now=lambda: time.time() + 600)
    assert told["matrix.clock"].verdict is Verdict.HINT
    assert "10 min ahead of the homeserver's" in told["matrix.clock"].text


async def test_a_web_page_in_the_homeservers_place(tmp_path: Path) -> None:
    async def log_in(_: web.Request) -> web.Response:
        return web.Response(text="<html>log in</html>", content_type="text/html")

    async with other_server(log_in) as url:
        told = await found(url, ANYBODY, tmp_path)
    assert list(told) == ["matrix.homeserver"], "the account is not asked about"
    assert told["matrix.homeserver"].broken
    assert "is not a homeserver: a web page answers there (200)" in told["matrix.homeserver"].text


async def test_what_is_no_homeserver_gets_no_token(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    async def curious(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.json_response({"hello": "there"})

    async with other_server(curious) as url:
        told = await found(url, ANYBODY, tmp_path)
    assert "is not a homeserver: something else answers there (200)" in told["matrix.homeserver"].text
    assert seen
    assert "canary" not in str(seen)


async def test_the_domain_was_given_and_names_its_homeserver(tmp_path: Path) -> None:
    async def pointing(request: web.Request) -> web.Response:
        if request.path != "/.well-known/matrix/client":
            return web.Response(status=404)
        return web.json_response({"m.homeserver": {"base_url": "https://matrix.example.org/"}})

    async with other_server(pointing) as url:
        told = (await found(url, ANYBODY, tmp_path))["matrix.homeserver"]
    assert told.broken
    assert 'set transports.matrix.homeserver = "https://matrix.example.org"' in told.text


async def test_nothing_answers_or_it_is_no_address(unused_port: int, tmp_path: Path) -> None:
    told = (await found(f"http://127.0.0.1:{unused_port}", ANYBODY, tmp_path, user_id=""))["matrix.homeserver"]
    assert told.broken
    assert "nothing answers" in told.text
    told = (await found("matrix.example.org", ANYBODY, tmp_path))["matrix.homeserver"]
    assert "must be a whole address, e.g. https://matrix.example.org" in told.text


async def test_a_homeserver_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with other_server(silent) as url, asyncio.timeout(12 * patience()):
        told = (await found(url, ANYBODY, tmp_path, user_id=""))["matrix.homeserver"]
    assert "no answer in time" in told.text


async def test_without_encryption_no_device_is_looked_at(synapse: Synapse, tmp_path: Path) -> None:
    assert "matrix.device" not in await found(synapse.url, synapse.register("bot"), tmp_path, encryption=False)
