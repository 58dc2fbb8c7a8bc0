"""Files in the page, attacked: other people's, hostile names and contents, far too large, sent twice."""

from __future__ import annotations

import errno
import functools
import itertools
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.chat import Attachment, Conversation, OutgoingFile
from gateway.store import Connection, conversations
from gateway.web import uploads
from tests.hostile.test_page import Browser, browser
from tests.integration.test_page_files import PNG

__all__ = ["browser"]
_ids = itertools.count(1)


async def upload(
    browser: Browser, *files: tuple[str, str, bytes], text: str = "look", key: str = ""
) -> tuple[int, str]:
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("text", text)
    form.add_field("id", key or f"upload-{next(_ids):08}")
    for name, mime, data in files:
        form.add_field("files", data, filename=name, content_type=mime)
    status, told, _ = await browser.post("/chat/all", form)
    return status, told


async def links(browser: Browser) -> list[str]:
    _, text, _ = await browser.get("/chat/all")
    return list(dict.fromkeys(re.findall(r'href="(/files/[^"]*)"', text)))


def kept(browser: Browser) -> list[Path]:
    return sorted((browser.made.tmp_path / "state" / ".gateway" / "files" / "web").glob("*"))


async def get(browser: Browser, path: str) -> tuple[int, bytes, Any]:
    cookie = {"Cookie": browser.cookie} if browser.cookie else {}
    url = f"http://127.0.0.1:{browser.place.port}{path}"
    async with browser.web.get(url, headers={"Host": browser.host, **cookie}, allow_redirects=False) as answer:
        return answer.status, await answer.read(), answer.headers


def hand_out(browser: Browser, room: str, file: OutgoingFile, connection: Connection) -> int:
    """A file was sent to a room; its row."""
    here = conversations.ensure(connection, Conversation("web", room), direct=True)
    browser.app.outbox.add_file(connection, here.destination, file, "")
    return int(connection.exec_driver_sql("SELECT max(id) FROM outbox").scalar_one())


async def test_a_file_is_its_senders_alone(browser: Browser) -> None:
    await browser.log_in("fake:ana")
    assert (await upload(browser, ("dot.png", "image/png", PNG)))[0] == 303
    (link,) = await links(browser)
    assert (await get(browser, link))[:2] == (200, PNG)
    anas, browser.cookie = browser.cookie, ""
    for person in ("", "fake:ben"):
        if person:
            await browser.log_in(person)
        theirs, missing = await get(browser, link), await get(browser, "/files/said/999999/0")
        assert theirs[:2] == missing[:2], "what is there, and what is not, look the same"
        assert theirs[0] == 404
    browser.cookie = anas
    sent = browser.made.tmp_path / "table"
    sent.write_bytes(b"<script>")
    file = OutgoingFile(sent, "table.html", "text/html", 8)
    for room, status in (("fake:ana all", 200), ("fake:ben all", 404), ("fake:ana", 404)):
        row = await browser.app.store.write(functools.partial(hand_out, browser, room, file))
        assert (await get(browser, f"/files/told/{row}"))[0] == status


async def test_what_came_by_another_chat_is_not_given_out(browser: Browser) -> None:
    browser.made.transport.files["ref"] = b"theirs"
    here = await browser.made.say("look", files=(Attachment("a.txt", "text/plain", 6, "ref"),))
    await browser.made.quiet()
    row = await browser.app.store.read(
        lambda c: c.exec_driver_sql(f"SELECT id FROM messages WHERE external_id = '{here}'").scalar()
    )
    await browser.log_in("fake:ana")
    assert (await get(browser, f"/files/said/{row}/0"))[0] == 404


@pytest.mark.parametrize(
    ("name", "mime", "data", "is_shown"),
    [
        ("dot.png", "image/png", PNG, True),
        ("page.png", "image/png", b"<html><script>alert(1)</script>", False),
        ("page.html", "text/html", b"<script>alert(1)</script>", False),
        ("both.html", "text/html", PNG, False),
        ("drawing.svg", "image/svg+xml", b"<svg onload='alert(1)'/>", False),
        ("riff.webp", "image/webp", b"RIFF____AVI ", False),
        ('"><img src=x onerror=alert(1)>\r\nX-Evil: 1', "text/plain", b"x", False),
        ("../../../etc/passwd", "text/plain; x=\r\nX-Evil: 1", b"x", False),
        ("", "", b"x", False),
    ],
)
async def test_only_a_picture_is_shown(browser: Browser, name: str, mime: str, data: bytes, is_shown: bool) -> None:
    await browser.log_in("fake:ana")
    boundary = "b0undary"
    body = b"".join(
        (
            b'--b0undary\r\nContent-Disposition: form-data; name="text"\r\n\r\nlook\r\n',
            b'--b0undary\r\nContent-Disposition: form-data; name="id"\r\n\r\nfile-0000001\r\n',
            b'--b0undary\r\nContent-Disposition: form-data; name="files"; filename="',
            name.replace('"', "%22").replace("\r\n", "%0D%0A").encode() + b'"\r\n',
            b"Content-Type: " + mime.replace("\r\n", " ").encode() + b"\r\n\r\n" + data + b"\r\n--b0undary--\r\n",
        )
    )
    kind = f"multipart/form-data; boundary={boundary}"
    status, _, _ = await browser._ask(
        "POST",
        "/chat/all",
        {"Origin": browser.origin, "Sec-Fetch-Site": "same-origin", "Content-Type": kind},
        body,
    )
    assert status == 303
    _, text, _ = await browser.get("/chat/all")
    assert "<img src=x" not in text
    (link,) = await links(browser)
    status, given, headers = await get(browser, link)
    assert (status, given) == (200, data)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "X-Evil" not in headers
    if is_shown:
        assert headers["Content-Type"] == mime
    else:
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")
        assert "/" not in headers["Content-Disposition"].partition("''")[2]
    assert [path.name for path in kept(browser)] == [re.fullmatch("[0-9a-f]{32}", p.name)[0] for p in kept(browser)]  # type: ignore[index]


@pytest.mark.parametrize(
    "path",
    [
        "/files/said/1/../../../../etc/passwd",
        "/files/said/%2e%2e/0",
        "/files/said/1%00/0",
        "/files/said/-1/0",
        "/files/said/1/999",
        "/files/said/999999999999999/0",
        "/files/said/9999999999999999999999/0",
        "/files/told/0",
        "/files/told/999999999999999",
        "/files/said/1/0/",
        "/files/told//dev/zero",
    ],
)
async def test_path_games_lead_nowhere(browser: Browser, path: str) -> None:
    await browser.log_in("fake:ana")
    status, told, _ = await get(browser, path)
    assert status == 404
    assert b"root:" not in told


async def test_what_is_too_large_or_too_many_leaves_nothing(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    await browser.log_in("fake:ana")
    monkeypatch.setattr(uploads, "MAX_FILE", 2**20)
    monkeypatch.setattr(uploads, "MOST_TOGETHER", 3 * 2**20)
    status, told = await upload(browser, ("small.txt", "text/plain", b"x"), ("large.bin", "", b"x" * (2**20 + 1)))
    assert status == 413
    assert "large.bin is too large: a file may have 1 MiB, and all files of a message 3 MiB." in told
    status, told = await upload(browser, *[(f"{n}.bin", "", b"x" * 2**20) for n in range(4)])
    assert status == 413
    status, told = await upload(browser, *[(f"{n}.txt", "", b"x") for n in range(21)])
    assert status == 413
    assert "A message may bring 20 files." in told
    status, told = await upload(browser, text="x" * 600_000)
    assert status == 413
    assert "too long for one message" in told
    assert kept(browser) == []
    assert await links(browser) == []
    assert (await upload(browser, ("fits.bin", "", b"x" * 2**20)))[0] == 303


async def test_a_form_that_is_sent_twice_is_one_message_with_one_file(browser: Browser) -> None:
    await browser.log_in("fake:ana")
    for data in (b"first", b"second"):
        assert (await upload(browser, ("a.txt", "text/plain", data), key="the-same-one"))[0] == 303
    (link,) = await links(browser)
    assert (await get(browser, link))[1] == b"first"
    assert len(kept(browser)) == 1


async def test_a_file_that_is_not_kept_any_more_says_so(browser: Browser) -> None:
    await browser.log_in("fake:ana")
    await upload(browser, ("a.txt", "text/plain", b"x"))
    (link,) = await links(browser)
    for path in kept(browser):
        path.unlink()
    status, told, _ = await get(browser, link)
    assert status == 404
    assert b"not kept any more" in told


async def test_a_full_disk_takes_nothing_and_says_so(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    await browser.log_in("fake:ana")

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(uploads, "_sync", full)
        status, told = await upload(browser, ("a.txt", "text/plain", b"x"), key="while-it-is-full")
    assert status == 503
    assert "The files were not stored: No space left on device. Send it again." in told
    assert kept(browser) == []
    assert await links(browser) == []
    assert (await upload(browser, ("a.txt", "text/plain", b"x"), key="while-it-is-full"))[0] == 303
