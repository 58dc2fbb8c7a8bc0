"""What the gateway serves over HTTP."""

__all__ = [
    "health",
    "local",
    "metrics",
    "parts",
    "public_url",
    "secrets_api",
    "servers",
    "webhooks",
]
