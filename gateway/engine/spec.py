"""What a project's sled is like, on any engine: identity, folders, image. Plain data; an engine only carries it out."""

from __future__ import annotations

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
    def shared(self) -> Path:
        """What all projects can read, and the lead write."""
        return self.folder.parent / ".shared"

    @property
    def socket(self) -> Path:
        """The gateway's end of the wire."""
        return self.wire / "gateway.sock"

    @property
    def sled_log(self) -> Path:
        """What the sled prints, where it is a process of this host."""
        return self.folder / "sled.log"

    @property
    def agent_log(self) -> Path:
        """What its runners and agents print, where they are processes of this host."""
        return self.folder / "agent.log"

    @property
    def build_log(self) -> Path:
        """What the latest build of the project's image printed."""
        return self.folder / "build.log"

    @property
    def client_key(self) -> Path:
        """The private key that opens the project's SSH; its public half has `.pub`."""
        return self.folder / "id_ed25519"

    @property
    def authorized_keys(self) -> Path:
        """The public half of the client key: all that the SSH server accepts."""
        return self.folder / "id_ed25519.pub"

    @property
    def host_key(self) -> Path:
        """The SSH server's private key."""
        return self.folder / "ssh_host_ed25519_key"

    @property
    def known_hosts(self) -> Path:
        """The host key's public half, as SSH clients read it."""
        return self.folder / "known_hosts"

    @property
    def passwd(self) -> Path:
        """The container's /etc/passwd."""
        return self.folder / "passwd"

    @property
    def skills(self) -> Path:
        """What leads to the operator's skills, where the sled is a process of this host."""
        return self.folder / "huskies-skills"

    @property
    def group(self) -> Path:
        """The container's /etc/group."""
        return self.folder / "group"


@dataclass(frozen=True, slots=True)
class SledSpec:
    """All that an engine needs to run a sled. `token` opens the project's wire and nothing else.

    `image`, `owner` (uid and gid), `ssh_port` and `environment` (what an operator confirmed for every session) are for
    engines that isolate. `skills`: the folder of those that an operator wrote, if there is one.
    """

    project: str
    paths: ProjectPaths
    source: Path
    token: str
    oauth: bool
    image: str = ""
    owner: tuple[int, int] = (0, 0)
    ssh_port: int = 0
    environment: tuple[tuple[str, str], ...] = ()
    #: Bytes, processors and processes; 0: as for every project.
    memory: int = 0
    cpus: float = 0.0
    pids: int = 0
    #: Whether it may write to what all projects share.
    leads: bool = False
    skills: Path | None = None


def sled_environment(spec: SledSpec, *, home: str, wire: str, workspace: str, skills: str) -> dict[str, str]:
    """What a sled reads (see `sled.__main__`); the four places are as the sled sees them."""
    return {
        "HOME": home,
        "HUSKIES_PROJECT": spec.project,
        "HUSKIES_WIRE": wire,
        "HUSKIES_TOKEN": spec.token,
        "HUSKIES_WORKSPACE": workspace,
        "HUSKIES_MODEL_AUTH": "oauth" if spec.oauth else "api_key",
        **({"HUSKIES_SKILLS": skills} if spec.skills else {}),
    }
