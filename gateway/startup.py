"""What comes before a gateway: the configuration as a whole, and the state directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import ConfigError, StateError, StateLocked
from gateway.settings import Settings
from gateway.sleds import MAX_SOCKET_PATH


def check(settings: Settings) -> None:
    """What no single key shows. Raises ConfigError."""
    remote = settings.remote_transports
    if remote and not settings.engine.allow_unsandboxed:
        raise ConfigError(
            f"the process engine has no isolation, and {', '.join(remote)} lets people elsewhere use it. "
            "Set engine.allow_unsandboxed = true if you mean that"
        )
    socket = cli_socket(settings.gateway.state_dir)
    if len(bytes(socket)) > MAX_SOCKET_PATH:
        raise ConfigError(
            f"gateway.state_dir is too long: the socket {socket} would have more than {MAX_SOCKET_PATH} bytes; "
            "choose a shorter folder"
        )


def agent_line(settings: Settings) -> str:
    """One line about the agent that answers."""
    if settings.agent.chosen == "claude":
        return f"Claude answers{f' ({settings.agent.model})' if settings.agent.model else ''}."
    return (
        "The scripted agent answers: it only repeats what you write. For Claude, set agent.api_key in the "
        "configuration or HUSKIES_AGENT__API_KEY in the environment."
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
