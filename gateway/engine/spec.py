"""What a project's sled is like, on any engine: folders, environment. Pure functions, compared as data in tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """The places of a project below the state directory."""

    folder: Path

    @classmethod
    def of(cls, state_dir: Path, name: str) -> ProjectPaths:
        """The places of the project `name`."""
        return cls(state_dir / name)

    @property
    def home(self) -> Path:
        """The home of agents and shells: sessions, caches, editor servers."""
        return self.folder / "home"

    @property
    def wire(self) -> Path:
        """The folder that the sled sees of the gateway."""
        return self.folder / "wire"

    @property
    def socket(self) -> Path:
        """The gateway's end of the wire."""
        return self.wire / "gateway.sock"

    @property
    def log(self) -> Path:
        """What the sled and its runners print."""
        return self.folder / "sled.log"


@dataclass(frozen=True, slots=True)
class SledSpec:
    """All that an engine needs to run a sled."""

    project: str
    paths: ProjectPaths
    source: Path
    environment: Mapping[str, str]


def sled_spec(
    *,
    project: str,
    paths: ProjectPaths,
    source: Path,
    token: str,
    oauth: bool,
    host_environment: Mapping[str, str],
) -> SledSpec:
    """The sled of a project. Nothing of the gateway's environment reaches it but what is named here."""
    return SledSpec(
        project=project,
        paths=paths,
        source=source,
        environment={
            **host_environment,
            "HOME": str(paths.home),
            "HUSKIES_PROJECT": project,
            "HUSKIES_WIRE": str(paths.socket),
            "HUSKIES_TOKEN": token,
            "HUSKIES_WORKSPACE": str(source),
            "HUSKIES_MODEL_AUTH": "oauth" if oauth else "api_key",
        },
    )
