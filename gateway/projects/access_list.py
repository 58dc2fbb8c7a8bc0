"""Access control lists: how a person of this host gets into a source that belongs to a user of its own."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from pathlib import Path

# As the kernel takes it (linux/posix_acl_xattr.h): a version, then entries of a kind, what it allows and to whom. They
# have to be in this order.
_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_ALL, _LOOK, _NOTHING = 7, 5, 0
_NOBODY_IN_PARTICULAR = 0xFFFFFFFF


def let_in(folder: Path, owner: int, person: int) -> None:
    """Let an account of this host read and write what a folder holds, and its owner what that account puts there.

    Raises OSError, also where the file system has no access control lists.
    """
    named = sorted({owner, person})
    os.setxattr(folder, "system.posix_acl_access", _packed(named, others=_NOTHING))
    # What is new below is as open to others as anywhere: nobody else can enter the folder.
    os.setxattr(folder, "system.posix_acl_default", _packed(named, others=_LOOK))


def _packed(users: Collection[int], *, others: int) -> bytes:
    entries = [
        (_OWNER, _ALL, _NOBODY_IN_PARTICULAR),
        *((_USER, _ALL, uid) for uid in users),
        (_GROUP, others, _NOBODY_IN_PARTICULAR),
        (_MASK, _ALL, _NOBODY_IN_PARTICULAR),
        (_OTHER, others, _NOBODY_IN_PARTICULAR),
    ]
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
