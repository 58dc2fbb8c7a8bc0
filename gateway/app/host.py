"""Limits of this host that all projects share, for `doctor`: what one uses up is missing for the others."""

from __future__ import annotations

from pathlib import Path

from gateway.chat.finding import Finding, hint

NAME = "host.watchers"
#: What editors and watchers of a handful of projects need; the kernel's own defaults are sometimes 128 and 8192.
_ENOUGH = {"max_user_instances": 512, "max_user_watches": 131_072}


def watchers(proc: Path = Path("/proc/sys/fs/inotify")) -> list[Finding]:
    """A hint where few file watchers are to be had: the kernel counts them for each user, not for each container."""
    values = {name: _value(proc / name) for name in _ENOUGH}
    few = {name: value for name, value in values.items() if 0 < value < _ENOUGH[name]}
    if not few:
        return []
    told = ", ".join(f"fs.inotify.{name} is {value}" for name, value in few.items())
    lines = " ".join(f"fs.inotify.{name}={_ENOUGH[name]}" for name in few)
    return [
        hint(
            NAME,
            f"{told}: tools that watch many files run out, as do others of the same user; type: sysctl -w {lines}, "
            "and put the same into /etc/sysctl.d/huskies.conf",
        )
    ]


def _value(file: Path) -> int:
    """A number of the kernel's; 0 where there is none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0
