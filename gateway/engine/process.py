"""The process engine: a sled is a plain process of this host. No isolation, and it says so.

A sled outlives the gateway: it has a session of its own, and its lock file names it (pid and start time), so that the
next gateway finds it again. There is no second source of that truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil

from gateway.engine.spec import SledSpec
from gateway.errors import EngineError

#: Seconds that a sled gets to end its runs by itself.
_TERM_S = 4.0
_KILL_S = 2.0
_LOG_BYTES = 2**20


class ProcessEngine:
    """See the module and `gateway.engine.Engine`."""

    kind = "process"
    isolated = False

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    async def check(self) -> str:
        return "process: sleds are plain processes of this host, no isolation"

    async def start(self, spec: SledSpec) -> None:
        if await self.is_running(spec):
            return
        await asyncio.to_thread(self._spawn, spec)

    async def stop(self, spec: SledSpec) -> None:
        survivors = await asyncio.to_thread(self._end, spec)
        if survivors:
            raise EngineError(f"these processes of {spec.project} could not be ended: {survivors}")

    async def is_running(self, spec: SledSpec) -> bool:
        self._reap(spec)
        return find(spec.paths.home) is not None

    async def logs(self, spec: SledSpec, lines: int) -> str:
        return await asyncio.to_thread(tail, spec.paths.log, lines)

    def _spawn(self, spec: SledSpec) -> None:
        paths = spec.paths
        for folder in (paths.folder, paths.home, paths.wire):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not spec.source.is_dir():
            raise EngineError(f"the source {spec.source} is not there")
        _rotate(paths.log)
        try:
            with paths.log.open("ab") as log:
                os.fchmod(log.fileno(), 0o600)
                self._children[spec.project] = subprocess.Popen(
                    # -I: nothing from the working directory or the environment is imported.
                    [sys.executable, "-I", "-m", "sled"],
                    cwd=paths.home,
                    env=dict(spec.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    umask=0o022,  # the gateway's own is for secrets; sources are for people
                )
        except OSError as error:
            raise EngineError(f"the sled of {spec.project} did not start: {error}") from error

    def _end(self, spec: SledSpec) -> list[int]:
        if (child := self._children.get(spec.project)) is not None and find(spec.paths.home) is None:
            child.kill()  # started a moment ago: it has not even taken its lock
            child.wait()
        root = find(spec.paths.home)
        if root is None:
            self._reap(spec)
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = root.children(recursive=True)
            root.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                psutil.wait_procs([root], timeout=_TERM_S)
            family = [p for p in {*family, *_children(root)} if p.is_running()]
            for process in [*family, root]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            _, alive = psutil.wait_procs([*family, root], timeout=_KILL_S)
            self._reap(spec)
            return sorted(p.pid for p in alive if _lives(p))
        return []

    def _reap(self, spec: SledSpec) -> None:
        child = self._children.get(spec.project)
        if child is not None and child.poll() is not None:
            del self._children[spec.project]


def find(home: Path) -> psutil.Process | None:
    """The living sled of a home, by its lock file; None when there is none."""
    try:
        pid, created = (home / ".huskies" / "sled.lock").read_text().split()
        process = psutil.Process(int(pid))
        # The start time tells a sled from a later process that got its pid.
        same = abs(process.create_time() - float(created)) < 0.02
    except (OSError, ValueError, psutil.Error):
        return None
    return process if same and _lives(process) else None


def tail(path: Path, lines: int) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return list(root.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _rotate(log: Path) -> None:
    """Keep one older log once the current one is large."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > 8 * _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
