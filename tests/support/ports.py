"""Ports of the loopback for tests, each its process's own until that ends."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

#: What keeps other test processes from a port: names that the kernel frees when this process ends.
_claims: list[contextlib.ExitStack] = []


def take_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, no other test takes, and the kernel gives to no connection.

    A port that was only looked for by binding to 0 is the next connection's as soon as it is let go.
    """
    return take_ports(1)[0]


def take_ports(count: int) -> range:
    """So many of them in a row."""
    first_of_the_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    firsts = range(10_000, first_of_the_kernel - count)
    for first in random.sample(firsts, len(firsts)):
        ports = range(first, first + count)
        with contextlib.ExitStack() as claims:
            try:
                for port in ports:
                    claims.enter_context(_claim(port))
            except OSError:
                continue
            _claims.append(claims.pop_all())
            return ports
    raise AssertionError("every port is taken")


def _claim(port: int) -> socket.socket:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0port-of-a-test-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        raise
    return claim
