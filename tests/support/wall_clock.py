"""A wall clock that a test sets, for itself and for the processes it starts."""

from __future__ import annotations

from pathlib import Path


class WallClock:
    """The clock of whoever has `gateway.clock.VARIABLE` set to `file`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clock"
        self.step(0)

    def step(self, seconds: float) -> None:
        """Be so many seconds off the machine's clock. A reader never sees an empty file."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.file)
