"""Files on their way over a project's wire: from a chat to its sled, and from there to the gateway.

A sled fetches what its run names (`GET /files/<id>`) and uploads what the agent sends (`PUT /files?run=`). What it says
is untrusted: only the files of its own open turns exist for it, sizes and numbers are bounded, and a name is only ever
shown.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from gateway.chat import Attachment, Transport
from gateway.errors import DeliveryRefused, TransportError
from gateway.store import Store, turns
from sled.protocol import MAX_FILE, MAX_FILES

log = logging.getLogger(__name__)

#: Seconds that a platform may take to hand over a file.
FETCH_WITHIN_S = 120.0
#: Bytes that are written at once.
_CHUNK = 2**18
_INCOMING = re.compile(r"m(\d{1,18})-(\d{1,3})")


@dataclass(slots=True)
class FileRoutes:
    """See the module. `folder` is the gateway's own: what a run sends is in a folder of the run's name."""

    folder: Path
    store: Store
    transports: Mapping[str, Transport]
    _fetching: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def routes(self, authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
        """The routes for the wire's application."""

        async def get(request: web.Request) -> web.StreamResponse:
            project = authenticate(request)
            return _refuse(401, "unknown project token") if project is None else await self._get(request, int(project))

        async def put(request: web.Request) -> web.StreamResponse:
            project = authenticate(request)
            return _refuse(401, "unknown project token") if project is None else await self._put(request, int(project))

        return [web.get("/files/{id}", get), web.put("/files", put)]

    async def _get(self, request: web.Request, project_id: int) -> web.StreamResponse:
        name = request.match_info["id"]
        found = _INCOMING.fullmatch(name)
        if found is None:
            return _refuse(404, "no such file")
        attached = await self.store.read(lambda c: turns.attachment(c, project_id, int(found[1]), int(found[2])))
        if attached is None:
            return _refuse(404, "no such file")
        transport, attachment = attached
        path = self.folder / "in" / name
        try:
            if not path.is_file():
                # A sled that gets no byte in time asks again; meanwhile what was begun continues.
                await asyncio.shield(self._fetching.get(name) or self._begin(transport, attachment, path))
        except TransportError as error:
            log.info("file %s: %s", name, error)
            return _refuse(403 if isinstance(error, DeliveryRefused) else 502, str(error))
        return web.FileResponse(path)

    def _begin(self, transport: str, attachment: Attachment, path: Path) -> asyncio.Task[None]:
        """Begin to fetch a file, once however many ask for it."""

        def over(task: asyncio.Task[None]) -> None:
            del self._fetching[path.name]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.debug("file %s: %s", path.name, error)  # whoever waits for it reports it

        task = self._fetching[path.name] = asyncio.create_task(self._fetch(transport, attachment, path))
        task.add_done_callback(over)
        return task

    async def _fetch(self, transport: str, attachment: Attachment, path: Path) -> None:
        there = self.transports.get(transport)
        if there is None:
            raise DeliveryRefused(f"{transport} is no longer configured")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_suffix(".partial")
        try:
            async with asyncio.timeout(FETCH_WITHIN_S):
                await there.fetch(attachment, partial, MAX_FILE)
            partial.replace(path)
        except TimeoutError:
            raise DeliveryRefused(f"it did not come within {FETCH_WITHIN_S:.0f} s") from None
        finally:
            partial.unlink(missing_ok=True)

    async def _put(self, request: web.Request, project_id: int) -> web.StreamResponse:
        run = request.query.get("run", "")
        if not await self.store.read(lambda c: turns.is_open(c, project_id, run)):
            return _refuse(404, "no such run")
        folder = self.folder / run
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sum(1 for _ in folder.iterdir()) >= 2 * MAX_FILES:  # some may be of uploads that were cut off
            return _refuse(409, f"a turn may send at most {MAX_FILES} files")
        path = folder / secrets.token_hex(16)
        size = 0
        try:
            with await asyncio.to_thread(path.open, "wb") as file:
                async for chunk in request.content.iter_chunked(_CHUNK):
                    size += len(chunk)
                    if size > MAX_FILE:
                        path.unlink()
                        return _refuse(413, f"a file may have at most {MAX_FILE // 2**20} MiB")
                    await asyncio.to_thread(file.write, chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return web.json_response({"id": path.name})


def _refuse(status: int, why: str) -> web.Response:
    return web.Response(status=status, text=why + "\n")
