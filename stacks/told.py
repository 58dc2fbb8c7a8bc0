"""What an image has, in its own words: each overlay writes it down during the build, the contract's check prints it.

A line is `told STACK KIND TEXT`. The kinds: `version` (of the stack's main tool), `tool` (another tool's name and
version), `instead` (a version that could not be installed, and why), `without` (a tool that could not, and why).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Characters of a line that count. It may come from an operator's own overlay, or a project's own layer.
_MOST = 200


@dataclass(frozen=True, slots=True)
class Told:
    """One stack in an image. The pairs: a tool and its version; or a version or tool that is missing, and why."""

    version: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    instead: tuple[tuple[str, str], ...] = ()
    without: tuple[tuple[str, str], ...] = ()


def read_told(output: str) -> dict[str, Told]:
    """What the check printed, by stack; other lines are ignored."""
    told: dict[str, Told] = {}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        stack, _, rest = rest.partition(" ")
        kind, _, text = rest.partition(" ")
        if word == "told" and stack and kind and line.isprintable():
            told[stack] = _with(told.get(stack, Told()), kind, text.strip()[:_MOST])
    return told


def _with(told: Told, kind: str, text: str) -> Told:
    name, _, rest = text.partition(" ")
    pair = (name, rest.strip())
    match kind:
        case "version":
            return replace(told, version=text)
        case "tool":
            return replace(told, tools=(*told.tools, pair))
        case "instead":
            return replace(told, instead=(*told.instead, pair))
        case "without":
            return replace(told, without=(*told.without, pair))
    return told  # a kind that only newer overlays know
