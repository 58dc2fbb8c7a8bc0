"""Agents that act: what they may do, and how what they ask for comes in."""

from gateway.hive.calls import Calls
from gateway.hive.door import Door
from gateway.hive.powers import Powers

__all__ = [
    "Calls",
    "Door",
    "Powers",
    "calls",
    "powers",
]
