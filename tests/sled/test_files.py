"""Files in and out of a project: a real sled, and a gateway's end that keeps or refuses them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.testing import patience
from sled.inside import safe_name
from sled.protocol import MAX_FILE, MAX_FILES, Attached, File, Note
from tests.support.processes import until
from tests.support.yard import TOKEN, Yard, make_yard


class Shelf:
    """The gateway's files. What is named in `refused` is answered with that status."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.sent: list[tuple[str, str, bytes]] = []
        self.refused: dict[str, int] = {}
        self.refusals = 0

    def routes(self, _: object) -> list[web.RouteDef]:
        return [web.get("/files/{id}", self._get), web.put("/files", self._put)]

    async def _get(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        if (held := self.held.get(request.match_info["id"])) is None:
            return web.Response(status=404)
        return web.Response(body=held)

    async def _put(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        name, data = request.query["name"], await request.content.read()
        if status := self.refused.get(name):
            self.refusals += 1
            return web.Response(status=status, text="no such files, please")
        self.sent.append((request.query["run"], name, data))
        return web.json_response({"id": f"f{len(self.sent)}"})


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def yard(shelf: Shelf) -> AsyncIterator[Yard]:
    async with make_yard(shelf.routes) as made:
        made.sled()
        await made.arrival()
        yield made


def attached(**files: str) -> list[Attached]:
    return [Attached(id=identity, name=name) for identity, name in files.items()]


async def test_files_lie_in_the_inbox_before_the_agent_starts(yard: Yard, shelf: Shelf) -> None:
    shelf.held = {"a": b"one", "b": b"two", "c/?d": b"three"}
    files = [
        *attached(a="photo.png", b="photo.png"),
        Attached(id="c/?d", name="../../x\ny.txt"),
        *attached(e="gone.txt"),
    ]
    end = await yard.answer("look\n@@run cat .huskies/inbox/*", files=files)
    inbox = yard.workspace / ".huskies" / "inbox"
    assert {path.name: path.read_bytes() for path in inbox.iterdir()} == {
        ".gitignore": b"*\n",
        "photo.png": b"one",
        "photo-2.png": b"two",
        "_.._x_y.txt": b"three",
    }
    assert all(content in end.text for content in ("one", "two", "three"))
    for line in ("- .huskies/inbox/photo.png", "- .huskies/inbox/photo-2.png", "- .huskies/inbox/_.._x_y.txt"):
        assert line in end.text
    assert "- gone.txt: not there; it could not be fetched (the gateway answered 404)" in end.text


async def test_nothing_is_written_through_a_link(yard: Yard, shelf: Shelf, tmp_path: Path) -> None:
    shelf.held = {"a": b"one"}
    (yard.workspace / ".huskies").symlink_to(tmp_path)
    end = await yard.answer("look", files=attached(a="a.txt"))
    assert end.ending == "answered" and "a.txt: not there" in end.text
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_too_large_is_not_kept(yard: Yard, shelf: Shelf) -> None:
    shelf.held = {"a": b"x" * (MAX_FILE + 1)}
    end = await yard.answer("look", files=attached(a="a.txt"))
    assert "a.txt: not there; it could not be fetched (it has more than 50 MB)" in end.text
    assert [path.name for path in (yard.workspace / ".huskies" / "inbox").iterdir()] == [".gitignore"]


async def test_stop_ends_the_wait_for_a_file(yard: Yard, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        gate.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(shelf, "_get", hang)
    await yard.gateway.close()
    await yard.gateway.open()
    await yard.arrival()
    run = await yard.run("@@write made.txt x", files=attached(a="a.txt"))
    await asyncio.wait_for(gate.wait(), 10 * patience())
    assert (await yard.stop(run)).reason == "stopped"
    assert (await yard.answer("@@say x")).text == "x"
    assert not (yard.workspace / "made.txt").exists()


async def test_what_lies_in_the_outbox_is_sent_oldest_first(yard: Yard, shelf: Shelf) -> None:
    (yard.workspace / "plot.png").write_bytes(b"picture")
    outbox = yard.workspace / ".huskies" / "outbox"
    outbox.mkdir(parents=True)
    (outbox / "older.txt").write_bytes(b"older")
    os.utime(outbox / "older.txt", (1, 1))
    (outbox / "link").symlink_to("/etc/passwd")
    os.mkfifo(outbox / "fifo")
    (outbox / "folder").mkdir()
    (outbox / ".plot.png.caption").write_text("As you wished")
    run = await yard.run("@@send plot.png")
    await yard.gateway.finished(run)
    assert shelf.sent == [(run, "older.txt", b"older"), (run, "plot.png", b"picture")]
    sent = [body for body in yard.gateway.of(run) if isinstance(body, File)]
    assert sent == [File(id="f1", name="older.txt"), File(id="f2", name="plot.png", caption="As you wished")]
    left = {path.name for path in outbox.iterdir()}
    assert left == {"link", "fifo", "folder", ".gitignore"}
    await yard.answer("@@say x")
    assert len(shelf.sent) == 2


async def test_what_is_refused_is_named_and_set_aside(yard: Yard, shelf: Shelf) -> None:
    shelf.refused = {"a.exe": 415}
    outbox = yard.workspace / ".huskies" / "outbox"
    (outbox / "not-sent").mkdir(parents=True)
    (outbox / "not-sent" / "a.exe").write_text("earlier")
    (outbox / "a.exe").write_text("x")
    with (outbox / "huge.bin").open("wb") as huge:
        huge.truncate(MAX_FILE + 1)
    (outbox / "b.txt").write_text("y")
    run = await yard.run("@@say done")
    end = await yard.gateway.finished(run)
    assert end.ending == "answered"
    notes = {body.text for body in yard.gateway.of(run) if isinstance(body, Note)}
    assert set(end.notes) == notes
    assert notes == {"a.exe was not sent: no such files, please", "huge.bin was not sent: it has more than 50 MB"}
    assert [name for _, name, _ in shelf.sent] == ["b.txt"]
    assert {path.name for path in outbox.iterdir()} == {"not-sent", ".gitignore"}
    assert {path.name for path in (outbox / "not-sent").iterdir()} == {"a.exe", "a-2.exe", "huge.bin"}


async def test_one_turn_sends_so_many(yard: Yard, shelf: Shelf) -> None:
    outbox = yard.workspace / ".huskies" / "outbox"
    outbox.mkdir(parents=True)
    for number in range(MAX_FILES + 2):
        (outbox / f"{number}.txt").write_text("x")
    run = await yard.run("@@say x")
    await yard.gateway.finished(run)
    assert len(shelf.sent) == MAX_FILES
    assert any(isinstance(body, Note) and body.text.startswith("2 more files") for body in yard.gateway.of(run))
    await yard.answer("@@say x")
    assert len(shelf.sent) == MAX_FILES + 2


async def test_a_gateway_that_is_away_gets_the_file_when_it_is_back(yard: Yard, shelf: Shelf) -> None:
    run = await yard.run("@@ask go?\n@@write a.txt x\n@@send a.txt\n@@run touch done")
    await yard.decide(run, await yard.asked(run), True, "yes")
    await until((yard.workspace / "done").exists)
    await yard.gateway.close()
    await yard.gateway.open()
    await yard.gateway.finished(run)
    assert [data for _, _, data in shelf.sent] == [b"x\n"]


async def test_stop_ends_the_wait_for_a_gateway_that_cannot_take_files(yard: Yard, shelf: Shelf) -> None:
    shelf.refused = {"a.txt": 503}
    run = await yard.run("@@write a.txt x\n@@send a.txt")
    await until(lambda: shelf.refusals > 1)
    end = await yard.stop(run)
    assert end.ending == "answered"
    assert any(isinstance(body, Note) and "sent next time" in body.text for body in yard.gateway.of(run))
    shelf.refused = {}
    await yard.answer("@@say x")
    assert [name for _, name, _ in shelf.sent] == ["a.txt"]


async def test_in_and_outbox_are_none_of_git_s_business(yard: Yard, shelf: Shelf) -> None:
    shelf.held = {"a": b"one"}
    shelf.refused = {"b.txt": 400}
    end = await yard.answer(
        "@@run git init -q && git status --porcelain\n@@write b.txt x\n@@send b.txt", files=attached(a="a.txt")
    )
    assert end.ending == "answered"
    status = await yard.answer("@@run git status --porcelain -uall")
    assert status.text == "?? b.txt"


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("a b.png", "a b.png"),
        ("../../etc/passwd", "_.._etc_passwd"),
        (".env", "env"),
        ("...", "file"),
        ("-rf", "rf"),
        ("a\nb\u202e.txt", "a_b_.txt"),
        ("ü" * 300 + ".tar.gz", "ü" * 98 + ".gz"),
        ("x" * 300, "x" * 200),
        ("\ud83d", "_"),
    ],
)
def test_names_are_made_safe(given: str, safe: str) -> None:
    assert safe_name(given) == safe
