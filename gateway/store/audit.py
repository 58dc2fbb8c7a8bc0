"""The audit: who did what, at whose word, appended in the transaction of its effect, chained so that a change shows.

Each row holds an HMAC over itself and the one before. The key is a file beside the database, and not in it; so is the
newest row's HMAC, so that cutting off the end shows, too. Nothing here is swept.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select

from gateway import clock
from gateway.store.prepared import Prepared
from gateway.store.tables import audit

#: command: somebody typed one. done: what came of it. question, answer: what an agent wanted, and what it was told.
#: secret: one was set, removed or first used, by its name.
Kind = Literal["command", "done", "question", "answer", "secret"]
#: How the text of a row ends that tells of a secret's first use.
FIRST_USED = " was first used"
#: Characters of a row's text.
_MOST = 4000
#: Under which name a connection that writes knows the book.
BOOK = "audit"


@dataclass(frozen=True, slots=True)
class Entry:
    """A row. `word`: at whose word an agent acted; `detail` says the rest, by the kind."""

    id: int
    at: float
    actor: str
    word: str
    project: str
    kind: str
    text: str
    detail: Mapping[str, Any]
    mac: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row, as it is noted outside of the database."""

    id: int
    mac: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a chain: how many rows hold, and what is wrong, in a sentence; empty if nothing is."""

    rows: int
    wrong: str


class Book:
    """Appends to the chain. It belongs to the store's writer."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        #: The newest row of the transaction under way; None if it has none.
        self.head: Head | None = None

    def add(self, connection: Connection, values: dict[str, Any]) -> None:
        """Append a row. Raises what the driver raises."""
        last = _LAST.first(connection, {})
        row = {**values, "id": 1 if last is None else last.id + 1}
        row["mac"] = _mac(self._key, row, "" if last is None else last.mac)
        _ADD.run(connection, row)
        self.head = Head(row["id"], row["mac"])


def add(
    connection: Connection,
    kind: Kind,
    actor: str,
    text: str,
    *,
    word: str = "",
    project: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append a row, within the unit whose effect it tells of."""
    book: Book = connection.info[BOOK]
    values = {
        "at": clock.now(),
        "actor": actor,
        "word": word,
        "project": project,
        "kind": kind,
        "text": _kept(text),
        "detail": json.dumps(detail or {}, ensure_ascii=False, sort_keys=True),
    }
    book.add(connection, values)


def has_use(connection: Connection, project: str, text: str) -> bool:
    """Whether a project's first use of a secret is told already, since any secret was set or removed."""
    of_secrets = audit.c.kind == "secret"
    changes = select(func.max(audit.c.id)).where(of_secrets, audit.c.text.notlike(f"%{FIRST_USED}"))
    since = connection.scalar(changes) or 0
    same = (of_secrets, audit.c.project == project, audit.c.text == text, audit.c.id > since)
    return connection.scalar(select(audit.c.id).where(*same).limit(1)) is not None


def newest(connection: Connection, limit: int, *, project: str = "", since: float = 0.0) -> list[Entry]:
    """The newest rows, oldest first; of one project only, if named."""
    wanted = select(audit).where(audit.c.at >= since).order_by(audit.c.id.desc()).limit(limit)
    if project:
        wanted = wanted.where(audit.c.project == project)
    return [_entry(row) for row in reversed(connection.execute(wanted).all())]


def everything(connection: Connection, since: float = 0.0) -> Iterator[Entry]:
    """All rows from a time on, oldest first."""
    after = 0
    while rows := connection.execute(
        select(audit).where(audit.c.id > after, audit.c.at >= since).order_by(audit.c.id).limit(1000)
    ).all():
        yield from (_entry(row) for row in rows)
        after = rows[-1].id


def verify(entries: Iterable[Entry], key: bytes, head: Head | None) -> Verdict:
    """Check all rows from the first one on, and that the row noted outside is among them."""
    before, count, met = "", 0, head is None
    for entry in entries:
        row = {name: getattr(entry, name) for name in ("id", "at", "actor", "word", "project", "kind", "text")}
        row["detail"] = json.dumps(entry.detail, ensure_ascii=False, sort_keys=True)
        if entry.id != count + 1:
            return Verdict(count, f"row {count + 1} is missing")
        if not hmac.compare_digest(_mac(key, row, before), entry.mac):
            return Verdict(count, f"row {entry.id} is not as it was written, or the one before it is another")
        before, count = entry.mac, entry.id
        met = met or (head is not None and (entry.id, entry.mac) == (head.id, head.mac))
    if not met and head is not None:
        return Verdict(count, f"row {head.id}, which was the newest once, is missing")
    return Verdict(count, "")


def _mac(key: bytes, row: Mapping[str, Any], before: str) -> str:
    names = ("id", "at", "actor", "word", "project", "kind", "text", "detail")
    said = json.dumps([before, *(row[name] for name in names)], ensure_ascii=False)
    return hmac.new(key, said.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _kept(text: str) -> str:
    """As it is stored and comes back: without what no database of text holds."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return clean if len(clean) <= _MOST else f"{clean[:_MOST]} (… {len(clean) - _MOST:,} more characters)"


def _entry(row: Any) -> Entry:
    return Entry(row.id, row.at, row.actor, row.word, row.project, row.kind, row.text, json.loads(row.detail), row.mac)


_ADD = Prepared(insert(audit), "id", "at", "actor", "word", "project", "kind", "text", "detail", "mac")
_LAST = Prepared(select(audit.c.id, audit.c.mac).order_by(audit.c.id.desc()).limit(1))
