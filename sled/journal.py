"""What the sled must not forget: which runs it took, and what has become of them.

One file per run in `<home>/.huskies/journal/`: a JSON line for each event worth keeping (`_KEPT`: what happened once
and counts for good), written before anything else happens with it. A line needs no fsync: the journal guards against
dying processes, and a machine that dies takes the run with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from sled.protocol import (
    BadFrame,
    Body,
    Event,
    File,
    Finished,
    Question,
    RunState,
    Started,
    Steered,
    Withdrawn,
    decode_body,
    encode,
)

log = logging.getLogger(__name__)

_KEPT = (Started, Steered, Question, Withdrawn, File, Finished)
#: Live events kept in memory for a gateway that comes back; older ones are dropped, `Finished` has the whole text.
_LIVE_EVENTS = 256
#: A gateway may have seen live events of a run that no file remembers; a new sled's events are numbered beyond them.
_FORGOTTEN = 2**40


@dataclass
class _Record:
    last: int = 0
    finished: bool = False
    kept: list[Event] = field(default_factory=list)
    live: deque[Event] = field(default_factory=lambda: deque(maxlen=_LIVE_EVENTS))

    def add(self, event: Event) -> None:
        """Take the next event."""
        (self.kept if isinstance(event.body, _KEPT) else self.live).append(event)
        self.last = event.seq
        self.finished = isinstance(event.body, Finished)


class Journal:
    """The runs of one sled. `id` changes only when the files were lost."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        name = folder / "id"
        if not name.exists() or not name.read_text():
            fresh = folder / f"id.{secrets.token_hex(4)}"
            fresh.write_text(secrets.token_hex(16))
            fresh.rename(name)
        self.id = name.read_text()
        self._records = {path.stem: self._load(path) for path in folder.glob("*.jsonl")}

    def __contains__(self, run: str) -> bool:
        return run in self._records

    def begin(self, run: str) -> None:
        """Note that `run` was taken. Raises OSError; then the run is known only until this sled ends."""
        self._records[run] = _Record()
        self._path(run).touch()

    def append(self, run: str, body: Body) -> Event:
        """Number `body`, keep it, and return it as an event."""
        record = self._records[run]
        event = Event(run=run, seq=record.last + 1, body=body)
        if isinstance(body, _KEPT):
            self._write(self._path(run), f"{event.seq} {encode(body)}\n".encode())
        record.add(event)
        return event

    def unfinished(self) -> list[str]:
        """The runs that have not ended yet."""
        return [run for run, record in self._records.items() if not record.finished]

    def states(self) -> list[RunState]:
        """Every run, for `Hello`."""
        return [RunState(run=run, last=r.last, finished=r.finished) for run, r in self._records.items()]

    def since(self, run: str, seq: int) -> list[Event]:
        """What is left of the events of `run` after number `seq`, in order."""
        record = self._records[run]
        return sorted(
            (event for events in (record.kept, record.live) for event in events if event.seq > seq),
            key=lambda event: event.seq,
        )

    def forget(self, run: str) -> None:
        """Drop `run`: the gateway has committed its end."""
        if self._records.pop(run, None) is not None:
            self._path(run).unlink(missing_ok=True)

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.jsonl"

    @staticmethod
    def _write(path: Path, line: bytes) -> None:
        """Add a line, completely or not at all.

        On a full disk the run continues all the same: the line stays in memory, and only a crash of the sled loses it.
        """
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab", buffering=0) as file:
                written = file.write(line)
            if written != len(line):
                raise OSError(f"{written} of {len(line)} bytes written")
        except OSError as error:
            log.error("%s: %s", path.name, error)
            with contextlib.suppress(OSError):
                os.truncate(path, size)

    @staticmethod
    def _load(path: Path) -> _Record:
        """Read a run up to the first broken line: a crash cut it off, and what it said never left the sled."""
        record = _Record()
        data = path.read_bytes()
        good = 0
        while (end := data.find(b"\n", good)) >= 0:
            try:
                seq, _, text = data[good:end].partition(b" ")
                record.add(Event(run=path.stem, seq=int(seq), body=decode_body(text)))
            except (BadFrame, ValueError):
                break
            good = end + 1
        if good < len(data):
            os.truncate(path, good)
        if not record.finished:
            record.last += _FORGOTTEN
        return record
