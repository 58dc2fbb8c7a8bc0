"""A unified diff, side by side. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

#: Lines that are shown; a browser that lays out more is slow.
MOST = 3000
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)")

Kind = Literal["same", "changed", "removed", "added", "hunk"]


@dataclass(frozen=True, slots=True)
class Line:
    """Two lines beside each other. `was_at`, `is_at`: their numbers, 0 for none. Of a hunk `was` says where it is."""

    kind: Kind
    was_at: int = 0
    was: str = ""
    is_at: int = 0
    now: str = ""


@dataclass(slots=True)
class Side:
    """What changed in a file. `told`: what is not lines: it is new, gone, renamed, or no text."""

    name: str
    told: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    added: int = 0
    removed: int = 0


def by_file(patch: str) -> tuple[list[Side], bool]:
    """What a patch of git changes, file by file, and whether that is all of it."""
    files: list[Side] = []
    was_at = is_at = shown = 0
    was: list[str] = []
    now: list[str] = []

    def flush() -> None:
        nonlocal was_at, is_at, shown
        for line in _beside(was, now, was_at, is_at):
            files[-1].lines.append(line)
            shown += 1
        was_at, is_at = was_at + len(was), is_at + len(now)
        was.clear()
        now.clear()

    in_hunk = False
    for text in patch.split("\n"):
        if text.startswith("diff --git "):
            if files:
                flush()
            if shown >= MOST:
                return files, False
            files.append(Side(_name(text)))
            in_hunk = False
        elif not files:
            continue
        elif (hunk := _HUNK.match(text)) is not None:
            flush()
            was_at, is_at, in_hunk = int(hunk[1]), int(hunk[2]), True
            files[-1].lines.append(Line("hunk", was=hunk[3].strip()))
        elif not in_hunk:
            _take_head(files[-1], text)
        elif text.startswith("-"):
            was.append(text[1:])
            files[-1].removed += 1
        elif text.startswith("+"):
            now.append(text[1:])
            files[-1].added += 1
        elif text.startswith(" "):
            flush()
            files[-1].lines.append(Line("same", was_at, text[1:], is_at, text[1:]))
            was_at, is_at, shown = was_at + 1, is_at + 1, shown + 1
    if files:
        flush()
    return files, True


def _beside(was: list[str], now: list[str], was_at: int, is_at: int) -> Iterator[Line]:
    for number, (old, new) in enumerate(zip_longest(was, now)):
        if old is None:
            yield Line("added", is_at=is_at + number, now=new)
        elif new is None:
            yield Line("removed", was_at=was_at + number, was=old)
        else:
            yield Line("changed", was_at + number, old, is_at + number, new)


def _name(head: str) -> str:
    """The file of `diff --git a/… b/…`; a line that renames it follows."""
    names = head.removeprefix("diff --git ")
    half = len(names) // 2
    return names[half + 1 :].removeprefix("b/") if names[:half][2:] == names[half + 1 :][2:] else names


def _take_head(side: Side, text: str) -> None:
    if text.startswith(
        ("new file", "deleted file", "rename from", "rename to", "Binary files", "old mode", "new mode")
    ):
        side.told.append(text)
    if text.startswith("rename to "):
        side.name = text.removeprefix("rename to ")
