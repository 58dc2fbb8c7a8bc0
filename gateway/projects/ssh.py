"""SSH into projects: keys, what people paste into editors, and the login that proves that it works.

The only module that imports asyncssh. The gateway makes both key pairs and keeps them; so a project's host key is known
before its first start, and stays the same over rebuilds, deletion and re-creation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.engine import ProjectPaths, SledSpec, Way
from gateway.engine.container import group, passwd
from gateway.engine.way import HOST, USER, quoted
from gateway.errors import EngineError
from gateway.projects.folders import all_below

if TYPE_CHECKING:
    from asyncssh import SSHKey

#: Seconds between tries to log in to a server that is starting, and that one try may take.
_RETRY_S = 0.02
_TRY_S = 5.0


def config_file(state_dir: Path) -> Path:
    """The file that people Include in their SSH configuration."""
    return state_dir / ".ssh" / "config"


def include_line(state_dir: Path) -> str:
    """What makes the aliases known to every SSH client of this user."""
    return f"Include {quoted(config_file(state_dir))}"


def write_config(state_dir: Path, ways: Sequence[Way]) -> None:
    """Rewrite that file, whole or not at all. Raises OSError."""
    file = config_file(state_dir)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    head = f"# Written by huskies. In the first line of ~/.ssh/config: {include_line(state_dir)}\n"
    text = "\n".join((head, *(way.block for way in ways)))
    if not file.is_file() or file.read_bytes() != text.encode():
        _write(file, text.encode(), 0o600)


async def furnish(spec: SledSpec) -> None:
    """Make the keys and accounts that are missing, and see to it that all are as this project needs them.

    Files that a container has mounted are never replaced while they are right: it would keep the old ones.

    Raises OSError; EngineError for a host key that is not one.
    """
    await asyncio.to_thread(_furnish, spec)


def _furnish(spec: SledSpec) -> None:
    import asyncssh

    paths = spec.paths
    for folder in (paths.folder, paths.home, paths.wire):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (paths.client_key.exists() and paths.authorized_keys.exists()):
        key = asyncssh.generate_private_key("ssh-ed25519", comment=f"huskies-{spec.project}")
        _write(paths.authorized_keys, key.export_public_key(), 0o644)
        _write(paths.client_key, key.export_private_key(), 0o600)
    if not paths.host_key.exists():
        _write(paths.host_key, asyncssh.generate_private_key("ssh-ed25519").export_private_key(), 0o600)
    public = _host_key(paths).export_public_key().decode().strip()
    known = f"huskies-{spec.project} {public}\n[{HOST}]:{spec.ssh_port} {public}\n"
    for file, text in (
        (paths.known_hosts, known),
        (paths.passwd, passwd(spec.owner)),
        (paths.group, group(spec.owner)),
    ):
        if not file.exists() or file.read_bytes() != text.encode():
            _write(file, text.encode(), 0o644)
    if os.geteuid() == 0 and paths.home.stat().st_uid != spec.owner[0]:
        # An earlier owner's, with all that is in it. No container of this project runs while that is so.
        own(spec, *all_below(paths.home))
    own(spec, paths.home, paths.wire, paths.host_key)


def own(spec: SledSpec, *places: Path) -> None:
    """Give places to the project's user; a gateway that is not root has that user's id itself. Raises OSError."""
    if os.geteuid() != 0:
        return
    for place in places:
        status = place.lstat()
        if (status.st_uid, status.st_gid) != spec.owner:
            os.chown(place, *spec.owner, follow_symlinks=False)


def forget_client_key(paths: ProjectPaths) -> None:
    """Make the line that was given out worthless; the host key stays."""
    for file in (paths.client_key, paths.authorized_keys):
        file.unlink(missing_ok=True)


def fingerprint(paths: ProjectPaths) -> str:
    """The host key's, as an SSH client shows it at the first connection. Raises OSError, EngineError."""
    return _host_key(paths).get_fingerprint()


def _host_key(paths: ProjectPaths) -> SSHKey:
    import asyncssh

    try:
        return asyncssh.read_private_key(str(paths.host_key))
    except ValueError as error:  # asyncssh's for files that it cannot read are of this kind
        raise EngineError(
            f"{paths.host_key} is not a host key ({error}). Restore it from a backup, or remove it: a new one is made."
        ) from error


async def answers(way: Way, within_s: float) -> None:
    """Log in as an editor would and run `true`; a server that is still starting is tried again.

    Raises EngineError if that did not work in time.
    """
    # A third of a second of imports, which must not hold up the event loop.
    await asyncio.to_thread(__import__, "asyncssh")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    trouble = ""
    while loop.time() < deadline:
        said = await _try(way, min(_TRY_S, deadline - loop.time()))
        if not said:
            return
        # A last try that was cut short does not hide why those before it failed.
        trouble = said if loop.time() < deadline else trouble or said
        await asyncio.sleep(_RETRY_S)
    raise EngineError(
        f"SSH on port {way.port} of {HOST} did not accept the project's key within {within_s:.0f} s: {trouble}"
    )


async def _try(way: Way, within_s: float) -> str:
    """One login; what went wrong, if anything."""
    import asyncssh

    try:
        async with asyncio.timeout(within_s):
            connection = await asyncssh.connect(
                HOST,
                way.port,
                username=USER,
                client_keys=[str(way.key)],
                known_hosts=str(way.known_hosts),
                host_key_alias=way.alias,
                config=None,
                agent_path=None,
            )
            async with connection:
                done = await connection.run("true")
    except TimeoutError:
        return "it did not answer"
    except (OSError, ValueError, asyncssh.Error) as error:  # for a file that is not a key, a ValueError
        return str(error) or type(error).__name__
    return "" if done.exit_status == 0 else f"`true` ended with {done.exit_status}: {str(done.stderr)[-200:]}"


def _write(file: Path, data: bytes, mode: int) -> None:
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(data)
    partial.rename(file)
