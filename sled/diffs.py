"""What a turn changed, for people: a summary and a patch."""

from __future__ import annotations

import msgspec

from sled.protocol import MAX_TEXT
from sled.snapshots import Snapshots

#: Bytes of a patch that are sent; fewer if JSON has to escape its characters.
MAX_PATCH = 512 * 2**10
_MAX_SUMMARY = 16 * 2**10
_CONTEXT = "--unified=3"
_STAT = "--stat=76,50,40"


class Diff(msgspec.Struct):
    """The answer to `diff`. `untracked_note`: what it does not show."""

    run: str
    summary: str
    patch: str
    truncated: bool
    untracked_note: str


async def diff(snapshots: Snapshots, run: str) -> str:
    """What turn `run` changed, or the last one, as the JSON of a `Diff`. Raises NoSnapshot, NoTree, OSError."""
    record = snapshots.find(run)
    shadow = snapshots.shadow
    summary = await shadow.patch(record.before, record.after, _STAT, most=_MAX_SUMMARY)
    patch = await shadow.patch(record.before, record.after, "-p", _CONTEXT, most=MAX_PATCH + 1)
    truncated = len(patch) > MAX_PATCH
    note = "Files that git ignores are not shown."
    if record.left_out:
        note += f" Nor are these, which are large, unreadable or separate repositories: {', '.join(record.left_out)}."
    made = Diff(record.run, _text(summary) or "nothing changed", _text(_whole_lines(patch, MAX_PATCH)), truncated, note)
    while len(answer := msgspec.json.encode(made).decode()) > MAX_TEXT // 2:
        made.patch = _text(_whole_lines(made.patch.encode(), len(made.patch.encode()) // 2))
        made.truncated = True
    return answer


def _whole_lines(text: bytes, most: int) -> bytes:
    """The lines that fit into `most` bytes."""
    return text if len(text) <= most else text[: text.rfind(b"\n", 0, most) + 1]


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
