"""A forge: git's own server program behind https on the loopback, with a certificate that only the test trusts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.testing import patience
from gateway.wire.git_url import GitUrl
from tests.support.tls import make_certificates

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class GitServer:
    """The forge, as an async context manager; it keeps everything in `folder`.

    With `token`, any other credential is answered 401: the token itself as the password of x-access-token, or, where
    it has a colon, user:password.
    """

    def __init__(self, folder: Path, token: str = "") -> None:
        self.token = token
        self.folder = folder
        self.host = ""
        self.ca_file = folder / "ca.pem"
        self.requests: list[Recorded] = []
        #: Set by a test that wants to answer itself.
        self.instead: Handler | None = None
        #: Requests whose client went away before the response was complete.
        self.abandoned = 0
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> GitServer:
        self.ca_file, tls = make_certificates(self.folder)
        (self.folder / "repositories").mkdir()
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.host = f"localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    async def repository(self, name: str, files: Mapping[str, str | bytes]) -> str:
        """Make a repository with one commit on `main`; its URL. `git` changes it further."""
        work = self.folder / "work" / name
        work.mkdir(parents=True)
        await self.git(work, "init", "--quiet", "--initial-branch=main")
        for path, content in files.items():
            file = work / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        await self.git(work, "add", "--all")
        await self.git(work, "commit", "--quiet", "--message=first", "--allow-empty")
        return await self.publish(name)

    async def publish(self, name: str) -> str:
        """Serve the work tree of that name; the URL."""
        bare = self.folder / "repositories" / f"{name}.git"
        await asyncio.to_thread(shutil.rmtree, bare, ignore_errors=True)
        await self.git(self.folder, "clone", "--quiet", "--bare", str(self.folder / "work" / name), str(bare))
        return self.url(name)

    def url(self, name: str) -> str:
        """Where a repository of this name is, or would be."""
        return f"https://{self.host}/{name}.git"

    async def git(self, folder: Path, *arguments: str) -> str:
        """Run git as the forge's own user; what it printed."""
        process = await asyncio.create_subprocess_exec(
            *("git", *arguments),
            cwd=folder,
            env=_environment(self.folder),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, arguments
        return output.decode().strip()

    async def until(self, holds: Callable[[], bool], timeout: float = 30) -> None:
        """Wait until `holds`, looked at after each thing that happens here. Raises TimeoutError."""
        async with asyncio.timeout(timeout * patience()), self._changed:
            await self._changed.wait_for(holds)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Recorded(request.method, request.path_qs, headers))
        await self._notify()
        try:
            if self.instead is not None:
                return await self.instead(request)
            if self.token and headers.get("authorization") != self._expected():
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="forge"'})
            return await self._git_backend(request)
        except (asyncio.CancelledError, ConnectionError):
            self.abandoned += 1
            await self._notify()
            raise

    def _expected(self) -> str:
        pair = self.token if ":" in self.token else f"x-access-token:{self.token}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    async def _git_backend(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        environment = {
            **_environment(self.folder),
            "GIT_PROJECT_ROOT": str(self.folder / "repositories"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        async with _child("git", "http-backend", env=environment) as process:
            assert process.stdin and process.stdout
            # A request is far smaller than what fits into a pipe and the backend's memory.
            process.stdin.write(body)
            process.stdin.write_eof()
            head = (await process.stdout.readuntil(b"\r\n\r\n")).decode().splitlines()
            fields = dict(line.split(": ", 1) for line in head if line)
            response = web.StreamResponse(status=int(fields.pop("Status", "200").split()[0]), headers=fields)
            await response.prepare(request)
            while chunk := await process.stdout.read(2**16):
                await response.write(chunk)
            return response


def _environment(home: Path) -> dict[str, str]:
    who = {"NAME": "Forge", "EMAIL": "forge@example.org"}
    identity = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", **identity}


@contextlib.asynccontextmanager
async def _child(*command: str, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()  # to the end of its output: the pipe is closed with it


async def not_asked(_project: str, _repository: GitUrl) -> str:
    """What a gateway's proxy says of a push where nobody can be asked."""
    return "nobody can be asked here"
