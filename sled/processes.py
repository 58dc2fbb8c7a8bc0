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
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import psutil

#: Environment variable that runners and all they start inherit, so that a new sled finds what a killed one left behind.
MARK = "HUSKIES_SLED"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

#: A process, unmistakably: psutil compares the pid together with the start time, so a reused pid is another process,
#: and it signals only after that comparison. The rest of the risk: a pid is reused within the microseconds in between.
Process = psutil.Process
_LOOK_EVERY_S = 0.005
#: Looks in a row that must find nothing before they are believed, on a machine where processes come and go.
_CALM_LOOKS = 3


def become_subreaper() -> None:
    """Adopt orphaned descendants of this process instead of letting them go to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent_pid: int) -> None:
    """Make the kernel kill this process when its parent dies; exit at once if that has already happened."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def ancestry(pid: int) -> Iterator[int]:
    """A process, its parent, and so on. Read from the kernel alone, as somebody waits for it."""
    while pid > 0:
        yield pid
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return
        # A name may hold anything, spaces and brackets too; behind the last one are the state, and the parent.
        pid = int(stat[stat.rindex(b")") + 1 :].split()[1])


def descendants(root: Process) -> set[Process]:
    """The living descendants of `root`; zombies are dead."""
    try:
        children = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    return {process for process in children if is_alive(process)}


def is_alive(process: Process) -> bool:
    """True unless the process is gone or a zombie; one whose first thread has ended only looks like a zombie."""
    try:
        if not process.is_running():
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE) or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False


async def end_descendants(
    root: Process, *, spare: Collection[Process] = (), apart: Collection[Process] = (), within_s: float = 0.8
) -> list[int]:
    """Kill the descendants of `root`, and look again until none is left; return the pids that survived.

    `spare` is left alone, but what it starts is not; `apart` is left alone with all its descendants. Looking again is
    the point: a process may fork between the look and the kill.
    """
    hunt = _Hunt(root, spare, apart)
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        if hunt.look():
            return []
        if asyncio.get_running_loop().time() > deadline:
            return hunt.survivors()
        await asyncio.sleep(_LOOK_EVERY_S)


class _Hunt:
    """The looks at one tree.

    Processes are read newest first and killed on sight: a chain of processes, each of which forks its successor and
    exits, is faster than a look at the whole table followed by kills. For the same reason a look proves nothing if it
    met a process, dead or alive, that was not yet known to be dead: its child may be younger than the look.
    """

    def __init__(self, root: Process, spare: Collection[Process], apart: Collection[Process]) -> None:
        self._root = root
        self._spare = {process.pid: process for process in spare}
        self._apart = {process.pid for process in apart}
        self._family = {process.pid: process for process in (root, *spare)}
        self._dead: set[int] = set()
        self._news: set[int] = set()
        self._calm = 0

    def look(self) -> bool:
        """Kill whatever is there; True once nothing is."""
        if not is_alive(self._root):
            return True
        self._news = set()
        vanished = False
        later: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        for pid in sorted(psutil.pids(), reverse=True):
            if (found := _parent_of(pid)) is None:
                vanished = True
            elif (parent := found[0]) in self._family:
                self._meet(pid, parent, found[1])
            else:
                later[parent].append((pid, found[1]))
        # A child is mostly younger than its parent, and was read before anything was known of that.
        known = list(self._family)
        while known:
            parent = known.pop()
            for pid, lives in later.pop(parent, ()):
                self._meet(pid, parent, lives)
                if pid in self._family:
                    known.append(pid)
        self._calm = 0 if self._news else self._calm + 1
        return not self._news and (not vanished or self._calm >= _CALM_LOOKS)

    def survivors(self) -> list[int]:
        """The processes that the last look met, if any were left."""
        return sorted(self._news)

    def _meet(self, pid: int, parent: int, lives: bool) -> None:
        """Kill a process that, a moment ago, was a child of the family.

        Its pid cannot be another's by now: it would have to end, be collected, and all other pids be used up first.
        The parent was met longer ago, so it is compared properly.
        """
        if pid in self._apart or (not lives and pid in self._dead):
            return
        try:
            if pid in self._spare and self._spare[pid].is_running():
                return
            if lives and self._family[parent].is_running():
                os.kill(pid, signal.SIGKILL)
            elif not lives:
                self._dead.add(pid)
            self._news.add(pid)
            self._family[pid] = Process(pid)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess, KeyError):
            self._news.add(pid)  # gone by now; or somebody else's (sudo), and reported as a survivor


def _parent_of(pid: int) -> tuple[int, bool] | None:
    """The parent of a process, and whether the process lives; None if it is gone."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        stat = os.read(descriptor, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)
    # The name, in brackets, may hold anything; proc_pid_stat(5) numbers what follows from 3.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return int(fields[1]), fields[0] not in {b"Z", b"X"} or int(fields[17]) > 1


async def end_tree(root: Process, *, within_s: float = 0.8) -> list[int]:
    """Kill `root` with all its descendants; return the pids that survived.

    The descendants go first: while `root` lives it adopts what its killed children leave behind. Before that, it is
    suspended, so that it starts nothing more.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    with contextlib.suppress(psutil.NoSuchProcess):
        root.suspend()
    survivors = await end_descendants(root, within_s=within_s)
    _kill([root])
    if not await gone(root, max(0.1, deadline - asyncio.get_running_loop().time())):
        survivors.append(root.pid)
    return survivors


async def gone(process: Process, within_s: float) -> bool:
    """Wait for the end of a process; False if it is still alive."""
    deadline = asyncio.get_running_loop().time() + within_s
    while is_alive(process):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY_S)
    return True


def _kill(processes: Iterable[Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()


def marked(name: str, value: str) -> set[Process]:
    """The living processes of this user whose environment has `name=value`.

    This finds what a killed sled left behind: its orphans descend from nobody we know, but they inherited the mark.
    """
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name) == value and is_alive(process):
                found.add(process)
    return found


async def end_marked(name: str, value: str, *, within_s: float = 2.0) -> list[int]:
    """Kill what has `name=value` in its environment, with all its descendants; return the pids that survived."""
    deadline = asyncio.get_running_loop().time() + within_s
    while found := marked(name, value):
        stayed = [pid for process in found for pid in await end_tree(process)]
        if asyncio.get_running_loop().time() > deadline:
            return sorted(stayed)
    return []


class Reaper:
    """Collects the zombies that a subreaper inherits.

    asyncio collects its own children at once; so a zombie that two looks in a row have seen is nobody's, and ours to
    collect.
    """

    def __init__(self, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._seen: set[Process] = set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._every_s)
            zombies = _zombies() if _has_zombie() else set()
            for child in zombies & self._seen:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)  # noqa: ASYNC222 - a zombie: it does not block
            self._seen = zombies


def _has_zombie() -> bool:
    """Ask the kernel first: looking through all processes is expensive, and mostly finds nothing."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _zombies() -> set[Process]:
    return {child for child in psutil.Process().children() if not is_alive(child)}
