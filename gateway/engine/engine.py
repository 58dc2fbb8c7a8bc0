"""What every engine can do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.engine.spec import SledSpec
from stacks.images import ImagePlan
from stacks.told import Told

#: Whose words: the sled's (and its SSH server's), or those of its runners and agents.
LogOf = Literal["sled", "agent"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image that is there: the layers that had to be built for it, and what its stacks tell of themselves."""

    built: list[str] = field(default_factory=list)
    told: Mapping[str, Told] = field(default_factory=dict)


class Engine(Protocol):
    """Starts and ends sleds. Every method may be called again and again: each makes something so."""

    #: The word of the configuration.
    kind: str
    #: What runs there cannot harm the host; a sled has an image, a user and an SSH port of its own.
    isolated: bool

    async def check(self) -> str:
        """One line about the engine's health. Raises EngineError."""

    async def has_base(self, plan: ImagePlan) -> bool:
        """Whether the layer that a planned image begins with, which takes minutes, is there. Raises EngineError."""

    async def has_image(self, tag: str) -> bool:
        """Whether an image is there. Raises EngineError."""

    async def prepare(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        """Make sure that the planned image is there, checked. `said` hears how it goes.

        Raises:
            BuildFailed: a layer was not built, or what came of it breaks the image contract.
            EngineError: the engine refuses or does not answer.
        """

    async def start(self, spec: SledSpec) -> None:
        """Start the sled; one that runs is left alone. Raises EngineError."""

    async def stop(self, spec: SledSpec) -> None:
        """End the sled and all that it started; return when that is verified. Raises EngineError."""

    async def is_running(self, spec: SledSpec) -> bool:
        """True while the sled's process lives. Raises EngineError."""

    async def people_inside(self, spec: SledSpec) -> int:
        """How many SSH sessions are open in the project. Raises EngineError."""

    async def reaches(self, spec: SledSpec, address: str, port: int) -> bool:
        """Whether a program in the project can connect there. Raises EngineError."""

    async def logs(self, spec: SledSpec, of: LogOf, lines: int) -> str:
        """The last lines that the sled, or its agents, logged. Raises EngineError."""

    async def reap(self, projects: Callable[[], Collection[str]], tags: Callable[[], Collection[str]]) -> list[str]:
        """Remove what belongs to no project and no image in use; what that was. Raises EngineError.

        Both are asked after the look at what there is: what was made since is not touched.
        """

    async def close(self) -> None:
        """Let go of the engine; sleds run on."""
