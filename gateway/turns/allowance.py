"""What one run may send. A frame is bounded, but not how many of them a sled sends: their sums are bounded here.

All limits are far above what an agent does in the longest turn. A run that goes beyond one is ended and said so: what
it sends is work for the one event loop and the one database of all projects, and some of it costs money.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sled.protocol import Body, File, Note, Question, Started, Steered, TextDelta, Tool, ToolDone, Withdrawn

#: How many of each kind, and what people call them.
MOST: dict[type, tuple[int, str]] = {
    Tool: (20_000, "tool calls"),
    ToolDone: (20_000, "tool calls"),
    Question: (100, "questions"),
    Withdrawn: (100, "questions"),
    File: (100, "files"),
    Started: (20, "dialogues"),
    Steered: (1_000, "messages taken in"),
    Note: (2_000, "notes"),
    TextDelta: (500_000, "pieces of text"),
}
#: What people get as a message of its own, which costs money on some platforms; and how many of all of them together.
_MESSAGES = (Question, File)
MOST_MESSAGES = 150
#: Characters of text that is streamed.
MOST_TEXT = 50_000_000
#: Tools that may be in use at once.
MOST_TOOLS = 500


@dataclass(slots=True)
class Allowance:
    """What a run has sent so far."""

    _counts: Counter[type] = field(default_factory=Counter)
    _characters: int = 0
    #: What there was too much of; empty while there was not.
    exceeded: str = ""

    def take(self, body: Body) -> bool:
        """Count what was sent; False once the run has gone beyond what it may."""
        kind = type(body)
        self._counts[kind] += 1
        if isinstance(body, TextDelta):
            self._characters += len(body.delta)
        most, name = MOST.get(kind, (0, ""))
        if name and self._counts[kind] > most:
            self.exceeded = f"more than {most:,} {name}"
        elif sum(self._counts[each] for each in _MESSAGES) > MOST_MESSAGES:
            self.exceeded = f"more than {MOST_MESSAGES:,} questions and files"
        elif self._characters > MOST_TEXT:
            self.exceeded = f"more than {MOST_TEXT:,} characters"
        elif self._counts[Tool] - self._counts[ToolDone] > MOST_TOOLS:
            self.exceeded = f"more than {MOST_TOOLS:,} tool calls at once"
        return not self.exceeded
