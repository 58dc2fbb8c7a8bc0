"""Whether containers of an engine see this host's folders and sockets, as the users that they are here.

An engine in a virtual machine mostly cannot reach a socket of the host, a rootless one shifts users, and one of
another machine mounts that one's folders. So before the first build a sealed container connects to a socket of ours,
and writes a file as its user.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.engine.container import RELAY_FOLDER, relay_container
from gateway.errors import EngineError

log = logging.getLogger(__name__)

#: Perl, as every Debian has it before anything is installed.
_PROGRAM = r"""
use IO::Socket::UNIX;
my $there = IO::Socket::UNIX->new(Peer => "$ARGV[0]/socket") or die "it cannot connect to a socket: $!\n";
print $there "hello";
close $there;
open my $file, ">", "$ARGV[0]/written" or die "it cannot write a file: $!\n";
close $file;
"""
#: What a container ends with where its image has no Perl: then nothing is proven.
_NO_PERL = (126, 127)
#: Seconds for what was said to arrive.
_HEARD_S = 2.0
_INSTEAD = "Use an engine that runs on this host itself, or set engine.kind to process"

#: Runs a container to its end: its exit code, and what it printed.
Run = Callable[[dict[str, Any]], Awaitable[tuple[int, str]]]


async def prove(image: str, instance: str, owner: tuple[int, int], folder: Path, run: Run) -> None:
    """Raises EngineError for an engine that cannot run projects, which says why."""
    heard = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(64) == b"hello":
            heard.set()
        writer.close()

    with _place(folder, owner) as place:
        server = await asyncio.start_unix_server(hear, place / "socket")
        try:
            _give(place / "socket", owner)
            config = relay_container(image, instance, owner, place, [_PROGRAM, RELAY_FOLDER], writable=True)
            config["HostConfig"]["NetworkMode"] = "none"
            try:
                code, said = await run(config)
            except EngineError as error:
                if "perl" in str(error):
                    code, said = _NO_PERL[0], str(error)
                else:
                    raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARD_S if code == 0 else 0):
                    await heard.wait()
        finally:
            server.close()
        if code in _NO_PERL:
            log.info("whether this engine can run projects is not proven: %s has no Perl", image)
            return
        written = _owner_of(place / "written")
        if code != 0 or not heard.is_set() or written is None:
            why = said.strip().splitlines()[-1] if said.strip() else "what it wrote is not here"
            raise EngineError(
                f"containers of this Docker engine do not share this host's folders and sockets ({why[:200]}), like "
                f"those of an engine in a virtual machine, or on another machine. {_INSTEAD}"
            )
        if written != owner[0]:
            raise EngineError(
                f"what a container of this Docker engine writes as user {owner[0]} belongs to user {written} on this "
                f"host. {_INSTEAD}"
            )


@contextlib.contextmanager
def _place(folder: Path, owner: tuple[int, int]) -> Iterator[Path]:
    """A folder for one look."""
    place = folder / f"probe-{secrets.token_hex(2)}"
    try:
        place.mkdir(mode=0o700)
        _give(place, owner)
        yield place
    except OSError as error:
        raise EngineError(f"the engine could not be proven in {place}: {error.strerror}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _give(path: Path, owner: tuple[int, int]) -> None:
    if os.geteuid() == 0:
        os.chown(path, *owner)


def _owner_of(file: Path) -> int | None:
    try:
        return file.stat().st_uid
    except OSError:
        return None
