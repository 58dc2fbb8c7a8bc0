"""Agents that act: what they may do, and how what they ask for comes in."""

from gateway.hive.calls import Calls
from gateway.hive.door import Door
from gateway.hive.leads import Leads, is_event
from gateway.hive.notes import Notes, Sender, is_note
from gateway.hive.powers import Powers
from gateway.hive.schedules import Maker, Schedules, is_scheduled

__all__ = [
    "Calls",
    "Door",
    "Leads",
    "Maker",
    "Notes",
    "Powers",
    "Schedules",
    "Sender",
    "calls",
    "is_event",
    "is_note",
    "is_scheduled",
    "powers",
    "times",
]
