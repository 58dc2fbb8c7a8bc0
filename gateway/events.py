"""What happened, told once it is committed: typed, few, to listeners that were named when the gateway was built.

A part that has something to tell is given `Events`; who hears of what is said in one place, where the gateway is built.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MayBegin:
    """Turns that were held, by a budget or by the model's provider, may be able to begin now."""


@dataclass(frozen=True, slots=True)
class SecretsChanged:
    """A secret was set, replaced or forgotten."""


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The provider refuses a model key; `told` says whose, and what to type. Told once each time that it begins."""

    told: str


@dataclass(frozen=True, slots=True)
class KeyWorks:
    """A key that was refused is accepted again."""


@dataclass(frozen=True, slots=True)
class ProviderLimited:
    """The provider does not serve an account before `until`, seconds since the epoch."""

    until: float


@dataclass(frozen=True, slots=True)
class ProjectChanged:
    """A project is another than before: new, up, down, ready, away, in trouble, or of other settings."""

    project_id: int


@dataclass(frozen=True, slots=True)
class QuestionsChanged:
    """Something more is asked of people, or something less."""


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """A turn of a project is open."""

    project_id: int


@dataclass(frozen=True, slots=True)
class TurnOver:
    """A turn of a project has ended, or is parked."""

    project_id: int


@dataclass(frozen=True, slots=True)
class SledIgnores:
    """A project's sled was told to end a run that had reached a limit, and did not."""

    project_id: int


@dataclass(frozen=True, slots=True)
class ProjectGone:
    """A project was deleted; another one may get its number."""

    project_id: int


Event = (
    MayBegin
    | SecretsChanged
    | KeyRefused
    | KeyWorks
    | ProviderLimited
    | ProjectChanged
    | QuestionsChanged
    | TurnBegan
    | TurnOver
    | SledIgnores
    | ProjectGone
)


class Events:
    """Tells each listener of each event, at once. One that fails is logged, and does not affect the others."""

    def __init__(self, *listeners: Callable[[Event], None]) -> None:
        self._listeners = listeners

    def tell(self, event: Event) -> None:
        """Something happened, and is committed."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a listener failed on %s", event)
