"""Files that travel beside the frames: from people into the project, and from the project to people.

In: each file that a run names, into `.huskies/inbox`, before its agent starts. Out: what is in `.huskies/outbox`
(see `sled.outbox`) when the agent is done. Both over HTTP on the project's own socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from sled.inside import adding, ensure, folder, regular, safe_name
from sled.outbox import IGNORE, PARTS, caption_of
from sled.protocol import MAX_FILE, MAX_FILES, Attached, Body, File, Note
from sled.shadow import shown

log = logging.getLogger(__name__)

INBOX = (".huskies", "inbox")
_NOT_SENT = "not-sent"
#: Seconds between two attempts to reach a gateway that is away, and for how long a file that comes in is tried: its
#: platform gets two minutes to hand it to the gateway.
RETRY_S = 0.5
FETCH_WITHIN_S = 150.0
#: Attempts at a gateway that is there, but does not answer as it should.
_ATTEMPTS = 10
_MAX_CAPTION = 2000
_CHUNK = 2**18
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=130)
_MB = 2**20


class _Refused(Exception):
    """The file cannot be transferred, and trying again would not help; the text says why."""


class _Away(Exception):
    """The gateway is not there, or not ready."""


class _Stored(msgspec.Struct):
    """The gateway's answer to a file."""

    id: str


class Files:
    """The files of one project; `wire` is the gateway's socket."""

    def __init__(self, wire: Path, token: str, workspace: Path) -> None:
        self._wire = wire
        self._token = token
        self._workspace = workspace

    async def fetch(self, files: list[Attached]) -> str:
        """Put files into the inbox; returns lines for the agent that say where each one is, or why it is missing."""
        found = await asyncio.gather(*(self._fetched(file) for file in files))
        return "\n".join(("Files that came with this, in the workspace:", *found))

    async def _fetched(self, file: Attached) -> str:
        try:
            async with asyncio.timeout(FETCH_WITHIN_S):
                return f"- {'/'.join(INBOX)}/{await self._fetch(file)}"
        except (_Refused, OSError, TimeoutError) as error:
            log.warning("file %s could not be fetched: %s", file.id, error)
            return f"- {file.name}: not there; it could not be fetched ({_why(error)})"

    async def send(self, run: str, record: Callable[[Body], None]) -> None:
        """Hand what is in the outbox to the gateway, oldest first; `record` is told of each file.

        Waits for a gateway that is away; what is not sent when this is cancelled is sent after a later run.
        """
        try:
            with folder(self._workspace, *PARTS) as out:
                ensure(out, *IGNORE)
                names = await asyncio.to_thread(_waiting, out)
                for name in names[:MAX_FILES]:
                    await self._send(run, out, name, record)
        except FileNotFoundError:
            return
        except OSError as error:
            record(Note(text=f"The files in {'/'.join(PARTS)} could not be sent: {_why(error)}"))
            return
        if (more := len(names) - MAX_FILES) > 0:
            record(Note(text=f"{more} more files will be sent after the next turn: one turn sends at most {MAX_FILES}"))

    async def _fetch(self, file: Attached) -> str:
        while True:
            try:
                with folder(self._workspace, *INBOX, create=True) as inbox:
                    ensure(inbox, *IGNORE)
                    with adding(inbox, safe_name(file.name)) as (target, name):
                        await self._download(file.id, target)
                return name
            except _Away:
                await asyncio.sleep(RETRY_S)

    async def _download(self, identity: str, target: IO[bytes]) -> None:
        url = URL(f"http://wire/files/{quote(identity, safe='')}", encoded=True)
        async with self._session() as http, _reached(http.get(url)) as response:
            if response.status != 200:
                raise _Refused(await _reason(response))
            size = 0
            async for chunk in response.content.iter_chunked(_CHUNK):
                size += len(chunk)
                if size > MAX_FILE:
                    raise _Refused(f"it has more than {MAX_FILE // _MB} MB")
                target.write(chunk)

    async def _send(self, run: str, out: int, name: str, record: Callable[[Body], None]) -> None:
        attempts = 0
        while True:
            try:
                with regular(name, out) as file:
                    stored = await self._upload(run, safe_name(name), file)
            except _Away:
                await asyncio.sleep(RETRY_S)
            except (msgspec.MsgspecError, TimeoutError) as error:
                attempts += 1
                if attempts == _ATTEMPTS:
                    record(Note(text=f"{shown(os.fsencode(name))} could not be sent: {_why(error)}"))
                    return
                await asyncio.sleep(RETRY_S)
            except (_Refused, OSError) as error:
                _set_aside(out, name)
                record(Note(text=f"{shown(os.fsencode(name))} was not sent: {_why(error)}"))
                return
            else:
                record(File(id=stored, name=safe_name(name), caption=_caption(out, name)))
                os.unlink(name, dir_fd=out)
                _remove(out, caption_of(name))
                return

    async def _upload(self, run: str, name: str, file: IO[bytes]) -> str:
        """Hand over one file; returns its id. Raises _Refused, _Away, MsgspecError (the answer makes no sense)."""
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise _Refused(f"it has more than {MAX_FILE // _MB} MB")
        url = URL("http://wire/files").with_query(run=run, name=name)
        async with self._session() as http, _reached(http.put(url, data=_chunks(file, size))) as response:
            if 400 <= response.status < 500:
                raise _Refused(await _reason(response))
            if response.status in (502, 503):
                raise _Away
            answer = await response.content.read(2**16) if response.status == 200 else b""
            return msgspec.json.decode(answer, type=_Stored).id

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._wire)),
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


@contextlib.asynccontextmanager
async def _reached(
    request: contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse],
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A response; a gateway that cannot be reached, or goes away in the middle, is `_Away`."""
    try:
        async with request as response:
            yield response
    except aiohttp.ClientError as error:
        raise _Away from error


async def _reason(response: aiohttp.ClientResponse) -> str:
    """What the gateway says, or at least the status it gave."""
    text = (await response.content.read(2**10)).decode(errors="replace").strip()
    return text[:300] or f"the gateway answered {response.status}"


async def _chunks(file: IO[bytes], size: int) -> AsyncIterator[bytes]:
    """The content of a file up to `size`; it may have grown since."""
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        size -= len(chunk)
        yield chunk


def _waiting(out: int) -> list[str]:
    """The files to send, oldest first; only regular files that are not hidden."""
    found = []
    with os.scandir(out) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    return [name for _, name in sorted(found)]


def _caption(out: int, name: str) -> str:
    try:
        with regular(caption_of(name), out) as file:
            return file.read(4 * _MAX_CAPTION).decode(errors="replace")[:_MAX_CAPTION]
    except OSError:
        return ""


def _set_aside(out: int, name: str) -> None:
    """Move a file to where it is not tried again; failing that, it stays."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkdir(_NOT_SENT, dir_fd=out)
        aside = os.open(_NOT_SENT, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=out)
        try:
            with adding(aside, name) as (_, taken):
                pass
            os.rename(name, taken, src_dir_fd=out, dst_dir_fd=aside)
        finally:
            os.close(aside)
    _remove(out, caption_of(name))


def _remove(out: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=out)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the gateway did not answer in time"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error) or "the gateway's answer could not be understood"
