"""A project's page, attacked: what a member sees of others, names that lead elsewhere, streams from other sites."""

from __future__ import annotations

import aiohttp
import pytest

from gateway.web.guard import LOGGED_OUT
from tests.hostile.test_page import Browser, browser

__all__ = ["browser"]


async def test_a_member_sees_less(browser: Browser) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    browser.app.secrets.set("demo", "api_key", "sk-very-secret")
    await browser.made.say("ana's own words", sender="fake:ana")
    await browser.made.quiet()
    await browser.log_in("fake:ana")
    _, operator, _ = await browser.get("/project/demo")
    await browser.log_in("fake:ben")
    _, member, _ = await browser.get("/project/demo")
    for word in ("ana&#39;s own words", "api_key", "/delete demo", "/rebuild demo", "/agent"):
        assert word in operator, word
        assert word not in member, word
    assert "sk-very-secret" not in operator
    assert "/retry demo" in member


@pytest.mark.parametrize(
    "path", ["/project/nothing", "/project/demo/logs/..%2fhuskies.db", "/project/demo/logs/../state"]
)
async def test_what_is_not_there_is_not_found(browser: Browser, path: str) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.log_in()
    assert (await browser.get(path))[0] == 404


@pytest.mark.parametrize("path", ["/project/demo", "/project/demo/changes", "/project/demo/logs/sled"])
async def test_nobody_sees_anything_without_a_login(browser: Browser, path: str) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    status, text, _ = await browser.get(path)
    assert status == 401
    assert "demo" not in text


@pytest.mark.parametrize(
    ("origin", "cookie", "code"), [("https://evil.example", True, 403), ("", True, 403), ("ours", False, LOGGED_OUT)]
)
async def test_a_log_is_told_to_its_own_page_alone(browser: Browser, origin: str, cookie: bool, code: int) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.log_in()
    headers = {"Host": browser.host, "Origin": browser.origin if origin == "ours" else origin}
    headers |= {"Cookie": browser.cookie} if cookie else {}
    url = f"http://127.0.0.1:{browser.place.port}/project/demo/logs/sled/live"
    if code == LOGGED_OUT:
        async with browser.web.ws_connect(url, headers=headers) as socket:
            assert (await socket.receive()).data == LOGGED_OUT
        return
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await browser.web.ws_connect(url, headers=headers)
    assert refused.value.status == code


async def test_a_run_that_is_none_names_nothing(browser: Browser) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.log_in()
    for run in ("../../x", "--help", "%00", "a" * 100):
        assert (await browser.get(f"/project/demo/changes?run={run}"))[0] in (404, 409)


async def test_what_is_wrong_is_told_to_operators(browser: Browser) -> None:
    browser.made.transport.serving = False
    browser.app.troubles["fake"] = "<b>the token</b> was refused"
    await browser.log_in("fake:ben")
    assert "the token" not in (await browser.get("/"))[1]
    await browser.log_in("fake:ana")
    assert "fake: &lt;b&gt;the token&lt;/b&gt; was refused" in (await browser.get("/"))[1]
