"""The state directory: one gateway at a time, its socket for the command line, and the name of what is its own."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from gateway.config import trust
from gateway.errors import StateError, StateLocked


def instance(state_dir: Path) -> str:
    """What tells the containers and images of this state directory from another's on the same engine."""
    return hashlib.sha256(bytes(state_dir.resolve())).hexdigest()[:8]


def cli_socket(state_dir: Path) -> Path:
    """Where the `huskies` command reaches the gateway of a state directory."""
    return state_dir / ".gateway" / "cli.sock"


@contextlib.contextmanager
def lock_state(state_dir: Path) -> Iterator[None]:
    """Be the only gateway on a state directory; make it, 0700, if need be. Raises StateLocked, StateError."""
    folder = state_dir / ".gateway"
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        trust.check_state(state_dir)
        state_dir.chmod(0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
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
