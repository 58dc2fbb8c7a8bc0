"""Processes as a tree: who descends from whom, and how a turn's descendants are ended for certain.

A runner is a subreaper, so whatever its agent starts stays its descendant, `setsid` daemons and double forks
included. Nothing is matched by name or path: an editor's shell in the same workspace is never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Collection, Iterable

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

#: A process for certain: psutil compares the pid together with the start time, so a reused pid is another process.
Process = psutil.Process
_LOOK_EVERY_S = 0.02


def become_subreaper() -> None:
    """Adopt orphaned descendants of this process instead of letting them go to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; exit at once if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def descendants(root: Process) -> set[Process]:
    """The living descendants of `root`; zombies are dead."""
    try:
        children = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    return {process for process in children if is_alive(process)}


def is_alive(process: Process) -> bool:
    """True unless the process is gone or a zombie."""
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def end_descendants(root: Process, *, spare: Collection[Process] = (), within_s: float = 0.8) -> list[int]:
    """Kill the descendants of `root` but for `spare`, look again until none is left; return the pids that stayed.

    Looking again is the point: a process may fork between the look and the kill.
    """
    spared = set(spare)
    deadline = asyncio.get_running_loop().time() + within_s
    while victims := descendants(root) - spared:
        _kill(victims)
        if asyncio.get_running_loop().time() > deadline:
            return sorted(process.pid for process in victims if is_alive(process))
        await asyncio.sleep(_LOOK_EVERY_S)
    return []


async def end_tree(root: Process, *, within_s: float = 0.8) -> list[int]:
    """Kill `root` with all its descendants; return the pids that stayed.

    The descendants go first: while `root` lives it adopts what its killed children leave behind.
    """
    survivors = await end_descendants(root, within_s=within_s)
    _kill([root])
    return survivors


def _kill(processes: Iterable[Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def marked(name: str, value: str) -> set[Process]:
    """The processes of this user whose environment has `name=value`.

    For what a killed sled left behind: its orphans descend from nobody we know, but they inherited the mark.
    """
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name) == value:
                found.add(process)
    return found


class Reaper:
    """Collects the zombies that a subreaper inherits.

    Children that asyncio started are collected by asyncio at once; so a zombie that two looks in a row have seen is
    nobody's, and ours to collect.
    """

    def __init__(self, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._seen: set[Process] = set()

    async def run(self) -> None:
        """Look for ever."""
        me = psutil.Process()
        while True:
            await asyncio.sleep(self._every_s)
            zombies = {child for child in me.children() if not is_alive(child)}
            for child in zombies & self._seen:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)  # noqa: ASYNC222 - a zombie: it does not block
            self._seen = zombies
