"""Git's way through the gateway: for hosts that it has a token for, every git in the project uses the relay.

The relay's address and the project's token are in a file of the home that the home's git configuration includes, so
that neither is ever left in a repository. The gateway names the hosts in each welcome.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

#: Characters of a host in a URL; anything else could end its line in the file.
_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-:[]")


def file_of(home: Path) -> Path:
    """Where the file is."""
    return home / ".huskies" / "git.conf"


def write(home: Path, relay: str, token: str, hosts: Sequence[str]) -> Path:
    """Rewrite the file; returns its place. Raises OSError."""
    lines = [f'[http "{relay}/"]', f"\textraHeader = Authorization: Bearer {token}"]
    for host in hosts:
        if not host or not set(host.lower()) <= _HOST:
            continue
        lines.append(f'[url "{relay}/git/{host}/"]')
        # However a remote is written: a project has no SSH key for the host, and needs none.
        lines += [f"\tinsteadOf = {prefix}" for prefix in (f"https://{host}/", f"git@{host}:", f"ssh://git@{host}/")]
    file = file_of(home)
    partial = file.with_name(".git.conf.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write("\n".join(lines) + "\n")
    partial.replace(file)
    return file
