"""Ports of the loopback for tests, each its process's own until that ends."""

from __future__ import annotations

import random
import socket
from pathlib import Path

#: What keeps other test processes from a port: a name that the kernel frees when this process ends.
_claims: list[socket.socket] = []


def take_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, no other test takes, and the kernel gives to no connection.

    A port that was only looked for by binding to 0 is the next connection's as soon as it is let go.
    """
    first_of_the_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10_000, first_of_the_kernel), first_of_the_kernel - 10_000):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0port-of-a-test-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise AssertionError("every port is taken")
