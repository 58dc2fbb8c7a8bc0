"""Users of this host that projects run as where the gateway is root: a new source gets one that nobody else has.

What the kernel counts for a user, not for a container (watchers, pipes, keys, locks), is each project's own then.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from gateway.errors import UserError

#: Whom sources belong to if each does not get a user of its own: the first account of a person, on most hosts.
FIRST_PERSON = 1000
#: Where a host's accounts are given users for containers of their own.
_SUBORDINATE = Path("/etc/subuid")


def choose_user(ids: range, taken: Collection[int], is_free: Callable[[int], bool] | None = None) -> int:
    """The next user id of the range after those that projects have. Raises UserError when none is left."""
    is_free = is_free or _is_free
    highest = max((uid for uid in taken if uid in ids), default=None)
    start = 0 if highest is None else ids.index(highest) + 1
    for step in range(len(ids)):
        uid = ids[(start + step) % len(ids)]
        if uid not in taken and is_free(uid):
            return uid
    raise UserError(
        f"The users {ids[0]}-{ids[-1]} are used up: by projects, by deleted ones that may come back, or by accounts of "
        "this host. Widen projects.user_ids in the configuration, or free one with `delete <name> --purge`."
    )


def account(name: str) -> int | None:
    """The account that gets into new sources: `name`; without one, who ran sudo, or this host's first person.

    None if there is none, and where the gateway is not root: sources are its own user's. Raises UserError for a name
    that is none.
    """
    if os.geteuid() != 0:
        return None
    if name:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            raise UserError(f"projects.host_user is {name}, and this host has no account of that name") from None
    candidates = [int(who) for who in (os.environ.get("SUDO_UID", ""), str(FIRST_PERSON)) if who.isdecimal()]
    return next((uid for uid in candidates if uid != 0 and _has_account(uid)), None)


def _is_free(uid: int) -> bool:
    """Whether no account of this host has the id, nor may use it for containers."""
    return not _has_account(uid) and not any(uid in ids for ids in _subordinates(_SUBORDINATE))


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _subordinates(file: Path) -> Iterator[range]:
    try:
        lines = file.read_text().splitlines()
    except OSError:  # a host without such ranges
        return
    for line in lines:
        _, first, count = (*line.split(":"), "", "")[:3]
        if first.isdecimal() and count.isdecimal():
            yield range(int(first), int(first) + int(count))
