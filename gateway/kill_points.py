"""Named points at which a test can have the gateway killed, as a power cut would: no clean-up, no last word."""

from __future__ import annotations

import os
import signal

#: Names the point; unset outside of tests.
VARIABLE = "HUSKIES_KILL_AT"

#: Every point there is, in the order in which a message and a bootstrap reach them.
POINTS = (
    "inbox.committed",
    "command.begun",
    "command.settled",
    "question.settled",
    "schedule.made",
    "schedule.fired",
    "turn.claimed",
    "turn.finished",
    "waiting.discarded",
    "outbox.sent",
    "project.reserved",
    "project.folder",
    "project.building",
    "project.cloned",
    "project.built",
    "project.started",
    "project.prepared",
    "project.answered",
    "project.ready",
)

_armed = os.environ.get(VARIABLE, "")


def reach(point: str) -> None:
    """The code is at `point`; die here if that is what the environment asks for."""
    if point == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
