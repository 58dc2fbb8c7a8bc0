"""The gateway: one process that owns chat, queue, projects, state, the page, and every key."""

__version__ = "0.1.0"
