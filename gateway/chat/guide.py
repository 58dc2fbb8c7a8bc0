"""What people have to click and paste on a platform: the nouns of `huskies init`; each transport has a guide."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: What was answered so far, by the keys of the platform's section.
Answers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do, and what to paste once it is done.

    Attributes:
        text: one or more lines.
        key: of the section, that the answer is for; empty: there is nothing to paste.
        question: what is asked for.
        choices: the only possible answers; Enter means the first one.
        shows: a text that people may need to paste elsewhere, and the name of a file for it.
        needed: whether this step is for someone who answered so.
    """

    text: str
    key: str = ""
    question: str = ""
    secret: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()
    shows: tuple[Callable[[], str], str] | None = None
    needed: Callable[[Answers], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Operator:
    """How a person is named on a platform: how to find it, what it looks like."""

    text: str
    pattern: re.Pattern[str]
    example: str


@dataclass(frozen=True, slots=True)
class Guide:
    """The way from nothing to a bot that answers, on one platform.

    Attributes:
        name: of its section in `[transports]`.
        steps: in order.
        stand_ins: values for needed keys that were not asked for yet, so that one answer can be checked alone.
        needs_address: whether the platform posts to us.
        then: what to do once the gateway runs.
    """

    name: str
    title: str
    steps: tuple[Step, ...]
    stand_ins: Mapping[str, str]
    operator: Operator
    needs_address: Callable[[Answers], bool]
    then: Callable[[Answers, str], str]
