"""What of this host a project's container, or another user, can reach and should not: measured, for `doctor`."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from gateway.chat.finding import Finding, hint, ok
from gateway.engine import Engine, SledSpec
from gateway.errors import EngineError
from gateway.projects import folders
from gateway.projects.registry import Registry

#: Where clouds hand out a machine's credentials to whoever asks from it.
METADATA = (("169.254.169.254", 80), ("fd00:ec2::254", 80))
#: The kernel's table of routes, one per line: interface, destination, gateway, flags and others, mask as the eighth.
ROUTES = Path("/proc/net/route")
#: Where a router tends to answer.
ROUTER_PORTS = (53, 80, 443, 22)


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The private network that this machine is in, and its router there."""

    router: ipaddress.IPv4Address
    network: ipaddress.IPv4Network


def neighbourhood(routes: str) -> Neighbourhood | None:
    """Read from the kernel's table; None where no router is, or all that it leads to is public."""
    rows = [line.split() for line in routes.splitlines()[1:]]
    routers = [(row[0], _address(row[2])) for row in rows if int(row[1], 16) == 0]
    for interface, router in routers:
        for row in rows:
            network = ipaddress.IPv4Network((int(_address(row[1])), str(_address(row[7]))), strict=False)
            if row[0] == interface and network.prefixlen and router in network and router.is_private:
                return Neighbourhood(router, network)
    return None


def _address(number: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(number, 16).to_bytes(4, "little"))


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
    up = [project for project in registry.all() if registry.journal(project.id) is not None]
    if not registry.engine.isolated or not up:
        return found
    for name, measure in (("metadata", _metadata), ("neighbours", _neighbours)):
        try:
            found += await measure(registry.engine, registry.spec(up[0]))
        except (EngineError, OSError) as error:
            found.append(hint(name, f"could not be looked at from inside of {up[0].name}: {error}"))
    return found


async def _reached(engine: Engine, spec: SledSpec, *there: tuple[str, int]) -> list[tuple[str, int]]:
    """Those that a program in a container can connect to. Raises EngineError."""
    looked = await asyncio.gather(*(engine.reaches(spec, *one) for one in there))
    return [one for one, reached in zip(there, looked, strict=True) if reached]


async def _metadata(engine: Engine, spec: SledSpec) -> list[Finding]:
    open_ones = [address for address, _ in await _reached(engine, spec, *METADATA)]
    if not open_ones:
        return [ok("metadata", "no container reaches this machine's metadata service")]
    tables = {address: "ip6tables" if ":" in address else "iptables" for address in open_ones}
    close = "; ".join(f"{table} -I DOCKER-USER -d {address} -j REJECT" for address, table in tables.items())
    told = f"containers reach {' and '.join(open_ones)}, which may hand out this machine's credentials; type: {close}"
    return [hint("metadata", told)]


async def _neighbours(engine: Engine, spec: SledSpec) -> list[Finding]:
    """The router stands for all: it is the one neighbour that is known to be there, and Docker's bridges lead to it."""
    around = neighbourhood(ROUTES.read_text(encoding="ascii"))
    if around is None:
        return []
    reached = await _reached(engine, spec, *((str(around.router), port) for port in ROUTER_PORTS))
    if not reached:
        return [ok("neighbours", f"no container was answered by {around.router}, this machine's router")]
    # The first stands below the second in the end: names are still asked for where they always were.
    close = (
        f"iptables -I DOCKER-USER -d {around.network} -j REJECT; "
        f"iptables -I DOCKER-USER -d {around.router} -p udp --dport 53 -j RETURN"
    )
    told = f"containers reach {around.router}, and so this machine's own network {around.network}; type: {close}"
    return [hint("neighbours", told)]
