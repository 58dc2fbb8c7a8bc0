"""The transport's folder: who we are logged in as, the key that seals the crypto store, and the lock.

Everything is private to the user that runs the gateway: folders 0700, files 0600.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gateway.errors import TransportRefused


@dataclass(frozen=True, slots=True)
class Session:
    """One login.

    Attributes:
        supersedes: fingerprint of the configured access token that this login replaced, or empty.
    """

    homeserver: str
    user_id: str
    device_id: str
    access_token: str = field(repr=False)
    supersedes: str = ""


class Vault:
    """The files of one Matrix account."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._crypto = root / "crypto"

    @property
    def seeds(self) -> Path:
        """Where the seeds of the account's signing identity are kept."""
        return self._root / "signing.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; two processes on one key store destroy it.

        Raises:
            TransportRefused: another process holds it, or it cannot be used.
        """
        try:
            for folder in (self._root, self._crypto):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.chmod(0o700)
            handle = os.open(self._root / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TransportRefused(f"cannot use {self._root}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TransportRefused(f"another process uses the Matrix store {self._root}") from error
            yield
        finally:
            os.close(handle)

    def session(self) -> Session | None:
        """The login that was kept, if any. Raises TransportRefused."""
        path = self._root / "session.json"
        try:
            return Session(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise TransportRefused(f"{path} is damaged; remove it to log in again") from error

    def keep(self, session: Session) -> None:
        """Keep a login for the next start."""
        self.write(self._root / "session.json", json.dumps(asdict(session)))

    def crypto(self, session: Session) -> tuple[Path, str]:
        """Folder and pass phrase of the key store, whose file then exists and is private."""
        path = self._root / "pickle.key"
        if not path.exists():
            self.write(path, secrets.token_urlsafe(32))
        # The SDK chooses this name, and would make the file readable for everybody.
        database = self._crypto / f"{session.user_id}_{session.device_id}.db"
        os.close(os.open(database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        database.chmod(0o600)
        return self._crypto, path.read_text()

    def write(self, path: Path, text: str) -> None:
        """Replace a file as a whole, readable only for us."""
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def fingerprint(secret: str) -> str:
    """A short name of a secret that does not give it away; empty for no secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16] if secret else ""
