"""Who is logged in to the page in the browser. Of the token that a browser keeps, only a hash is here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from gateway import clock
from gateway.store.tables import web_sessions


@dataclass(frozen=True, slots=True)
class WebSession:
    """A row. `device`: the browser and its system, in a few words."""

    id: int
    token_hash: str
    sender: str
    name: str
    device: str
    began_at: float
    seen_at: float


def everything(connection: Connection) -> list[WebSession]:
    """All of them, oldest first."""
    return [WebSession(*row) for row in connection.execute(select(web_sessions).order_by(web_sessions.c.id))]


def add(connection: Connection, token_hash: str, sender: str, name: str, device: str) -> WebSession:
    """Begin one."""
    now = clock.now()
    values = {"token_hash": token_hash, "sender": sender, "name": name, "device": device}
    begun = insert(web_sessions).values(**values, began_at=now, seen_at=now).returning(web_sessions.c.id)
    return WebSession(connection.scalars(begun).one(), token_hash, sender, name, device, now, now)


def seen(connection: Connection, session_id: int, at: float) -> None:
    """Its browser was here."""
    connection.execute(update(web_sessions).where(web_sessions.c.id == session_id).values(seen_at=at))


def end(connection: Connection, session_id: int) -> None:
    """Forget it."""
    connection.execute(delete(web_sessions).where(web_sessions.c.id == session_id))
