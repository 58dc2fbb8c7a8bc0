"""A gateway whose projects live in containers: what is attacked there."""

from tests.containers.conftest import gateway

__all__ = ["gateway"]
