"""Files on the wire: a sled gets what its own open turns are about, and leaves what its agents send; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from gateway.chat import Attachment
from gateway.delivery import Files
from gateway.store import turns as rows
from gateway.wire import FileRoutes
from gateway.wire import files as files_module
from sled.protocol import MAX_FILE, MAX_FILES, File, Run
from tests.conftest import World


class Post:
    """A wire of project `project`, whoever asks, and the files behind it."""

    def __init__(
        self, world: World, files: Files, routes: FileRoutes, client: TestClient[web.Request, web.Application]
    ) -> None:
        self.world = world
        self.files = files
        self.routes = routes
        self.client = client
        self.project: int | None = None

    async def begin(self, *attached: Attachment, name: str = "demo") -> Run:
        """A turn over a message with files; the wire is its project's."""
        self.project = self.world.projects.get(name) or await self.world.project(name)
        await self.world.activate(self.project)
        message = replace(self.world.transport.message("look", f"m{len(self.world.accepted)}"), files=attached)
        await self.world.inbox.accept("fake", [message], None)
        self.world.dispatcher.submit(self.world.accepted[-1], self.project)
        return (await self.world.next_run())[1]


@pytest_asyncio.fixture
async def post(world: World, tmp_path: Path) -> AsyncIterator[Post]:
    files = Files(tmp_path / "files", world.store, world.outbox)
    routes = FileRoutes(files.folder, world.store, {"fake": world.transport})
    app = web.Application()
    app.router.add_routes(routes.routes(lambda _: None if made.project is None else str(made.project)))
    async with TestClient(TestServer(app)) as client:
        made = Post(world, files, routes, client)
        yield made


PHOTO = Attachment("photo.png", "image/png", 3, "ref1")


async def test_a_run_names_the_files_of_its_messages_and_its_sled_gets_them(post: Post) -> None:
    post.world.transport.files["ref1"] = b"png"
    run = await post.begin(PHOTO)
    (attached,) = run.files
    assert attached.name == "photo.png"
    answer = await post.client.get(f"/files/{attached.id}")
    assert (answer.status, await answer.read()) == (200, b"png")
    del post.world.transport.files["ref1"]  # asked for again, it comes from here
    assert (await post.client.get(f"/files/{attached.id}")).status == 200


async def test_what_is_not_of_an_open_turn_of_the_project_is_not_there(post: Post) -> None:
    post.world.transport.files["ref1"] = b"png"
    run = await post.begin(PHOTO)
    (attached,) = run.files
    for name in ("m99-0", "m1-7", "x", "..%2f..%2fhuskies.db", f"{attached.id}.partial"):
        assert (await post.client.get(f"/files/{name}")).status == 404, name
    mine, post.project = post.project, 999
    assert (await post.client.get(f"/files/{attached.id}")).status == 404
    post.project = None
    assert (await post.client.get(f"/files/{attached.id}")).status == 401
    assert mine is not None
    post.project = mine
    await post.world.sleds.finish(mine, run)
    await post.world.settled("m0")
    assert (await post.client.get(f"/files/{attached.id}")).status == 404


async def test_a_file_that_is_too_large_is_refused_with_the_reason(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MAX_FILE", 2)
    post.world.transport.files["ref1"] = b"png"
    run = await post.begin(PHOTO)
    answer = await post.client.get(f"/files/{run.files[0].id}")
    assert (answer.status, await answer.text()) == (403, "it has more than 2 bytes\n")
    assert [path for path in post.files.folder.rglob("*") if path.is_file()] == []


async def test_what_an_agent_sends_arrives_in_its_conversation(post: Post) -> None:
    run = await post.begin()
    answer = await post.client.put(f"/files?run={run.run}&name=a.csv", data=b"a,b\n")
    name = (await answer.json())["id"]
    (turn,) = await post.world.store.read(rows.open_turns)
    await post.files.take(turn, File(id=name, name="../../a.csv", caption="the table"))
    await post.world.transport.until(lambda texts: "[a.csv] the table" in texts)
    assert post.world.transport.files["a.csv"] == b"a,b\n"


async def test_an_upload_is_bounded_and_of_an_open_run(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await post.begin()
    assert (await post.client.put("/files?run=other&name=a", data=b"x")).status == 404
    monkeypatch.setattr(files_module, "MAX_FILE", 10)
    answer = await post.client.put(f"/files?run={run.run}&name=a", data=b"x" * 11)
    assert answer.status == 413
    for _ in range(2 * MAX_FILES):
        assert (await post.client.put(f"/files?run={run.run}&name=a", data=b"x")).status == 200
    answer = await post.client.put(f"/files?run={run.run}&name=a", data=b"x")
    assert (answer.status, await answer.text()) == (409, f"a turn may send at most {MAX_FILES} files\n")
    assert (await post.client.put(f"/files?run={run.run}&name=a", data=FormData({"a": "b"}))).status == 409


async def test_a_sled_cannot_name_what_it_did_not_send(post: Post, tmp_path: Path) -> None:
    await post.begin()
    (turn,) = await post.world.store.read(rows.open_turns)
    secret = tmp_path / "files" / "x"
    secret.parent.mkdir(exist_ok=True)
    secret.write_bytes(b"secret")
    for name in ("../x", "x", str(secret), "0" * 32):
        await post.files.take(turn, File(id=name, name="a"))
    assert await post.world.outbox.drain(5)
    assert post.world.transport.files == {}


async def test_a_file_that_cannot_be_had_leaves_nothing_in_memory(post: Post) -> None:
    run = await post.begin(Attachment("big", "x", 10, "ref1"))
    post.world.transport.files["ref1"] = b"x" * (MAX_FILE + 1)
    assert (await post.client.get(f"/files/{run.files[0].id}")).status == 403
    assert post.routes._fetching == {}


async def test_a_file_that_its_sled_tells_of_again_is_sent_once(post: Post) -> None:
    """After a restart of the gateway it tells of the whole run."""
    run = await post.begin()
    name = (await (await post.client.put(f"/files?run={run.run}&name=a.csv", data=b"a")).json())["id"]
    (turn,) = await post.world.store.read(rows.open_turns)
    for _ in range(2):
        await post.files.take(turn, File(id=name, name="a.csv"))
    assert await post.world.outbox.drain(5)
    assert post.world.transport.texts == ["[a.csv]"]


async def test_a_file_that_takes_longer_than_a_sled_waits_is_fetched_once(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await post.begin(PHOTO)
    began, go = asyncio.Event(), asyncio.Event()
    fetches = []

    async def slow(file: Attachment, into: Path, most: int) -> None:
        fetches.append(file)
        began.set()
        await go.wait()
        into.write_bytes(b"png")

    monkeypatch.setattr(post.world.transport, "fetch", slow)
    first = asyncio.create_task(post.routes._get(asks(run.files[0].id), post.project or 0))
    await began.wait()
    first.cancel()  # as its server does when the sled hangs up
    await asyncio.wait([first])
    second = asyncio.create_task(post.routes._get(asks(run.files[0].id), post.project or 0))
    await post.world.store.read(lambda c: None)
    go.set()
    assert (await second).status == 200
    assert len(fetches) == 1


def asks(name: str) -> web.Request:
    """A request for a file, of which nothing but the name is read."""
    return make_mocked_request("GET", f"/files/{name}", match_info={"id": name})
