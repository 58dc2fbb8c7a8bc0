"""Cloning into the workspace: see `sled.clone` for how git is called, `sled.parts` for what a clone leaves out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from sled.clone import Progress, Relayed, clone_environment, empty, explain, hide, host_of, is_clonable, knows_no_branch
from sled.parts import NotFetched, fetch_submodules, left_out
from sled.processes import Process, end_tree
from sled.supervisor import Supervisor


class CloneFailed(Exception):
    """The repository could not be cloned; the text says why, and what to do about it if that is known."""


class Cloning:
    """One clone. `hosts` go by the way through the gateway, which has a token for each; others are reached directly."""

    def __init__(
        self,
        supervisor: Supervisor,
        workspace: Path,
        environment: Mapping[str, str],
        *,
        way: Relayed,
        hosts: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self._supervisor = supervisor
        self._workspace = workspace
        self._inherited = environment
        self._way = way
        self._hosts = hosts
        self._say = say

    async def clone(self, url: str, branch: str) -> list[str]:
        """Clone a branch, or the default one; sentences about it. The workspace is empty again if this fails.

        Of a branch's name with slashes only a part may be one: then the rest was a folder. Raises CloneFailed, OSError.
        """
        if not is_clonable(url):
            raise CloneFailed("a repository's URL must begin with https:// and be plain ASCII")
        if any(self._workspace.iterdir()):
            raise CloneFailed(f"{self._workspace} is not empty; a repository can only be cloned into an empty folder")
        taken = branch
        try:
            while why := await self._try(url, taken):
                if not knows_no_branch(why) or "/" not in taken:
                    raise CloneFailed(why)
                taken = taken.rpartition("/")[0]
        except BaseException:
            # When cancelled, too: half a repository would be taken for a whole one.
            await asyncio.to_thread(empty, self._workspace)
            raise
        return [f"there is no branch {branch}; {taken} was taken"] if taken != branch else []

    async def _try(self, url: str, branch: str) -> str:
        """Why git did not clone; empty if it did."""
        hosts = [host for host in self._hosts if host == host_of(url)]
        progress = self._progress()
        options = [f"--branch={branch}"] if branch else []
        command = ["clone", "--no-recurse-submodules", "--progress", *options, "--", url, "."]
        environment = clone_environment(self._inherited, self._way, hosts)
        code, _ = await self._git(command, environment, progress, self._workspace)
        return "" if code == 0 else explain(progress.lines, host_of(url), self._way)

    async def rest(self, url: str, *, submodules: bool) -> list[str]:
        """Fetch the submodules, if that is wanted; sentences about what the clone does not have then."""
        environment = clone_environment(self._inherited, self._way, self._hosts, elsewhere=True)

        async def git(*command: str, cwd: Path) -> tuple[int, str]:
            progress = self._progress()
            code, printed = await self._git(command, environment, progress, cwd)
            return code, printed if code == 0 else explain(progress.lines, host_of(url), self._way)

        told = []
        if submodules:
            try:
                await fetch_submodules(self._workspace, git)
            except NotFetched as error:
                again = "`git submodule update --init --recursive` tries again"
                told.append(f"not every submodule was fetched ({' '.join(str(error).split())}): {again}")
        return told + await left_out(self._workspace, git, submodules=submodules)

    def _progress(self) -> Progress:
        return Progress(lambda line: self._say(hide(line, self._way)), asyncio.get_running_loop().time)

    async def _git(
        self, command: Sequence[str], environment: dict[str, str], progress: Progress, folder: Path
    ) -> tuple[int, str]:
        """Run git until it ends, one way or another: its exit code, and what it printed."""
        process = await self._supervisor.spawn(
            *("git", *command),
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None and process.stdout is not None
        printing = asyncio.ensure_future(process.stdout.read())
        try:
            while data := await process.stderr.read(2**12):
                progress.feed(data)
            printed = await printing
            return await process.wait(), printed.decode(errors="replace")
        finally:
            printing.cancel()
            progress.close()
            if process.returncode is None:
                # Cancelled: neither git nor its helpers may keep writing into the workspace.
                with contextlib.suppress(psutil.NoSuchProcess):
                    await end_tree(Process(process.pid))
