"""The page, attacked: from other sites, under other names, with links and cookies that are not good."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.asking.questions import Then
from gateway.chat import Conversation
from gateway.intake.logins import Logins
from gateway.store import conversations
from gateway.testing import InMemoryEngine, patience
from gateway.web import chat, home, live, markup, templates
from gateway.web.guard import COOKIE, LOGGED_OUT, MOST_FAILURES, SECURE_COOKIE
from gateway.web.place import Place
from sled.protocol import Question
from tests.support.grounds import until
from tests.support.house import House, house, make_settings
from tests.transports.test_contract import HOSTILE

OURS = "https://bot.example.org"


class Browser:
    """Requests as a browser makes them, each header of which a test can change."""

    def __init__(self, made: House, web: aiohttp.ClientSession) -> None:
        self.made = made
        self.app = made.app
        self.place: Place = made.app.place
        self.logins: Logins = made.app.services.logins
        self.host = self.place.local_url.removeprefix("http://")
        self.cookie = ""
        self.web = web

    @property
    def origin(self) -> str:
        return self.place.origin(self.host)

    def token(self, sender: str = "fake:ana") -> str:
        return self.logins.link(sender, "Ana").rpartition("/")[2]

    async def get(self, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        return await self._ask("GET", path, headers, None)

    async def post(
        self, path: str, body: dict[str, str] | aiohttp.FormData | None = None, **headers: str
    ) -> tuple[int, str, Any]:
        sent = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", **headers}
        return await self._ask(
            "POST", path, {name: value for name, value in sent.items() if value or name == "Host"}, body or {}
        )

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: Any
    ) -> tuple[int, str, Mapping[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Host": self.host, **({"Cookie": self.cookie} if self.cookie else {}), **named}
        url = f"http://127.0.0.1:{self.place.port}{path}"
        async with self.web.request(method, url, headers=sent, data=body, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    async def log_in(self, sender: str = "fake:ana") -> str:
        status, _, headers = await self.post("/login", {"token": self.token(sender)})
        assert status == 303
        kept = str(headers["Set-Cookie"])
        self.cookie = kept.partition(";")[0]
        return kept


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    settings = make_settings(tmp_path, gateway={"public_url": OURS})
    async with (
        house(tmp_path, engine=InMemoryEngine(), settings=settings) as made,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as web,
    ):
        yield Browser(made, web)


async def test_nothing_is_shown_without_a_login(browser: Browser) -> None:
    status, text, _ = await browser.get("/")
    assert status == 401
    assert "huskies login" in text
    for cookie in ("huskies=", "huskies=guess", f"huskies={browser.token()}", "huskies=\xff"):
        assert (await browser.get("/", Cookie=cookie))[0] == 401


async def test_looking_at_a_link_does_not_use_it_up_and_pressing_the_button_does(browser: Browser) -> None:
    token = browser.token()
    for _ in range(3):
        status, text, headers = await browser.get(f"/login/{token}")
        assert (status, headers.get("Set-Cookie")) == (200, None)
        assert "<strong>Ana</strong>" in text
        assert "fake:ana" in text
    assert (await browser.post("/login", {"token": token}))[0] == 303
    assert (await browser.post("/login", {"token": token}))[0] == 410
    assert (await browser.get(f"/login/{token}"))[0] == 410


@pytest.mark.parametrize("path", ["/login", "/logout", "/chat/all"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null", "Sec-Fetch-Site": ""},
        {"Origin": ""},
        {"Origin": "http://huskies.localhost"},
        {"Origin": "http://huskies.localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
    ],
    ids=str,
)
async def test_no_other_site_acts_through_it(browser: Browser, path: str, headers: dict[str, str]) -> None:
    await browser.log_in()
    token = browser.token("fake:ben")
    status, _, answered = await browser.post(path, {"token": token}, **headers)
    assert (status, answered.get("Set-Cookie")) == (403, None)
    assert (await browser.get("/"))[0] == 200, "and whoever is logged in still is"
    assert browser.logins.offered(token) is not None


@pytest.mark.parametrize("host", ["evil.example", "huskies.localhost.evil.example:{port}", "10.0.0.1:{port}", ""])
async def test_another_name_that_leads_here_shows_nothing(browser: Browser, host: str) -> None:
    await browser.log_in()
    named = host.format(port=browser.place.port)
    status, text, _ = await browser.get("/", Host=named)
    assert (status, "Projects" in text) == (421, False)
    status, _, answered = await browser.post("/login", {"token": browser.token()}, Host=named, Origin=f"http://{named}")
    assert (status, answered.get("Set-Cookie")) == (421, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_the_page_has_one_name_and_sets_no_cookie_under_others(browser: Browser, host: str) -> None:
    """Cookies do not tell ports apart: an agent's server behind `ssh -L` would be sent ours."""
    named, token = f"{host}:{browser.place.port}", browser.token()
    status, text, headers = await browser.get(f"/login/{token}", Host=named)
    assert (status, headers.get("Set-Cookie")) == (200, None)
    assert f'url={browser.place.local_url}/login/{token}"' in text
    assert "127.0.0.1 huskies.localhost" in text
    status, _, answered = await browser.post("/login", {"token": token}, Host=named, Origin=f"http://{named}")
    assert (status, answered.get("Set-Cookie")) == (421, None)


async def test_where_it_leads_on_is_its_own_whatever_the_path(browser: Browser) -> None:
    port = browser.place.port
    for path in ("/login//evil.example", "/login/%2F%2Fevil.example", "/login/x%22%3E%3Cscript%3E"):
        _, text, _ = await browser.get(path, Host=f"127.0.0.1:{port}")
        for address in re.findall(r'(?:href|url)="?([^"]*)"', text):
            assert address.startswith((browser.place.local_url, "/static/", "/", "#")) and not address.startswith("//")
        assert "<script" not in text


async def test_a_cookie_is_out_of_reach_of_scripts_and_of_other_sites(browser: Browser) -> None:
    local = await browser.log_in()
    assert local.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(local.split("; "))
    assert "Domain" not in local
    browser.host, browser.cookie = "bot.example.org", ""
    public = await browser.log_in()
    assert public.startswith(f"{SECURE_COOKIE}=__"[: len(SECURE_COOKIE) + 1])
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= set(public.split("; "))
    assert "Domain" not in public


async def test_a_token_that_somebody_put_there_before_is_no_session_afterwards(browser: Browser) -> None:
    browser.cookie = f"{COOKIE}=chosen-by-somebody-else"
    await browser.log_in()
    assert (await browser.get("/", Cookie=f"{COOKIE}=chosen-by-somebody-else"))[0] == 401


async def test_who_logs_in_anew_leaves_no_session_behind(browser: Browser) -> None:
    await browser.log_in()
    before = browser.cookie
    await browser.log_in()
    assert (await browser.get("/", Cookie=before))[0] == 401
    status, _, headers = await browser.get("/")
    assert (status, "Max-Age=2592000" in headers["Set-Cookie"]) == (200, True), "a month from now on"
    status, _, headers = await browser.post("/logout")
    assert (status, headers["Location"]) == (303, "/")
    assert "Max-Age=0" in headers["Set-Cookie"]
    assert (await browser.get("/"))[0] == 401
    assert browser.logins.of("fake:ana") == []


async def test_every_answer_is_for_nobodys_frame_and_for_no_other_site(browser: Browser) -> None:
    await browser.log_in()
    answers = [await browser.get(path) for path in ("/", "/login/x", "/static/none.css")]
    answers += [
        await browser.get("/", Host="evil.example"),
        await browser.post("/login", {}, Origin="http://evil.example"),
    ]
    assert [status for status, _, _ in answers] == [200, 410, 404, 421, 403]
    for _, text, headers in answers:
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert not re.search(
            r"<script(?![^>]* src=)|<style| style=| on\w+=|https?://(?!bot\.example\.org|huskies\.localhost)", text
        )


async def test_names_are_text(browser: Browser) -> None:
    token = browser.logins.link("fake:ana", "<img src=x onerror=alert(1)>\u202e").rpartition("/")[2]
    _, text, _ = await browser.get(f"/login/{token}")
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert "\u202e" not in text


async def test_links_that_are_not_good_are_tried_so_often_and_no_more(browser: Browser) -> None:
    found = [(await browser.get(f"/login/{number}"))[0] for number in range(MOST_FAILURES + 1)]
    assert found == [410] * MOST_FAILURES + [429]
    token = browser.token()
    assert (await browser.post("/login", {"token": token}))[0] == 429
    assert browser.logins.offered(token) is not None, "it can be used in a minute"


async def test_what_is_too_long_or_no_request_harms_nothing(browser: Browser) -> None:
    assert (await browser.post("/login", {"token": "x" * 2**21}))[0] == 413
    assert (await browser.post("/login", {"token": "x"}, Content_Type="text/plain"))[0] == 410
    assert (await browser.get("/static/..%2f..%2fpage.py"))[0] == 404
    with socket.create_connection(("127.0.0.1", browser.place.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")  # without a Host
        first = await asyncio.to_thread(raw.recv, 100)
    assert first.split()[1] in (b"400", b"421")


async def streams(browser: Browser, **headers: str) -> tuple[int, str]:
    """How a WebSocket of the page is answered, or ends; and what came over it before."""
    named = {"Host": browser.host, "Origin": browser.origin, "Cookie": browser.cookie, **headers}
    sent = {name.replace("_", "-"): value for name, value in named.items() if value}
    url = f"http://127.0.0.1:{browser.place.port}/live?after={browser.app.changes.now}"
    try:
        async with browser.web.ws_connect(url, headers=sent) as socket:
            first = await asyncio.wait_for(socket.receive(), 5 * patience())
            return (101, first.data) if first.type is aiohttp.WSMsgType.TEXT else (int(first.data), "")
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status, ""


async def test_the_stream_is_for_the_page_alone(browser: Browser) -> None:
    assert await streams(browser) == (LOGGED_OUT, "")
    await browser.log_in()
    status, told = await streams(browser)
    assert status == 101
    assert json.loads(told)["parts"] == []
    for origin in ("https://evil.example", "null", "", "http://huskies.localhost"):
        assert await streams(browser, Origin=origin) == (403, "")
    assert await streams(browser, Sec_Fetch_Site="cross-site") == (403, "")
    assert await streams(browser, Host=f"127.0.0.1:{browser.place.port}") == (421, "")
    assert await streams(browser, Host="evil.example", Origin="http://evil.example") == (421, "")


async def test_a_session_has_so_many_streams_and_no_more(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MOST_STREAMS", 2)
    await browser.log_in()
    headers = {"Host": browser.host, "Origin": browser.origin, "Cookie": browser.cookie}
    url = f"http://127.0.0.1:{browser.place.port}/live?after={browser.app.changes.now}"
    async with browser.web.ws_connect(url, headers=headers) as one, browser.web.ws_connect(url, headers=headers) as two:
        await one.receive()
        await two.receive()
        assert await streams(browser) == (LOGGED_OUT, "")
    await until(lambda: not browser.app.changes._news, lambda: "streams are still open")
    assert (await streams(browser))[0] == 101


async def test_what_a_page_says_over_its_stream_is_nothing_to_anybody(browser: Browser) -> None:
    await browser.log_in()
    headers = {"Host": browser.host, "Origin": browser.origin, "Cookie": browser.cookie}
    url = f"http://127.0.0.1:{browser.place.port}/live?after={browser.app.changes.now}"
    async with browser.web.ws_connect(url, headers=headers) as socket:
        await socket.receive()
        await socket.send_str("stop")
        await socket.send_str("x" * 100_000)
        ended = await asyncio.wait_for(socket.receive(), 5 * patience())
    assert (ended.type, ended.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)


@pytest.mark.parametrize("where", ["name", "trouble", "stack", "said", "who"])
def test_whatever_agents_and_people_write_is_text(where: str) -> None:
    evil = '<img src=x onerror="alert(1)"></li><script>alert(2)</script>'
    made = home.Row(1, "demo", "ready", "", "", (home.Run("do it", "Ana", 0.0),), 2, 0.0)
    run = home.Run(evil, "Ana", 0.0) if where == "said" else home.Run("do it", evil, 0.0)
    other: dict[str, Any] = {"runs": (run,)} if where in ("said", "who") else {where: evil}
    changed = replace(made, **other)
    html = templates.fragment("project_row.html", project=changed)
    assert "&lt;img src=x onerror=&#34;" in html
    assert "<img" not in html
    assert "<script" not in html
    assert html.count("</li>") == 1


# --- conversations ---------------------------------------------------------------------------------------------------


async def say(browser: Browser, text: str, name: str = "demo", **more: str) -> tuple[int, str, Any]:
    return await browser.post(f"/chat/{name}", {"text": text, "id": secrets.token_hex(8), **more})


async def reads(browser: Browser, part: str, name: str = "demo") -> str:
    """The conversation, once it has that in it."""
    async with asyncio.timeout(20 * patience()):
        while True:
            before = browser.app.changes.now
            if part in (page := (await browser.get(f"/chat/{name}"))[1]):
                return page
            await browser.app.changes.wait(before)


async def test_a_conversation_is_its_persons_alone(browser: Browser) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.log_in("fake:ana")
    await say(browser, "the secret of Ana")
    await reads(browser, "fate answered")
    await browser.log_in("fake:ben")
    _, text, _ = await browser.get("/chat/demo")
    assert "the secret of Ana" not in text
    headers = {"Host": browser.host, "Origin": browser.origin, "Cookie": browser.cookie}
    url = f"http://127.0.0.1:{browser.place.port}/live?chat=demo&after={browser.app.changes.now}"
    async with browser.web.ws_connect(url, headers=headers) as socket:
        await socket.receive()
        browser.app.changes.tell(chat.topic_of("fake:ana demo", "in/1"))
        await say(browser, "from Ben")
        told = json.loads((await asyncio.wait_for(socket.receive(), 5 * patience())).data)
    assert "from Ben" in told["parts"][0]["html"]
    assert "the secret of Ana" not in json.dumps(told)


async def test_nobody_can_do_more_in_the_page_than_in_a_chat(browser: Browser) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.log_in("fake:ben")
    await say(browser, "delete demo --purge")
    assert "Only an operator can use `delete" in (await reads(browser, "Only an operator")).replace("<code>", "`")
    assert browser.app.projects.names() == {"demo"}


@pytest.mark.parametrize("name", ["nothing", "%2e%2e%2fall", "fake:ana%20demo", "demo%0a", "%00", "demo/x"])
async def test_a_conversation_about_nothing_is_not_there(browser: Browser, name: str) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.log_in()
    assert (await browser.get(f"/chat/{name}"))[0] == 404
    assert (await say(browser, "hello", name))[0] in (404, 405)


@pytest.mark.parametrize(
    "fields",
    [
        {"text": ""},
        {"text": "  \n"},
        {"id": ""},
        {"id": "short"},
        {"id": "x" * 65},
        {"id": "../../../../etc"},
        {"id": "nul\0nul\0nul"},
    ],
    ids=str,
)
async def test_what_is_no_message_is_refused(browser: Browser, fields: dict[str, str]) -> None:
    await browser.log_in()
    whole = {"text": "hello", "id": "0123456789", **fields}
    assert (await browser.post("/chat/all", whole))[0] == 400
    assert "Nothing was said here yet." in (await browser.get("/chat/all"))[1]


async def test_buttons_of_others_and_of_nothing_press_nothing(browser: Browser) -> None:
    await browser.made.ask("new project demo", contains="is ready")
    await browser.log_in("fake:ben")
    for pressed in ("huskies-1-1", "x" * 1000, "nul\0", "🐺"):
        assert (await say(browser, "allow", presses=pressed))[0] == 303
    await say(browser, "hello")
    assert "May I" not in await reads(browser, "fate answered")
    assert "hello" in (await reads(browser, "hello"))


@pytest.mark.parametrize("before", ["", "nan", "inf", "-1", "1e400", "1;drop", "9" * 40])
async def test_where_a_page_begins_is_a_time_or_nothing(browser: Browser, before: str) -> None:
    await browser.log_in()
    assert (await browser.get(f"/chat/all?before={before}"))[0] == 200


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_an_agent_says_is_inert(text: str) -> None:
    html = markup.written(text)
    known = r"p|br|strong|em|s|a|code|pre|ul|ol|li|blockquote|h\d|hr|table|thead|tbody|tr|t[hd]"
    assert not re.search(rf"<(?!/?(?:{known})\b)", html)
    assert not re.search(r"<[^>]* on\w+=|href=\"(?!https?://|mailto:)", html)


async def test_what_is_asked_is_shown_to_those_who_may_answer(browser: Browser) -> None:
    """A member sees what is theirs; an operator sees everything."""
    await browser.made.ask("new project demo", contains="is ready")
    project = browser.app.projects.get("demo")
    here = await browser.app.store.read(lambda c: conversations.find(c, Conversation("fake", "room")))
    assert here is not None
    then = Then(lambda _: asyncio.sleep(0))
    told = "x" * 300 + "; rm -rf /  # <img src=x>"
    for name, command in (("q", told), ("long", told * 100)):
        question = Question(id=name, kind="permission", tool="Bash", arguments=json.dumps({"command": command}))
        await browser.app.questions.ask_operator(project.id, here.id, question, time.time() + 60, then)
    await browser.log_in("fake:ben")
    assert "Bash" not in (await browser.get("/"))[1]
    await browser.log_in("fake:ana")
    _, text, _ = await browser.get("/")
    assert "; rm -rf /  # &lt;img src=x&gt;" in re.sub(r"</?span[^>]*>", "", text), "all of it, however long the line"
    assert "<img src=x" not in text
    buttons = [says for says in ("allow #1", "allow #2") if f'value="{says}"' in text]
    assert buttons == ["allow #1"], "nobody says yes to what they were not shown"
