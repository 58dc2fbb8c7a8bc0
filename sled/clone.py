"""How `git clone` is called, and how its output becomes text for people.

A repository is somebody else's until it is cloned, and the URL was typed in a chat: git may speak https and nothing
else, start nothing, ask nobody and follow no submodule. If the gateway has a token for the host, the clone goes
through the relay; relay and token are only in git's environment, so that neither is left in the repository.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two reported lines of progress.
REPORT_EVERY_S = 0.5
#: Characters of git's own words in a failure.
MAX_TOLD = 500
#: Seconds of (almost) no bytes after which git gives up.
_STALL_S = 120
#: Characters of one line, and of a line of progress as it is reported.
_MAX_LINE = 2000
_MAX_REPORT = 200
#: Git's only variables that are kept from the environment: whom to trust.
_KEPT = ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH")


@dataclass(frozen=True, slots=True)
class Relayed:
    """The way through the gateway: the relay's base URL, and the project's token."""

    relay: str
    token: str


def is_clonable(url: str) -> bool:
    """Whether git can read the URL only as https. The gateway has checked it already; this is the second check."""
    return url.startswith("https://") and url.isascii() and url.isprintable() and " " not in url


def host_of(url: str) -> str:
    """The host of an https URL, with its port if it has one."""
    return url.removeprefix("https://").partition("/")[0]


def clone_environment(
    inherited: Mapping[str, str], way: Relayed, hosts: Sequence[str], *, elsewhere: bool = False
) -> dict[str, str]:
    """The environment of git for somebody else's repository. `hosts` are reached by the way through the gateway.

    `elsewhere`: other hosts are reached, too, as submodules need it; otherwise only where there are no such `hosts`.
    """
    # Git's other variables (a trace, another repository, an ssh command) are not meant for this.
    kept = {name: value for name, value in inherited.items() if not name.startswith("GIT_") or name in _KEPT}
    config = {
        "core.askPass": "",
        "core.fsmonitor": "false",
        "core.hooksPath": os.devnull,
        "credential.helper": "",
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": str(_STALL_S),
        "protocol.ext.allow": "never",
        "submodule.recurse": "false",
    }
    for host in hosts:
        config[f"url.{way.relay}/git/{host}/.insteadOf"] = f"https://{host}/"
    if hosts:
        config[f"http.{way.relay}/.extraHeader"] = f"Authorization: Bearer {way.token}"
    numbered = {"GIT_CONFIG_COUNT": str(len(config))}
    for number, (key, value) in enumerate(config.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {
        **kept,
        **numbered,
        # The way through the gateway is http, on this machine.
        "GIT_ALLOW_PROTOCOL": "https" if not hosts else "http:https" if elsewhere else "http",
        "GIT_ASKPASS": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # What `explain` looks for is English.
        "LC_ALL": "C",
    }


class Progress:
    """Takes git's output and reports its lines as they come: the first at once, then one per `REPORT_EVERY_S`.

    `clock` gives seconds. The last lines are kept, for a failure.
    """

    def __init__(self, report: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._rest = b""
        self._lines: deque[str] = deque(maxlen=20)
        self._next_at = 0.0
        self._unreported = ""

    @property
    def lines(self) -> list[str]:
        """The last lines, without those that a later one of the same kind replaced."""
        return list(self._lines)

    def feed(self, data: bytes) -> None:
        """More of what git says."""
        *whole, rest = re.split(rb"([\r\n])", self._rest + data)
        self._rest = rest[-_MAX_LINE:]
        for line, end in zip(whole[::2], whole[1::2], strict=True):
            self._take(line, replaced=end == b"\r")

    def close(self) -> None:
        """There is no more; report the last line, if it has not been."""
        if self._rest:
            self._take(self._rest, replaced=False)
            self._rest = b""
        if self._unreported:
            self._report(self._unreported)

    def _take(self, raw: bytes, *, replaced: bool) -> None:
        text = raw[-_MAX_LINE:].decode(errors="replace")
        line = "".join(letter if letter.isprintable() else " " for letter in text).strip()
        if not line:
            return
        if not replaced:
            self._lines.append(line)
        self._unreported = line[:_MAX_REPORT]
        if self._clock() >= self._next_at:
            self._next_at = self._clock() + REPORT_EVERY_S
            self._report(self._unreported)
            self._unreported = ""


_NO_BRANCH = "The repository has no branch or tag of that name."
#: What git says, and what people are told.
_KNOWN = (
    ("Remote branch .* not found", _NO_BRANCH),
    (
        "could not read Username|could not read Password|Authentication failed|terminal prompts disabled",
        "{host} asks for a login for this repository, or has none of that name. If it is private, set "
        '[git] tokens = {{"{host}" = "..."}} in the configuration and restart the gateway.',
    ),
    ("repository '[^']*' not found|error: 404", "{host} has no such repository; check the URL."),
    ("Could not resolve host", "{host} was not found; check the URL."),
    (
        "Failed to connect|Couldn't connect|Connection refused|Connection timed out|Network is unreachable",
        "{host} cannot be reached from the project.",
    ),
    ("certificate", "{host} has no certificate that is trusted here."),
    ("Operation too slow|early EOF|unexpected disconnect", "{host} broke off the transfer; try again."),
)


def knows_no_branch(why: str) -> bool:
    """Whether a clone failed because the branch does not exist."""
    return why.startswith(_NO_BRANCH)


def explain(lines: list[str], host: str, way: Relayed) -> str:
    """Why git failed, from its last lines: a sentence for the common cases, then git's own words."""
    said = "\n".join(hide(line, way) for line in lines if not line.startswith("Cloning into"))[-MAX_TOLD:].strip()
    for pattern, told in _KNOWN:
        if re.search(pattern, said):
            return f"{told.format(host=host)}\n{said}"
    return said or "git said nothing"


def hide(text: str, way: Relayed) -> str:
    """A line from git as a person may see it: as if there were no relay."""
    return text.replace(f"{way.relay}/git/", "https://").replace(way.token, "[token]") if way.token else text


def empty(folder: Path) -> None:
    """Remove everything in a folder but not the folder, which may be a mount. Raises OSError."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()
