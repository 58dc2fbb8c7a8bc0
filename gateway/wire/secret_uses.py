"""Which project used which secret first, for the audit: names alone, after the use, and never in its way."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.config import AGENT
from gateway.errors import StateError
from gateway.store import Connection, Store, audit
from gateway.tasks import Tasks

log = logging.getLogger(__name__)


class SecretUses:
    """See the module. `name_of`: a project's name, by its id as text; what is empty is not noted."""

    def __init__(self, store: Store, name_of: Callable[[str], str]) -> None:
        self._store = store
        self._name_of = name_of
        self._known: set[tuple[str, str]] = set()
        self._tasks = Tasks("the first use of a secret is not in the audit")

    def note(self, project: str, secret: str) -> None:
        """A project's call goes out with a secret, named as people know it. Returns at once."""
        if (project, secret) in self._known:
            return
        self._known.add((project, secret))
        self._tasks.start(self._write(project, secret))

    def changed(self) -> None:
        """Secrets were set anew: the next use of each is its first."""
        self._known.clear()

    async def close(self) -> None:
        """Forget what is not written yet."""
        await self._tasks.close()

    async def _write(self, project: str, secret: str) -> None:
        if not (name := self._name_of(project)):
            return

        def unit(connection: Connection) -> None:
            told = f"{secret}{audit.FIRST_USED}"
            if not audit.has_use(connection, name, told):
                audit.add(connection, "secret", f"{AGENT}{name}", told, project=name)

        try:
            await self._store.write(unit)
        except StateError as error:
            self._known.discard((project, secret))  # the next use is noted
            log.error("the first use of %s by %s: %s", secret, name, error)
