"""What the gateway serves over HTTP."""

__all__ = [
    "changes",
    "chat",
    "health",
    "local",
    "metrics",
    "page",
    "parts",
    "place",
    "public_url",
    "secrets_api",
    "servers",
    "webhooks",
]
