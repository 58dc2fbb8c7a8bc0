"""Skills that an operator wrote for agents: `<state_dir>/.skills/<name>/SKILL.md`, which containers see read-only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gateway.chat.text import shorten

#: Characters that are read of one, to find what it says of itself.
_HEAD = 8000
_MAX_DESCRIPTION = 200


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill, by its folder's name. `description`: what it says of itself, in short; empty if that is not one line."""

    name: str
    description: str


def folder(state_dir: Path) -> Path:
    """Where they are."""
    return state_dir / ".skills"


def found(state_dir: Path) -> list[Skill]:
    """All of them, by name."""
    return [Skill(file.parent.name, _description(file)) for file in sorted(folder(state_dir).glob("*/SKILL.md"))]


def _description(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            head = re.match(r"---\s*\n(.*?)\n---", opened.read(_HEAD), re.DOTALL)
    except OSError:
        return "it cannot be read"
    line = re.search(r"^description:[ \t]*(\S.*)$", head[1], re.MULTILINE) if head else None
    text = line[1].strip().strip("\"'") if line else ""
    return "" if re.fullmatch(r"[|>][+-]?", text) else shorten(text, _MAX_DESCRIPTION)
