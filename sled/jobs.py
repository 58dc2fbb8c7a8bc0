"""Small jobs in the project that the gateway asks for: whatever is written into a source, the sled writes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from sled.supervisor import Supervisor


class JobFailed(Exception):
    """The job could not be done; the text says why."""


class Jobs:
    """Jobs of one project; `environment` is what git sees (HOME above all)."""

    def __init__(self, supervisor: Supervisor, workspace: Path, environment: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._workspace = workspace
        self._environment = dict(environment)

    async def init(self, arguments: Mapping[str, str]) -> str:
        """Make the workspace a project; safe to repeat.

        Arguments: `git` ("yes": a repository is made where there is none), `branch`, `user_name`, `user_email` (the
        identity of commits, set for the home, never in the repository), `project_toml` (seeded if there is none).

        Raises:
            JobFailed: a git command failed, or `.huskies` is a link.
        """
        if name := arguments.get("user_name"):
            await self._git("config", "--global", "user.name", name)
        if email := arguments.get("user_email"):
            await self._git("config", "--global", "user.email", email)
        if arguments.get("git") == "yes" and not (self._workspace / ".git").exists():
            await self._git("init", "--quiet", f"--initial-branch={arguments.get('branch') or 'main'}")
        self._seed(arguments.get("project_toml", ""))
        return "ready"

    def _seed(self, text: str) -> None:
        folder = self._workspace / ".huskies"
        if folder.is_symlink():
            raise JobFailed(".huskies is a link; remove it")
        folder.mkdir(exist_ok=True)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(folder / "project.toml", flags, 0o644)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            file.write(text)

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
