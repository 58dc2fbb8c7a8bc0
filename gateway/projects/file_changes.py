"""What an agent's turn changed in a project's files, as its sled tells it, in words for people."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.chat.text import code, visible
from gateway.errors import SledRefused
from gateway.projects.projects import Projects
from gateway.store.projects import Project

#: Seconds that a sled may take.
_WITHIN_S = 60.0
#: Paths of each kind that are named.
_NAMED = 20

_T = TypeVar("_T")
_Paths = Annotated[list[str], Meta(max_length=100_000)]


class Change(Struct, frozen=True):
    """The last turn's change; `patch` is a unified diff, empty if there is none."""

    summary: str = ""
    patch: str = ""
    truncated: bool = False


class _Left(Struct, frozen=True):
    path: str
    why: str = ""


class _Undone(Struct, frozen=True):
    restored: _Paths = []
    removed: _Paths = []
    left: list[_Left] = []
    cannot: str = ""


async def last(projects: Projects, project: Project) -> Change:
    """What the last turn changed. Raises SledError."""
    return _read(await projects.job(project, "diff", {}, _WITHIN_S), Change)


async def of_run(projects: Projects, project: Project, run: str) -> Change:
    """What the turn of that run changed. Raises SledError, also where it is too long ago."""
    return _read(await projects.job(project, "diff", {"run": run}, _WITHIN_S), Change)


async def undo(projects: Projects, project: Project) -> str:
    """Undo the last turn that is not undone yet; what came of it. Raises SledError."""
    undone = _read(await projects.job(project, "undo", {}, _WITHIN_S), _Undone)
    lines = [
        f"{what}: {_listed(paths)}"
        for what, paths in (("Put back", undone.restored), ("Removed", undone.removed))
        if paths
    ]
    lines = lines or ["There was nothing to put back."]
    lines += [f"Left alone: {code(left.path)} ({visible(left.why)})" for left in undone.left[:_NAMED]]
    if undone.cannot:
        lines.append(visible(undone.cannot))
    return "\n".join(lines)


def _listed(paths: list[str]) -> str:
    named = ", ".join(code(path) for path in paths[:_NAMED])
    return f"{named} and {len(paths) - _NAMED} more" if len(paths) > _NAMED else named


def _read(text: str, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise SledRefused("its sled's answer makes no sense; `rebuild` gives it a new one") from error
