"""What the audit keeps outside of the database: its key, and the newest row."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from pathlib import Path

from gateway.config import private_file
from gateway.errors import StateError
from gateway.store.audit import Head

log = logging.getLogger(__name__)

_BYTES = 32


class Seal:
    """The two files of a state directory."""

    def __init__(self, folder: Path) -> None:
        self._key, self._head = folder / "audit.key", folder / "audit.head"

    def key(self) -> bytes:
        """The key, made where there is none. Raises StateError."""
        with contextlib.suppress(FileNotFoundError):
            return self._read()
        try:
            made = os.open(self._key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(made, "wb") as stream:
                stream.write(secrets.token_bytes(_BYTES))
                stream.flush()
                os.fsync(made)
            return self._read()
        except OSError as error:
            raise StateError(f"{self._key} cannot be used: {error.strerror}") from error

    def _read(self) -> bytes:
        found = self._key.read_bytes()
        if len(found) != _BYTES:
            raise StateError(f"{self._key} is not a key of the audit; restore it from a backup")
        return found

    def note(self, head: Head) -> None:
        """Note the newest row; what could not be noted is noted with the next one."""
        try:
            private_file.write(self._head, json.dumps([head.id, head.mac]))
        except OSError as error:
            log.warning("%s was not written: %s", self._head, error)

    def noted(self) -> Head | None:
        """The row that was noted last. Raises StateError."""
        try:
            number, mac = json.loads(self._head.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StateError(f"{self._head} cannot be read: {error}") from error
        return Head(int(number), str(mac))
