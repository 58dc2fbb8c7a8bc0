"""How people get into a project: one command line for terminals and editors, and the same as an SSH configuration."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from gateway.engine.spec import ProjectPaths

USER = "huskies"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Way:
    """How to get into one project."""

    name: str
    port: int
    key: Path
    known_hosts: Path

    @classmethod
    def to(cls, paths: ProjectPaths, name: str, port: int) -> Way:
        """The way into a project, by its places, its name and its port; no more is needed, and none is received."""
        return cls(name, port, paths.client_key, paths.known_hosts)

    @property
    def alias(self) -> str:
        """The host's name in the Include file."""
        return f"huskies-{self.name}"

    @property
    def line(self) -> str:
        """The plain command, for any terminal and editor."""
        return f"ssh {USER}@{HOST} -p {self.port} -i {quoted(self.key)}"

    @property
    def block(self) -> str:
        """The same for an SSH configuration; the host key is pinned."""
        return (
            f"Host {self.alias}\n"
            f"    HostName {HOST}\n"
            f"    Port {self.port}\n"
            f"    User {USER}\n"
            f"    IdentityFile {_value(self.key)}\n"
            "    IdentitiesOnly yes\n"
            f"    HostKeyAlias {self.alias}\n"
            f"    UserKnownHostsFile {_value(self.known_hosts)}\n"
            "    StrictHostKeyChecking yes\n"
            "    ForwardAgent no\n"
            "    ForwardX11 no\n"
        )

    @property
    def options(self) -> list[str]:
        """Arguments that make the system's `ssh` do as the block says."""
        return [
            *("-p", str(self.port), "-o", f"IdentityFile={_value(self.key)}"),
            *("-o", "IdentitiesOnly=yes"),
            *("-o", f"HostKeyAlias={self.alias}"),
            *("-o", f"UserKnownHostsFile={_value(self.known_hosts)}"),
            *("-o", "StrictHostKeyChecking=yes"),
            *("-a", "-x"),
            f"{USER}@{HOST}",
        ]


def quoted(path: Path) -> str:
    """A path as a shell takes it; one without anything special stays as it is."""
    return shlex.quote(str(path))


def _value(path: Path) -> str:
    """A path as a value in an SSH configuration, where % begins what `ssh` replaces."""
    return '"{}"'.format(str(path).replace("%", "%%"))
