"""The first use of a secret is in the audit: once, over restarts too, until secrets change."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.store import Store, audit
from gateway.store.seal import Seal
from gateway.wire import SecretUses
from tests.support import databases

TOKEN = "the token for git.example.org"


async def told(store: Store) -> list[tuple[str, str, str]]:
    rows = await store.read(lambda c: audit.newest(c, 50))
    return [(row.actor, row.project, row.text) for row in rows]


async def used(store: Store, *uses: tuple[str, str]) -> None:
    """What one life of a gateway notes."""
    life = SecretUses(store, lambda project: {"1": "shop", "2": "api"}.get(project, ""))
    for project, secret in uses:
        life.note(project, secret)
    await asyncio.gather(*life._tasks._running)
    await life.close()


async def test_it_is_told_once(tmp_path: Path) -> None:
    store = await Store.open(databases.place(tmp_path), Seal(tmp_path))
    await used(store, ("1", TOKEN), ("1", TOKEN), ("2", TOKEN), ("3", "of a project that is gone"))
    await used(store, ("1", TOKEN))
    first = [("agent:shop", "shop", f"{TOKEN} was first used"), ("agent:api", "api", f"{TOKEN} was first used")]
    assert sorted(await told(store)) == sorted(first)
    await store.write(lambda c: audit.add(c, "secret", "cli:ana", "api_key was set"))
    await used(store, ("1", TOKEN))
    assert (await told(store))[-1] == ("agent:shop", "shop", f"{TOKEN} was first used")
    await store.close()
