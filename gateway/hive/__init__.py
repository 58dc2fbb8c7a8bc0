"""Agents that act: what they may do, and how what they ask for comes in."""

from gateway.hive.calls import Calls
from gateway.hive.door import Door
from gateway.hive.powers import Powers
from gateway.hive.schedules import Maker, Schedules, is_scheduled

__all__ = [
    "Calls",
    "Door",
    "Maker",
    "Powers",
    "Schedules",
    "calls",
    "is_scheduled",
    "powers",
    "times",
]
