"""What all projects share: a folder that each can read, and the lead can write. The gateway writes nothing into it."""

from __future__ import annotations

import os

from gateway.engine import SledSpec
from gateway.projects import ssh
from gateway.projects.folders import all_below


def furnish(spec: SledSpec) -> None:
    """Have the folder there, and owned by the lead where the gateway is root. Raises OSError."""
    folder = spec.paths.shared
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)  # whatever the gateway's umask is: others than its owner read it
    if spec.leads and os.geteuid() == 0 and folder.stat().st_uid != spec.owner[0]:
        ssh.own(spec, *all_below(folder), folder)  # the folder last: what is cut off is done again
