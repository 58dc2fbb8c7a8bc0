"""The audit, for whoever looks at it beside a gateway: read only, and while that runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.errors import StateError, UserError
from gateway.store.audit import Verdict, everything, verify
from gateway.store.backend import Backend
from gateway.store.database import backend_of
from gateway.store.seal import Seal


@dataclass(frozen=True, slots=True)
class Audited:
    """See the module."""

    backend: Backend
    seal: Seal

    def entries(self, since: str) -> Iterator[dict[str, Any]]:
        """Its rows from a date on, oldest first. Raises StateError, UserError."""
        try:
            start = datetime.fromisoformat(since).timestamp() if since else 0.0
        except ValueError:
            raise UserError(f"--since takes a date, e.g. 2026-11-30 or 2026-11-30T08:00, not {since}") from None
        try:
            with self.backend.reader() as connection:
                self.backend.begin_reading(connection)
                for entry in everything(connection, start):
                    shown = asdict(entry)
                    shown["at"] = datetime.fromtimestamp(entry.at).astimezone().isoformat()
                    yield shown
        except self.backend.errors as error:
            raise StateError(f"the audit cannot be read: {error}") from error

    def verdict(self) -> Verdict:
        """Whether every row is as it was written. Raises StateError."""
        # First what is noted outside: a gateway may append while we read.
        head, key = self.seal.noted(), self.seal.key()
        try:
            with self.backend.reader() as connection:
                self.backend.begin_reading(connection)
                return verify(everything(connection), key, head)
        except self.backend.errors as error:
            raise StateError(f"the audit cannot be read: {error}") from error


def audited(where: Path | str, folder: Path) -> Audited:
    """The audit of a gateway. Raises StateError."""
    if isinstance(where, Path) and not where.exists():
        raise StateError(f"there is no state in {where}")
    return Audited(backend_of(where), Seal(folder))
