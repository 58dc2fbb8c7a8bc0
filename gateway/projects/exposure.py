"""What of this host a project's container, or another user, can reach and should not: measured, for `doctor`."""

from __future__ import annotations

import asyncio

from gateway.chat.finding import Finding, hint, ok
from gateway.errors import EngineError
from gateway.projects import folders
from gateway.projects.registry import Registry

#: Where clouds hand out a machine's credentials to whoever asks from it.
METADATA = (("169.254.169.254", 80), ("fd00:ec2::254", 80))


async def look(registry: Registry) -> list[Finding]:
    """Look from inside of a container, and at each source."""
    found = []
    for project in registry.all():
        try:
            is_open = await asyncio.to_thread(folders.is_open_to_others, project.path)
        except OSError:
            continue  # it is gone, which `status` says
        if is_open:
            told = (
                f"other users of this host can enter {project.path}, and a set-id program that an agent leaves there "
                f"gives them the agent's user; type: chmod o-x {project.path}"
            )
            found.append(hint(f"project {project.name}", told))
    return [*found, *await _metadata(registry)]


async def _metadata(registry: Registry) -> list[Finding]:
    up = [project for project in registry.all() if registry.journal(project.id) is not None]
    if not registry.engine.isolated or not up:
        return []
    spec = registry.spec(up[0])
    try:
        looked = await asyncio.gather(*(registry.engine.reaches(spec, *there) for there in METADATA))
    except EngineError as error:
        return [hint("metadata", f"could not be looked at from inside of {up[0].name}: {error}")]
    open_ones = [address for (address, _), reached in zip(METADATA, looked, strict=True) if reached]
    if not open_ones:
        return [ok("metadata", "no container reaches this machine's metadata service")]
    tables = {address: "ip6tables" if ":" in address else "iptables" for address in open_ones}
    close = "; ".join(f"{table} -I DOCKER-USER -d {address} -j REJECT" for address, table in tables.items())
    told = f"containers reach {' and '.join(open_ones)}, which may hand out this machine's credentials; type: {close}"
    return [hint("metadata", told)]
