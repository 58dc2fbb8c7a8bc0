"""SSH ports: one for each project, stored, on this host's loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection

from gateway.errors import UserError


def choose_port(
    ports: range, taken: Collection[int], after: int | None, is_free: Callable[[int], bool] | None = None
) -> int:
    """The next port of the range after `after`, in turn, that no project has and no other program listens on.

    In turn: a port given up a moment ago is still in somebody's editor. Raises UserError when none is left.
    """
    is_free = is_free or listens_nowhere
    start = ports.index(after) + 1 if after is not None and after in ports else 0
    for step in range(len(ports)):
        port = ports[(start + step) % len(ports)]
        if port not in taken and is_free(port):
            return port
    raise UserError(
        f"The SSH ports {ports[0]}-{ports[-1]} are used up: by projects, by deleted ones that may come back, or by "
        "other programs. Widen projects.ssh_ports in the configuration, or free one with `delete <name> --purge`."
    )


def listens_nowhere(port: int) -> bool:
    """Whether the port is free on the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
