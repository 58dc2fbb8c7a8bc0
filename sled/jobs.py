"""Small jobs in the project that the gateway asks for: only the sled ever writes into a source."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Literal

import psutil

from sled.clone import Relayed
from sled.cloning import CloneFailed, Cloning
from sled.diffs import diff
from sled.processes import Process, end_tree
from sled.protocol import Call
from sled.shadow import NoTree
from sled.snapshots import NoSnapshot, Snapshots
from sled.supervisor import Supervisor
from sled.undo import undo

#: Bytes of a project's settings, and of a command's output that is kept.
_MAX_RECORD = 64 * 1024
_TAIL_BYTES = 4096
#: Seconds between two looks at a command's output.
_LOOK_S = 0.5


class JobFailed(Exception):
    """The job could not be done; the text says why."""


class Jobs:
    """Jobs of one project; `environment` is what git sees (HOME above all), `relayed` its way through the gateway."""

    def __init__(
        self,
        supervisor: Supervisor,
        workspace: Path,
        environment: Mapping[str, str],
        relayed: Relayed,
        snapshots: Snapshots,
    ) -> None:
        self._supervisor = supervisor
        self._workspace = workspace
        self._environment = dict(environment)
        self._relayed = relayed
        self._snapshots = snapshots

    async def do(self, call: Call, say: Callable[[str], None]) -> str:
        """Do the job that is called for; `say` is told how far it has got.

        Raises:
            JobFailed: see the job.
            OSError: the workspace or git cannot be used.
        """
        match call.job:
            case "init":
                return await self.init(call.arguments)
            case "clone":
                return await self.clone(call.arguments, say)
            case "record":
                return await asyncio.to_thread(self.record, call.arguments)
            case "run":
                return await self.run(call.arguments, say)
            case "diff" | "undo":
                return await self.look_back(call.job, call.arguments.get("run", ""))

    async def init(self, arguments: Mapping[str, str]) -> str:
        """Make the workspace a project; safe to repeat.

        Arguments: `git` ("yes": a repository is made where there is none), `branch`, `user_name`, `user_email` (the
        identity of commits, set for the home, never in the repository; with `identity` "replace" the one that is there
        goes, also where there is no other).

        Raises:
            JobFailed: a git command failed.
        """
        await self._identify(arguments)
        if arguments.get("git") == "yes" and not (self._workspace / ".git").exists():
            await self._git("init", "--quiet", f"--initial-branch={arguments.get('branch') or 'main'}")
        return "ready"

    async def _identify(self, arguments: Mapping[str, str]) -> None:
        for argument, key in (("user_name", "user.name"), ("user_email", "user.email")):
            if value := arguments.get(argument, ""):
                await self._git("config", "--global", "--replace-all", key, value)
            elif arguments.get("identity") == "replace":
                with contextlib.suppress(JobFailed):  # there is none
                    await self._git("config", "--global", "--unset-all", key)

    async def include(self, file: Path) -> None:
        """Include a file in the home's git configuration, once. Raises JobFailed, OSError."""
        await self._git("config", "--global", "--replace-all", "include.path", str(file), re.escape(str(file)))

    def record(self, arguments: Mapping[str, str]) -> str:
        """Record in `.huskies/project.toml` what was built; what people wrote there stays as it is.

        Arguments: `record` (its first line marks where it begins; everything from there on is replaced), `head` (what
        comes before it in a new file).

        Raises:
            JobFailed: `.huskies` or the file is a link or not what it should be, or is longer than settings can be.
        """
        folder = self._workspace / ".huskies"
        if folder.is_symlink():
            raise JobFailed(".huskies is a link; remove it")
        folder.mkdir(exist_ok=True)
        file, text = folder / "project.toml", arguments["record"]
        before = _read_regular(file)
        people = arguments.get("head", "")
        if before is not None:
            people = before.partition(text.partition("\n")[0])[0]
            if re.search(r"^[ \t]*\[+[ \t]*[\"']?chosen\b", people, re.MULTILINE):
                raise JobFailed(f"{file.name} has its own table [chosen], where huskies records what it built")
            people = f"{people.rstrip()}\n\n" if people.strip() else ""
        if people + text != before:
            _replace(file, people + text)
        return "recorded"

    async def run(self, arguments: Mapping[str, str], say: Callable[[str], None]) -> str:
        """Run a shell command in the workspace, to its end.

        Arguments: `command`; `within_s`, the seconds that it may take. `say` hears its lines. What it leaves in the
        background keeps running until the container ends.

        Raises:
            JobFailed: it ended with a code other than 0, or not in time; the text has its last lines.
        """
        # A file, not a pipe: what the command leaves in the background may hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            process = await self._supervisor.spawn(
                *("/bin/sh", "-c", arguments["command"]),
                cwd=self._workspace,
                env=self._environment,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
            ending = asyncio.ensure_future(process.wait())
            try:
                async with asyncio.timeout(float(arguments.get("within_s", "600"))):
                    while not (await asyncio.wait([ending], timeout=_LOOK_S))[0]:
                        say(_tail(output, 1))
            except TimeoutError:
                raise JobFailed(f"it took too long and was stopped: {_tail(output, 5)}") from None
            finally:
                if not ending.done():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        await end_tree(Process(process.pid))
                    await ending
            if process.returncode != 0:
                raise JobFailed(f"it ended with {process.returncode}: {_tail(output, 5) or 'it said nothing'}")
        return "ran"

    async def look_back(self, job: Literal["diff", "undo"], run: str) -> str:
        """What turn `run` changed, or the last one (`sled.diffs`), or its changes undone (`sled.undo`), as JSON.

        Raises:
            JobFailed: there is no snapshot of it, or a run is under way, during which nothing is undone.
        """
        if job == "undo" and self._supervisor.busy:
            raise JobFailed("a run is under way; wait until it ends, or stop it first")
        await self._snapshots.settled()
        try:
            return await (diff if job == "diff" else undo)(self._snapshots, run)
        except (NoSnapshot, NoTree) as error:
            raise JobFailed(str(error)) from error

    async def clone(self, arguments: Mapping[str, str], say: Callable[[str], None]) -> str:
        """Clone a repository into the workspace, which must be empty, and is empty again if this fails.

        Arguments: `url` (https only), `branch`, `submodules` ("yes": fetched, too), `hosts` (those that the gateway has
        a token for, with commas between). What it returns: sentences about the clone, a line each.

        Raises:
            JobFailed: git failed; the text has its last lines, and what to do about it if that is known.
        """
        hosts = [host for host in arguments.get("hosts", "").split(",") if host]
        cloning = Cloning(self._supervisor, self._workspace, self._environment, way=self._relayed, hosts=hosts, say=say)
        url = arguments.get("url", "")
        try:
            told = await cloning.clone(url, arguments.get("branch", ""))
        except CloneFailed as error:
            raise JobFailed(str(error)) from error
        return "\n".join(told + await cloning.rest(url, submodules=arguments.get("submodules") == "yes"))

    async def _git(self, *arguments: str) -> None:
        process = await self._supervisor.spawn(
            *("git", *arguments),
            cwd=self._workspace,
            env=self._environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, output = await process.communicate()
        if process.returncode != 0:
            raise JobFailed(f"git {arguments[0]}: {output.decode(errors='replace').strip()[-500:]}")


def _tail(file: IO[bytes], lines: int) -> str:
    """The last lines of a file that another process writes."""
    size = os.fstat(file.fileno()).st_size
    data = os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return "\n".join(line[:500] for line in data.decode(errors="replace").splitlines()[-lines:])


def _read_regular(file: Path) -> str | None:
    """The text of a file; None if there is none. Raises JobFailed."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JobFailed(f"{file.name} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise JobFailed(f"{file.name} is not a file")
        data = opened.read(_MAX_RECORD + 1)
    if len(data) > _MAX_RECORD:
        raise JobFailed(f"{file.name} has more than {_MAX_RECORD // 1024} KiB")
    return data.decode(errors="surrogateescape")


def _replace(file: Path, text: str) -> None:
    """Replace the text of a file, completely or not at all."""
    partial = file.with_name(f".{file.name}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(text.encode(errors="surrogateescape"))
    partial.replace(file)
