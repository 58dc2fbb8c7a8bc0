"""What a project's container is made of, as it is stored: what was decided, what was confirmed, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stacks.own import Own
from stacks.plan import Plan
from stacks.told import Told
from stacks.versions import allows


@dataclass(frozen=True, slots=True)
class Recipe:
    """See the module.

    `accepted`: the versions, as `stack version`, that an operator agreed to do without. `fresh`: when everything in it
    was last fetched again; empty if an image that was built at any time will do.
    """

    plan: Plan
    own: Own = field(default_factory=Own)
    accepted: tuple[str, ...] = ()
    fresh: str = ""
    told: Mapping[str, Told] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A version that a source asks for but its image does not have. `key` is its form in `accepted`."""

    key: str
    why: str


def shortfalls(plan: Plan, told: Mapping[str, Told]) -> list[Shortfall]:
    """What a source's files ask for but its image does not have; each names the file, and what there is instead."""
    found = []
    for toolchain in plan.toolchains:
        came = told.get(toolchain.stack, Told())
        if not came.version:
            continue
        missed = [asked for asked in toolchain.asked if not allows(asked.allows, came.version)]
        if not missed and any(wanted == toolchain.version for wanted, _ in came.instead):
            missed = list(toolchain.asked)  # by a name: no number tells whether it is met
        if not missed:
            continue
        files = " and ".join(f"{asked.file} ({asked.text})" for asked in missed)
        why = "".join(f": {reason}" for _, reason in came.instead[:1])
        told_now = f"{files} is not met: the image has {toolchain.stack} {came.version}{why}"
        found.append(Shortfall(f"{toolchain.stack} {toolchain.version}", told_now))
    return found
