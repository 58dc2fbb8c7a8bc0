"""Messages become turns, one at a time per session."""

from gateway.turns.admission import Admission
from gateway.turns.call_gate import CallGate
from gateway.turns.dispatcher import Dispatcher
from gateway.turns.running import Limits, RunSettings, Stopped, Waker
from gateway.turns.runs import Around

__all__ = [
    "Admission",
    "Around",
    "CallGate",
    "Dispatcher",
    "Limits",
    "RunSettings",
    "Stopped",
    "Waker",
    "wording",
]
