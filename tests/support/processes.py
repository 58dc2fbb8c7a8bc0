"""Real processes for tests: all of them are gone when the test is, also after a failure."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TypedDict, TypeVar, Unpack

import psutil

from gateway.testing import patience

#: Whatever a test starts inherits this; what has cleared its environment is known by `Zoo.adopt`.
#: Not HUSKIES_: that is what runners do not inherit.
TEST_MARK = "TEST_OF_HUSKIES"
T = TypeVar("T")
_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """For `preexec_fn`: PR_SET_PDEATHSIG."""
    _libc.prctl(1, signal.SIGKILL)


def command_line(process: psutil.Process) -> str:
    """How a process was called; nothing once it is gone, as one that was listed may be at any moment."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def told_by(process: psutil.Process) -> str:
    """What a process shows to whoever looks: its command line and its environment."""
    try:
        return f"{process.cmdline()} {process.environ()}"
    except psutil.NoSuchProcess:
        return ""


def alive(pid: int) -> bool:
    """Whether a process lives; zombies do not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], T | None], within_s: float = 10.0) -> T:
    """Poll until `condition` gives something true, and return that."""
    began, factor = time.monotonic(), 1.0
    while True:
        if found := condition():
            return found
        # A machine may become busy while a test waits.
        if time.monotonic() > began + within_s * factor and time.monotonic() > began + within_s * (
            factor := max(factor, patience())
        ):
            raise AssertionError("it did not happen in time")
        await asyncio.sleep(0.01)


class Start(TypedDict, total=False):
    """How a process starts, as `Popen` has it."""

    cwd: Path
    stdin: int | IO[bytes]
    stdout: int | IO[bytes]
    stderr: int | IO[bytes]
    start_new_session: bool


class Zoo:
    """Starts processes and ends them."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self._adopted: list[psutil.Process] = []
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What processes of this test inherit."""
        return {"PATH": os.environ["PATH"], TEST_MARK: self.mark}

    def start(
        self, *command: str, env: Mapping[str, str] = {}, dies: bool = True, **how: Unpack[Start]
    ) -> subprocess.Popen[bytes]:
        """Start a process."""
        child = subprocess.Popen(
            command,
            env={**self.environment, **env},
            preexec_fn=die_with_parent if dies else None,
            **how,
        )
        self._children.append(child)
        return child

    def shell(self, script: str, **how: Unpack[Start]) -> subprocess.Popen[bytes]:
        """Start a shell."""
        return self.start("sh", "-c", script, **how)

    def adopt(self, pid: int) -> psutil.Process:
        """See to the end of a process that hides from the mark."""
        self._adopted.append(psutil.Process(pid))
        return self._adopted[-1]

    def marked(self) -> list[psutil.Process]:
        """What lives of this test."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(TEST_MARK) == self.mark and alive(process.pid):
                    found.append(process)
        return found

    def close(self) -> None:
        """End everything."""
        while left := [*self.marked(), *(p for p in self._adopted if p.is_running() and alive(p.pid))]:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)
        for child in self._children:
            child.wait(5)


@contextlib.contextmanager
def zoo() -> Iterator[Zoo]:
    """A zoo for one test."""
    made = Zoo()
    try:
        yield made
    finally:
        made.close()
