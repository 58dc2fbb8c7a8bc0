"""How long each layer took to build the last time, so that people can be told how long it may take this time."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)


class BuildTimes:
    """Seconds by the name of a layer, kept in a file between runs; None keeps them in memory only.

    Nothing depends on them: a file that cannot be read or written costs an estimate.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._seconds: dict[str, float] = {}
        if file is not None:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(file.read_text())
                if isinstance(found, dict):
                    self._seconds = {
                        str(name): float(took) for name, took in found.items() if isinstance(took, (int, float))
                    }

    def note(self, layer: str, took_s: float) -> None:
        """A layer was built, without help of the engine's cache."""
        self._seconds[layer] = round(took_s, 1)

    def estimate(self, layers: Sequence[str]) -> float | None:
        """Seconds until these are built; None if one of them never was."""
        if any(layer not in self._seconds for layer in layers):
            return None
        return sum(self._seconds[layer] for layer in layers)

    def save(self) -> None:
        """Keep them for the next run."""
        if self._file is None:
            return
        try:
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps(dict(sorted(self._seconds.items()))))
            partial.replace(self._file)
        except OSError as error:
            log.info("the times of builds are not kept: %s", error)
