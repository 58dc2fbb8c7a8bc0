"""A project's container, decided purely: the Docker Engine's own JSON, so that a test compares all of it as data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from gateway.engine.spec import SledSpec, sled_environment
from sled.protocol import VERSION

#: Where things are inside.
HOME = "/home/huskies"
WORKSPACE = "/workspace"
_WIRE = "/run/huskies"
_SHARED = "/shared"
_KEYS = "/etc/huskies"
_SSH_PORT = "2222/tcp"
#: The folder that has the operator's skills in it: an agent takes all of it for a plugin.
_SKILLS = "/opt/huskies-skills"
_CHECK = "/opt/huskies/bin/check"
#: Where a relay finds the gateway's sockets.
RELAY_FOLDER = "/run/huskies"

#: On everything of ours in an engine: which gateway it belongs to, and which project.
LABEL_INSTANCE = "huskies.instance"
LABEL_PROJECT = "huskies.project"
#: Which making of the project: one that was deleted and made again has another token.
LABEL_SLED = "huskies.sled"
#: Seconds that a sled gets to end its runs by itself.
STOP_S = 5


@dataclass(frozen=True, slots=True)
class Resources:
    """What one container may use. `memory` in bytes; there is no swap beyond it."""

    memory: int = 4 * 2**30
    cpus: float = 2.0
    pids: int = 1024

    def of(self, spec: SledSpec) -> Self:
        """The same, with what one project has of its own."""
        return replace(
            self, memory=spec.memory or self.memory, cpus=spec.cpus or self.cpus, pids=spec.pids or self.pids
        )

    def within(self, cpus: int) -> Self:
        """The same on an engine that has this many CPUs: it refuses to give more. 0: not known."""
        return replace(self, cpus=min(self.cpus, cpus)) if cpus > 0 else self


def container_name(instance: str, project: str) -> str:
    """The container's name; gateways that share an engine have different instances."""
    return f"huskies-{instance}-{project}"


def image_prefix(instance: str) -> str:
    """What the names of a gateway's images begin with."""
    return f"huskies-{instance}"


def network_name(instance: str) -> str:
    """The bridge that the containers of one gateway share, without seeing each other."""
    return f"huskies-{instance}"


def network(instance: str) -> dict[str, Any]:
    """That bridge. One for all: an engine's address pools run out after about thirty."""
    return {
        "name": network_name(instance),
        "driver": "bridge",
        "options": {"com.docker.network.bridge.enable_icc": "false"},
        "labels": {LABEL_INSTANCE: instance},
        "check_duplicate": True,
    }


def container(spec: SledSpec, instance: str, limits: Resources) -> dict[str, Any]:
    """The project's container. Raises ValueError for an owner that is root."""
    mounts = [
        _mount(spec.source, WORKSPACE, writable=True),
        _mount(spec.paths.home, HOME, writable=True),
        _mount(spec.paths.wire, _WIRE),
        _mount(spec.paths.shared, _SHARED, writable=spec.leads),
        _mount(spec.paths.host_key, f"{_KEYS}/ssh_host_ed25519_key"),
        _mount(spec.paths.authorized_keys, f"{_KEYS}/authorized_keys"),
        *_accounts(spec),
        *([_mount(spec.skills, f"{_SKILLS}/skills")] if spec.skills else []),
    ]
    wire = f"{_WIRE}/{spec.paths.socket.name}"
    environment = sled_environment(spec, home=HOME, wire=wire, workspace=WORKSPACE, skills=_SKILLS)
    return {
        **_sealed(spec, limits, mounts),
        "Hostname": spec.project,
        "Env": [f"{name}={value}" for name, value in sorted({**dict(spec.environment), **environment}.items())],
        "Labels": labels(spec, instance),
        "ExposedPorts": {_SSH_PORT: {}},
        "HostConfig": {
            **_host(spec, limits, mounts),
            "NetworkMode": network_name(instance),
            "PortBindings": {_SSH_PORT: [{"HostIp": "127.0.0.1", "HostPort": str(spec.ssh_port)}]},
            "RestartPolicy": {"Name": "unless-stopped"},
        },
    }


def labels(spec: SledSpec, instance: str) -> dict[str, str]:
    """By which a container is known; one whose labels differ is not this project's."""
    sled = hashlib.sha256(spec.token.encode()).hexdigest()[:16]
    return {LABEL_INSTANCE: instance, LABEL_PROJECT: spec.project, LABEL_SLED: sled}


def check_container(spec: SledSpec, image: str, instance: str, limits: Resources) -> dict[str, Any]:
    """The image contract's check: as sealed as the project's container, without its files, keys and network."""
    mounts = _accounts(spec)
    sealed = _sealed(spec, limits, mounts)
    return {
        **sealed,
        "Image": image,
        "Entrypoint": ["/usr/bin/tini", "--", _CHECK, str(VERSION)],
        "Env": [f"HOME={HOME}"],
        "Labels": {LABEL_INSTANCE: instance},
        "HostConfig": {
            **sealed["HostConfig"],
            "NetworkMode": "none",
            "Tmpfs": {**sealed["HostConfig"]["Tmpfs"], HOME: _tmpfs(spec, "256m"), WORKSPACE: _tmpfs(spec, "256m")},
        },
    }


def relay_container(
    image: str, instance: str, owner: tuple[int, int], folder: Path, program: list[str], *, writable: bool = False
) -> dict[str, Any]:
    """What builds reach a proxy through, on the network that they share with it: sealed, with a folder of sockets.

    `program`: a text in Perl, and its arguments. `writable`: it may write into that folder.
    """
    return {
        "Image": image,
        "User": f"{owner[0]}:{owner[1]}",
        "Entrypoint": ["perl", "-e", *program],
        "Labels": {LABEL_INSTANCE: instance},
        "HostConfig": {
            "Mounts": [_mount(folder, RELAY_FOLDER, writable=writable)],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "Memory": 256 * 2**20,
            "MemorySwap": 256 * 2**20,
            "PidsLimit": 512,
            "IpcMode": "private",
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        },
    }


def _sealed(spec: SledSpec, limits: Resources, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    if 0 in spec.owner:
        raise ValueError("a container never runs as root")
    return {
        "Image": spec.image,
        "User": f"{spec.owner[0]}:{spec.owner[1]}",
        "WorkingDir": WORKSPACE,
        "OpenStdin": False,
        "AttachStdin": False,
        "Tty": False,
        "StopTimeout": STOP_S,
        "HostConfig": _host(spec, limits, mounts),
    }


def _host(spec: SledSpec, limits: Resources, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Mounts": mounts,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        # Nothing but the source, the home and what is forgotten can be written.
        "ReadonlyRootfs": True,
        # Builds and tests run programs from /tmp. What is there counts as memory.
        "Tmpfs": {
            "/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={limits.memory // 2}",
            "/var/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={limits.memory // 2}",
            "/run": _tmpfs(spec, "16m", "noexec"),
        },
        "Memory": limits.memory,
        "MemorySwap": limits.memory,
        "NanoCpus": int(limits.cpus * 1e9),
        # Where the processors do not suffice, the gateway comes first: others have 1024.
        "CpuShares": 256,
        "PidsLimit": limits.pids,
        "IpcMode": "private",
        # Browsers and databases that are tested share memory; an engine gives 64 MiB, whatever there is. It counts.
        "ShmSize": limits.memory // 4,
        # No image of a crashed program in somebody's source.
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "2"}},
    }


def _tmpfs(spec: SledSpec, size: str, execute: str = "exec") -> str:
    return f"rw,{execute},nosuid,nodev,mode=0755,uid={spec.owner[0]},gid={spec.owner[1]},size={size}"


def _accounts(spec: SledSpec) -> list[dict[str, Any]]:
    return [_mount(spec.paths.passwd, "/etc/passwd"), _mount(spec.paths.group, "/etc/group")]


def _mount(source: Path, target: str, *, writable: bool = False) -> dict[str, Any]:
    """A bind mount; unlike a `Binds` entry it takes any path, and makes no folder where there is none."""
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": not writable}


def passwd(owner: tuple[int, int]) -> str:
    """The accounts that exist inside: the project's user, and those that programs expect to find.

    Not those that have the user's own id: the first of an id is the one that programs find, and sshd its shell.
    """
    uid, gid = owner
    others = {
        0: "root:*:0:0:root:/root:/bin/bash\n",
        65534: "nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    }
    ours = f"huskies:*:{uid}:{gid}:huskies:{HOME}:/opt/huskies/bin/shell\n"
    return "".join(line for other, line in others.items() if other != uid) + ours


def group(owner: tuple[int, int]) -> str:
    """The groups that exist inside; see `passwd`."""
    others = {0: "root", 5: "tty", 65534: "nogroup"}
    ours = f"huskies:*:{owner[1]}:\n"
    return "".join(f"{name}:*:{other}:\n" for other, name in others.items() if other != owner[1]) + ours
