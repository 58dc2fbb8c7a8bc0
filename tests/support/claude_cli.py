"""A private home for the real Claude CLI in a test, and what it leaves running."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gateway.testing import patience


def private_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_url: str, token: str) -> None:
    """Set this process's environment as a runner's is: own folders, the given API, nothing from outside."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC", "CLAUDE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    folders = {
        "HOME": tmp_path / "home",
        "CLAUDE_CONFIG_DIR": tmp_path / "home" / ".claude",
        "TMPDIR": tmp_path / "tmp",
        "CLAUDE_CODE_TMPDIR": tmp_path / "tmp",
    }
    for name, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", base_url)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", token)
    monkeypatch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
    for name in ("DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING"):
        monkeypatch.setenv(name, "1")


def cli_processes() -> list[psutil.Process]:
    """The CLIs that this process started and that still run."""
    return [child for child in psutil.Process().children() if _is_cli(child)]


def _is_cli(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.exe()).name == "claude"
    except psutil.Error:
        return False


async def eventually(holds: Callable[[], object], timeout: float = 20) -> None:
    """Wait for what no event tells of: the state of other processes and of files. Raises TimeoutError."""
    async with asyncio.timeout(timeout * patience()):
        while not holds():
            await asyncio.sleep(0.02)


def bash(command: str) -> dict[str, object]:
    return {"name": "Bash", "input": {"command": command}}


def write(path: Path) -> dict[str, object]:
    return {"name": "Write", "input": {"file_path": str(path), "content": "x"}}
