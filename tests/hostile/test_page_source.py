"""Files of a project that its agent names: path games, links, races, and what is not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gateway.chat import Conversation
from gateway.store import Connection, conversations
from gateway.store.projects import Project
from gateway.web import markup
from gateway.web.guard import Guard
from gateway.web.vouched import Vouched
from tests.hostile.test_page import Browser, browser
from tests.hostile.test_page_files import get
from tests.integration.test_page_files import PNG

__all__ = ["browser"]


async def a_project(browser: Browser) -> tuple[Path, Project]:
    await browser.made.ask("new project demo", contains="is ready")
    project = browser.app.projects.get("demo")
    await browser.log_in()
    return project.path, project


async def links(browser: Browser, *words: str) -> list[str]:
    """Where the page leads from what an agent said; empty: nowhere."""
    text = "\n\n".join(f"`{word}`" for word in words)

    def say(connection: Connection) -> None:
        here = conversations.ensure(connection, Conversation("web", "fake:ana demo"), direct=True)
        browser.app.outbox.add(connection, here.destination, text)

    await browser.app.store.write(say)
    _, page, _ = await browser.get("/chat/demo")
    said = page.rpartition('<li class="row theirs"')[2].partition("</li>")[0]
    lines = re.findall(r'<p>(?:<a href="([^"]*)">)?<code>', said)
    assert len(lines) == len(words)
    return lines


async def test_a_file_that_is_named_is_shown(browser: Browser) -> None:
    source, _project = await a_project(browser)
    (source / "src").mkdir()
    (source / "src" / "a b.py").write_text("def f():\n    return '<script>alert(1)</script>'\n")
    (source / "dot.png").write_bytes(PNG)
    (source / "data.bin").write_bytes(b"\x00\x01<script>")
    code, lined, dotted, picture, data = await links(
        browser, "src/a b.py", "src/a b.py:2", "./src/a b.py:2:5", "dot.png", "data.bin"
    )
    assert lined == dotted == f"{code}#line-2"
    status, text, headers = await browser.get(code)
    assert status == 200
    assert 'id="line-2"' in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    status, raw, headers = await get(browser, f"{code}?raw=1")
    assert raw.startswith(b"def f")
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%20b.py"
    assert headers["Content-Type"] == "application/octet-stream"
    assert (await get(browser, f"{picture}?raw=1"))[2]["Content-Type"] == "image/png"
    status, raw, headers = await get(browser, data)
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_what_an_agent_writes_leads_to_its_files_alone(browser: Browser) -> None:
    source, project = await a_project(browser)
    (source / "a.py").write_text("x")
    (source / ".hidden").mkdir()
    (source / ".hidden" / "b.txt").write_text("x")
    link = Vouched(browser.app.services, Guard(browser.place, browser.logins)).links(project)
    html = markup.written("`a.py` and `a.py:1`, `gone.py`, a.py, [x](a.py), `.hidden/b.txt`\n\n    a.py\n", link)
    assert html.count("<a href=") == 3
    assert "<img" not in html
    (source / "a&b's onerror=x.png").write_bytes(PNG)
    html = markup.written("`a&b's onerror=x.png` and `gone.png`", link)
    assert html.count("<img") == 1
    assert 'alt="a&amp;b&#x27;s onerror=x.png"' in html
    assert "/a%26b%27s%20onerror%3Dx.png?raw=1" in html


@pytest.mark.parametrize(
    "words",
    [
        *("../secret.txt", "x/../../secret.txt", "/etc/passwd", "./../secret.txt", "a//b", "folder", "folder/", "."),
        *("..", "out.txt", "outside/secret.txt", "pipe.fifo", "socket.sock", "nul\x00.txt", "a.py\nb", "x" * 5000),
        *("%2e%2e/secret.txt", "..\\secret.txt", "./", "", "a" * 190 + "/" + "b" * 190, "b.txt/c", "~/.ssh/id"),
    ],
)
async def test_nothing_else_is_vouched_for(browser: Browser, words: str) -> None:
    source, project = await a_project(browser)
    (source.parent / "secret.txt").write_text("secret")
    (source / "folder").mkdir()
    (source / "out.txt").symlink_to(source.parent / "secret.txt")
    (source / "outside").symlink_to(source.parent)
    (source / "b.txt").write_text("x")
    os.mkfifo(source / "pipe.fifo")
    link = Vouched(browser.app.services, Guard(browser.place, browser.logins)).links(project)
    assert link(words) == ""


async def test_what_is_not_vouched_for_looks_like_what_is_not_there(browser: Browser) -> None:
    source, _project = await a_project(browser)
    (source / "a.py").write_text("a")
    (source / "b.py").write_text("b")
    (source / "large.txt").write_bytes(b"x" * (2**20 + 1))
    a, b, large = await links(browser, "a.py", "b.py", "large.txt")
    told = {}
    (source / "gone.py").write_text("x")
    (gone,) = await links(browser, "gone.py")
    (source / "gone.py").unlink()
    swapped = a.replace("a.py", "b.py")
    for path in (swapped, a.replace("a.py", "nothing.py"), gone, large, a.replace(a.split("/")[4], "é" * 32)):
        status, told[path], _ = await get(browser, path)
        assert status == 404
    assert len(set(told.values())) == 1
    assert (await get(browser, b))[0] == 200
    browser.cookie = ""
    assert (await get(browser, b))[0] == 401


async def test_a_file_that_becomes_a_link_is_not_followed(browser: Browser) -> None:
    source, _project = await a_project(browser)
    (source / "d").mkdir()
    (source / "d" / "a.txt").write_text("mine")
    (source.parent / "a.txt").write_text("secret")
    (link,) = await links(browser, "d/a.txt")
    (source / "d" / "a.txt").unlink()
    (source / "d" / "a.txt").symlink_to(source.parent / "a.txt")
    assert (await get(browser, link))[0] == 404
    (source / "d" / "a.txt").unlink()
    (source / "d").rmdir()
    (source / "d").symlink_to(source.parent)
    assert (await get(browser, link))[0] == 404
    (source / "d").unlink()
    (source / "d").mkdir()
    os.mkfifo(source / "d" / "a.txt")
    assert (await get(browser, link))[0] == 404, "and it does not wait for a writer"
