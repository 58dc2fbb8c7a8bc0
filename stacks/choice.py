"""Which version of a stack fits all that files say about it. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from gateway.errors import UserError
from stacks import versions as syntax
from stacks.catalog import Stack
from stacks.reading import PROJECT_FILE, Said
from stacks.schema import Versions


def choose(stack: Stack, versions: Versions, said: Sequence[Said]) -> str:
    """The version to install: a release line, or one release if one is named; empty if all are too new.

    Raises UserError if no version fits all that was said.
    """
    constraint = syntax.intersection(one.allows for one in said)
    if constraint.is_empty():
        raise UserError(_conflict(stack, versions, said))
    exact = [one.exact for one in said if one.exact]
    precise = [version for version in exact if _precision(version) > _precision(stack.version)]
    if precise:
        return max(precise, key=_precision)
    packaged = [line for line in versions.lines if versions.is_packaged(line)]
    # The newest release of a line gets installed, so a line whose newest is not allowed comes last.
    for fits in (syntax.allows_newest_of, syntax.allows_some_of):
        for line in (stack.version, *reversed(packaged), *reversed(versions.lines)):
            if fits(constraint, line):
                return line
    return exact[0] if exact else syntax.lowest(constraint)


def _precision(version: str) -> int:
    """How precise a version is, by its parts; a preview or a name ("nightly") is as precise as can be."""
    return version.count(".") if re.fullmatch(r"[0-9.]+", version) else 99


def _conflict(stack: Stack, versions: Versions, said: Sequence[Said]) -> str:
    culprits = _culprits(said)
    if len(culprits) == 1:
        problem, remedy = f"{culprits[0]}, but no version of {versions.name} can be that.", "Correct it"
    else:
        problem = f"No version of {versions.name} fits: {' and '.join(str(one) for one in culprits)}."
        remedy = "Set one of them to the other"
    if culprits[0].file == PROJECT_FILE:
        return f"{problem} {remedy}."
    alone = syntax.intersection([culprits[0].allows]).is_empty()
    version = stack.version if alone else choose(stack, versions, culprits[:1]) or stack.version
    return f'{problem} {remedy}, or write `[versions]` and below it `{stack.name} = "{version}"` into {PROJECT_FILE}.'


def _culprits(said: Sequence[Said]) -> Sequence[Said]:
    """The smallest set of statements that have no version in common."""
    for count in range(1, 3):
        for group in itertools.combinations(said, count):
            if syntax.intersection(one.allows for one in group).is_empty():
                return group
    return said
