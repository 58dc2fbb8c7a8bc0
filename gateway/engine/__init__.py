"""Engines run sleds. What a sled is like is decided in `spec`, purely; an engine only carries it out."""

from __future__ import annotations

from typing import Protocol

from gateway.engine.spec import SledSpec


class Engine(Protocol):
    """Starts and ends sleds. Every method may be called again and again: each makes something so."""

    #: The word of the configuration.
    kind: str
    #: What runs there cannot harm the host.
    isolated: bool

    async def check(self) -> str:
        """One line about the engine's health. Raises EngineDown."""

    async def start(self, spec: SledSpec) -> None:
        """Have the sled run; one that runs is left alone. Raises EngineError."""

    async def stop(self, spec: SledSpec) -> None:
        """End the sled and all that it started; return when that is verified. Raises EngineError."""

    async def is_running(self, spec: SledSpec) -> bool:
        """True while the sled's process lives."""

    async def logs(self, spec: SledSpec, lines: int) -> str:
        """The last lines that the sled and its agents logged."""


__all__ = ["Engine", "SledSpec"]
