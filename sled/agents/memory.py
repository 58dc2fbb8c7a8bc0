"""What a project tells its agents in files: CLAUDE.md and AGENTS.md, small and in this order."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sled.inside import folder, regular

#: Bytes of both files together that are passed on.
MAX_MEMORY = 64 * 2**10
CLAUDE = "CLAUDE.md"
AGENTS = "AGENTS.md"
#: Where the CLI looks for the project's CLAUDE.md.
_CLAUDES = ((CLAUDE,), (".claude", CLAUDE))
_IMPORT = re.compile(r"(?:^|\s)@(?:\.{1,2}/)?AGENTS\.md\b")


def project_memory(workspace: Path, *, trusted: bool) -> str:
    """What an agent is told from the project's files besides what it reads itself.

    If the project is trusted, the CLI reads CLAUDE.md with everything that it imports, or else AGENTS.md; then only an
    AGENTS.md that CLAUDE.md does not import is told. Links are not followed.
    """
    claude = _read(workspace, CLAUDE, MAX_MEMORY)
    room = MAX_MEMORY if trusted else max(0, MAX_MEMORY - len(claude.encode()))
    agents = _read(workspace, AGENTS, room)
    if trusted:
        return "" if _reads_itself(workspace) else _told(AGENTS, agents)
    if agents and agents in claude:
        agents = ""
    return "\n\n".join(filter(None, (_told(CLAUDE, claude), _told(AGENTS, agents))))


def _reads_itself(workspace: Path) -> bool:
    """Whether the CLI reads AGENTS.md itself: there is no CLAUDE.md, or it imports AGENTS.md, or is the same file."""
    texts = [_read_followed(workspace.joinpath(*parts)) for parts in _CLAUDES]
    there = [text for text in texts if text is not None]
    if not there or any(_IMPORT.search(text) for text in there):
        return True
    try:
        return (workspace / CLAUDE).samefile(workspace / AGENTS)
    except OSError:
        return False


def _told(name: str, text: str) -> str:
    return f"The project's {name} says:\n\n{text}" if text else ""


def _read(workspace: Path, name: str, most: int) -> str:
    """The text of a regular file in the workspace, cut at `most` bytes; empty if there is none."""
    try:
        with folder(workspace) as root, regular(name, root) as file:
            raw = file.read(most + 1)
    except OSError:
        return ""
    # It is passed as one argument, which must not grow: bytes that are not UTF-8 become longer.
    text = raw[:most].decode(errors="replace").replace("\0", "").encode()[:most].decode(errors="ignore").strip()
    return f"{text}\n[{name} continues; read the file for the rest.]" if len(raw) > most else text


def _read_followed(path: Path) -> str | None:
    """What the CLI reads there, links and all; None if nothing. Only looked at, never passed on."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return os.read(file.fileno(), MAX_MEMORY).decode(errors="replace")
