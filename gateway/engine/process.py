"""The process engine: a sled is a plain process of this host. No isolation, and it says so.

A sled outlives the gateway: it has a session of its own, and it holds its home's lock, so that the next gateway finds
it again by asking the kernel who does. There is no second source of that truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil

from gateway.engine.engine import LogOf, Prepared
from gateway.engine.log_file import LOG_BYTES, tail
from gateway.engine.spec import SledSpec, sled_environment
from gateway.errors import EngineError
from sled.processes import MARK, Process, descendants, end_marked, end_tree, gone
from stacks.images import ImagePlan

#: Seconds that a sled gets to end its runs by itself.
_TERM_S = 4.0
_KILL_S = 2.0
#: The kernel's `struct flock`: type, whence, start, length, pid (and padding).
_FLOCK = struct.Struct("hhqqi4x")


class ProcessEngine:
    """See the module and `gateway.engine.Engine`."""

    kind = "process"
    isolated = False

    def __init__(self, host_environment: Mapping[str, str]) -> None:
        #: The part of this host's environment that a sled gets.
        self._host_environment = host_environment
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._starting = asyncio.Lock()

    async def check(self) -> str:
        return "process: sleds are plain processes of this host, no isolation"

    async def has_base(self, plan: ImagePlan) -> bool:
        return True

    async def has_image(self, tag: str) -> bool:
        return False

    async def prepare(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        """There is no image: agents use what this host has."""
        return Prepared()

    async def reap(self, projects: Callable[[], Collection[str]], tags: Callable[[], Collection[str]]) -> list[str]:
        return []

    async def close(self) -> None:
        """There is nothing to release."""

    async def start(self, spec: SledSpec) -> None:
        async with self._starting:
            if not await self.is_running(spec):
                await asyncio.to_thread(self._spawn, spec)

    async def stop(self, spec: SledSpec) -> None:
        if survivors := await self._end(spec):
            raise EngineError(f"these processes of {spec.project} could not be ended: {survivors}")

    async def is_running(self, spec: SledSpec) -> bool:
        return bool(self._sleds(spec))

    async def people_inside(self, spec: SledSpec) -> int:
        return 0  # there is no SSH

    async def reaches(self, spec: SledSpec, address: str, port: int) -> bool:
        return True  # as this host does

    async def logs(self, spec: SledSpec, of: LogOf, lines: int) -> str:
        file = spec.paths.agent_log if of == "agent" else spec.paths.sled_log
        return await asyncio.to_thread(tail, file, lines)

    def _spawn(self, spec: SledSpec) -> None:
        paths = spec.paths
        for folder in (paths.folder, paths.home, paths.wire):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not spec.source.is_dir():
            raise EngineError(f"the source {spec.source} does not exist")
        if spec.skills is not None:
            paths.skills.mkdir(exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                (paths.skills / "skills").symlink_to(spec.skills)
        for path in (paths.sled_log, paths.agent_log):
            _rotate(path)
        try:
            with paths.sled_log.open("ab") as sled_log, paths.agent_log.open("ab") as agent_log:
                for log in (sled_log, agent_log):
                    os.fchmod(log.fileno(), 0o600)
                self._children[spec.project] = subprocess.Popen(
                    # -I: nothing from the working directory or the environment is imported.
                    [sys.executable, "-I", "-m", "sled"],
                    cwd=paths.home,
                    env=environment(spec, self._host_environment),
                    stdin=subprocess.DEVNULL,
                    stdout=agent_log,
                    stderr=sled_log,
                    start_new_session=True,
                    umask=0o022,  # the gateway's own is for secrets; sources are for people
                )
        except OSError as error:
            raise EngineError(f"the sled of {spec.project} did not start: {error}") from error

    async def _end(self, spec: SledSpec) -> list[int]:
        """Let the sled end its runs and itself, or else end it; then whatever a sled of this home ever left behind."""
        survivors = []
        for sled in self._sleds(spec):
            family = descendants(sled)
            with contextlib.suppress(psutil.NoSuchProcess):
                sled.terminate()
            await gone(sled, _TERM_S)
            for process in (sled, *family):
                survivors += await end_tree(process, within_s=_KILL_S)
        with contextlib.suppress(FileNotFoundError):
            if journal := (spec.paths.home / ".huskies" / "journal" / "id").read_text():
                survivors += await end_marked(MARK, journal, within_s=_KILL_S)
        self._reap(spec)
        return sorted(set(survivors))

    def _sleds(self, spec: SledSpec) -> set[Process]:
        """The sled, and a child of ours that was started a moment ago and has not taken its lock yet."""
        self._reap(spec)
        child = self._children.get(spec.project)
        found = set() if child is None else {Process(child.pid)}
        return found if (holder := find(spec.paths.home)) is None else found | {holder}

    def _reap(self, spec: SledSpec) -> None:
        child = self._children.get(spec.project)
        if child is not None and child.poll() is not None:
            del self._children[spec.project]


def environment(spec: SledSpec, host_environment: Mapping[str, str]) -> dict[str, str]:
    """What a sled that is a process of this host gets. Nothing else of the gateway's environment reaches it."""
    paths = spec.paths
    own = sled_environment(
        spec, home=str(paths.home), wire=str(paths.socket), workspace=str(spec.source), skills=str(paths.skills)
    )
    return {**host_environment, **own}


def find(home: Path) -> Process | None:
    """The living sled of a home: whoever holds its lock; None when nobody does."""
    lock = home / ".huskies" / "sled.lock"
    try:
        pid = _holder(lock)
        if pid <= 0:
            return None
        process = Process(pid)
        # Asked again: it held the lock when its start time was read, so this is no later process with its pid.
        return process if _holder(lock) == pid else None
    except (OSError, psutil.NoSuchProcess):
        return None


def _holder(lock: Path) -> int:
    """Who holds a POSIX lock on the file; 0 when nobody does. Raises OSError."""
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def _rotate(log: Path) -> None:
    """Keep one older log once the current one is large."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > 8 * LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
