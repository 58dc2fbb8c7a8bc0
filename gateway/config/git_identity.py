"""Whose name commits bear: the configuration's, else the one that this host's user has set for git."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.config.sections import GitSection


def finder(section: GitSection) -> Callable[[], Awaitable[tuple[str, str]]]:
    """A function that finds name and address; empty where there are none."""

    async def find() -> tuple[str, str]:
        return (
            section.user_name or await _global("user.name"),
            section.user_email or await _global("user.email"),
        )

    return find


async def _global(key: str) -> str:
    """One key of the user's own git configuration. `--global` reads no repository, so none can interfere."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "config", "--global", "--get", key),
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return ""
    output, _ = await process.communicate()
    return output.decode(errors="replace").strip()
