"""What the gateway remembers. `Store` runs units; a module per aggregate has the units' building blocks."""

from sqlalchemy import Connection

from gateway.store.database import Store

__all__ = [
    "Connection",
    "Store",
    "agent_grants",
    "audit",
    "budgets",
    "conversations",
    "dialogues",
    "messages",
    "migrate",
    "moves",
    "notes",
    "outbox",
    "projects",
    "questions",
    "reading",
    "releases",
    "schedules",
    "seal",
    "sweep",
    "timeline",
    "turns",
    "usage",
    "web_sessions",
]
