"""What comes before a gateway: the configuration as a whole, and the state directory."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from gateway.config import Settings
from gateway.config.settings import host_environment
from gateway.engine import Engine, docker
from gateway.engine.build_times import BuildTimes
from gateway.engine.container import Limits
from gateway.engine.process import ProcessEngine
from gateway.errors import ConfigError, StateError, StateLocked
from gateway.store import Store, projects
from gateway.wire import MAX_SOCKET_PATH


def check(settings: Settings) -> None:
    """What no single key shows. Raises ConfigError."""
    socket = cli_socket(settings.gateway.state_dir)
    if len(bytes(socket)) > MAX_SOCKET_PATH:
        raise ConfigError(
            f"gateway.state_dir is too long: the socket {socket} would have more than {MAX_SOCKET_PATH} bytes; "
            "choose a shorter folder"
        )
    if "whatsapp" in settings.remote_transports and not settings.gateway.public_url:
        raise ConfigError(
            "transports.whatsapp needs gateway.public_url: the https:// address at which Twilio reaches "
            f"{settings.gateway.listen}, e.g. https://bot.example.org"
        )


async def choose_engine(settings: Settings, store: Store) -> Engine:
    """The engine that runs sleds: Docker where one answers, or where projects live in containers already.

    Raises ConfigError where that leaves people elsewhere with no isolation at all.
    """
    kind = settings.engine.kind
    if kind == "auto":
        there = await asyncio.to_thread(docker.answers) or await store.read(projects.has_container)
        kind = "docker" if there else "process"
    if kind == "docker":
        limits = Limits(settings.engine.memory, settings.engine.cpus, settings.engine.pids)
        times = BuildTimes(settings.gateway.state_dir / ".gateway" / "build-times.json")
        return docker.DockerEngine(instance(settings.gateway.state_dir), limits, times)
    remote = settings.remote_transports
    if remote and not settings.engine.allow_unsandboxed:
        raise ConfigError(
            f"the process engine has no isolation, and {', '.join(remote)} lets people elsewhere use it. "
            "Start Docker (`systemctl start docker`), or set engine.allow_unsandboxed = true if you mean that"
        )
    return ProcessEngine(host_environment())


def instance(state_dir: Path) -> str:
    """What tells the containers and images of this state directory from another's on the same engine."""
    return hashlib.sha256(bytes(state_dir.resolve())).hexdigest()[:8]


def agent_line(settings: Settings, chosen: str) -> str:
    """One line about the agent that answers, by its name."""
    if chosen == "claude":
        return f"Claude answers{f' ({settings.agent.model})' if settings.agent.model else ''}."
    return (
        "The scripted agent answers: it only repeats what you write. For Claude, type "
        "`huskies secrets set all api_key` in a terminal, or set agent.api_key in the configuration."
    )


def cli_socket(state_dir: Path) -> Path:
    """Where the `huskies` command reaches the gateway of a state directory."""
    return state_dir / ".gateway" / "cli.sock"


@contextlib.contextmanager
def lock_state(state_dir: Path) -> Iterator[None]:
    """Be the only gateway on a state directory; make it, 0700, if need be. Raises StateLocked, StateError."""
    folder = state_dir / ".gateway"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        state_dir.chmod(0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StateError(
            f"the state directory {state_dir} cannot be used: {error.strerror}; set gateway.state_dir"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            raise StateLocked(
                f"another gateway (process {holder}) runs on {state_dir}; end it, or set another gateway.state_dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
