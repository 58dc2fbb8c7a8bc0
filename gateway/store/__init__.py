"""What the gateway remembers. `Store` runs units; a module per aggregate has the units' building blocks."""

from gateway.store.database import Store

__all__ = ["Store"]
