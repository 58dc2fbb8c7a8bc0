"""The `huskies` command as people and scripts run it: processes with input, output and an exit code."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.gateway_process import CALM, GatewayProcess, to_toml
from tests.support.processes import alive, die_with_parent


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr with which a command that cannot work ends; it fails where there is more."""
        assert self.code == 1, self
        assert self.out == "", self
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("huskies: "), self.err
        return lines[0].removeprefix("huskies: ")


class Huskies(GatewayProcess):
    """A state directory with its configuration, and the commands that are run on it. All of them end with the test."""

    def __init__(self, folder: Path, config: dict[str, dict[str, Any]] | None = None) -> None:
        fast: dict[str, dict[str, Any]] = {"dispatcher": {"coalesce_window_ms": 50}, "agent": {"kind": "scripted"}}
        super().__init__(folder, {**fast, **(config or {})})
        self.folder = folder
        self.config = folder / "config.toml"
        self._started: list[subprocess.Popen[bytes]] = []

    def __exit__(self, *reason: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        super().__exit__(*reason)

    def popen(self, *arguments: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[bytes]:
        """Start `huskies ARGUMENTS` in the folder, which holds its config.toml."""
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments],
            env={
                **clean_environment(),
                "HOME": str(self.folder),
                "HUSKIES_CONFIG": "config.toml",
                **CALM,
                **environment,
            },
            cwd=self.folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self._started.append(process)
        return process

    async def __call__(self, *arguments: str, stdin: bytes | None = None, **environment: str) -> Done:
        """Run to the end."""
        source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        return await finish(self.popen(*arguments, stdin=source, **environment), stdin)

    def rewrite(self, sections: dict[str, Any]) -> None:
        """Replace the configuration."""
        self.config.write_text(to_toml(sections))


async def finish(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Done:
    """Wait until a process has ended by itself."""
    out, err = await asyncio.to_thread(process.communicate, stdin, 60)
    return Done(process.returncode, out.decode(), err.decode())


def clean_environment() -> dict[str, str]:
    """This process's environment without what would configure a gateway."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("HUSKIES_", "ANTHROPIC", "CLAUDE"))}


def family(root: psutil.Process) -> list[psutil.Process]:
    """A process and all below it that live."""
    return [process for process in (root, *root.children(recursive=True)) if alive(process.pid)]
