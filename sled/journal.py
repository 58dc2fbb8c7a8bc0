"""What the sled must not forget: which runs it took, and how they stand.

One file per run in `<home>/.huskies/journal/`: a JSON line for each event worth keeping (`Started`, `Steered`,
`Finished`), written before anything else happens with it. A line needs no fsync: the journal guards against the death
of processes, and a machine that dies takes the run with it.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from sled.protocol import BadFrame, Body, Event, Finished, RunState, Started, Steered, decode_body, encode

_KEPT = (Started, Steered, Finished)
#: Live events kept in memory for a gateway that comes back; older ones are dropped, `Finished` has the whole text.
_LIVE_EVENTS = 256
#: Added to a run's last number when its journal is read: more than the live events that were sent and never kept, so
#: that what a new sled says of the run is newer than anything the gateway has seen of it.
_LOST_EVENTS = 10**9


@dataclass
class _Record:
    last: int = 0
    finished: bool = False
    events: list[Event] = field(default_factory=list)


class Journal:
    """The runs of one sled. `id` changes only when the files were lost."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        name = folder / "id"
        if not name.exists():
            fresh = folder / f"id.{secrets.token_hex(4)}"
            fresh.write_text(secrets.token_hex(16))
            fresh.rename(name)
        self.id = name.read_text()
        self._records = {path.stem: self._load(path) for path in folder.glob("*.jsonl")}

    def __contains__(self, run: str) -> bool:
        return run in self._records

    def begin(self, run: str) -> None:
        """Note that `run` was taken."""
        self._path(run).touch()
        self._records[run] = _Record()

    def append(self, run: str, body: Body) -> Event:
        """Number `body`, keep it, and return it as an event."""
        record = self._records[run]
        event = Event(run=run, seq=record.last + 1, body=body)
        if isinstance(body, _KEPT):
            with self._path(run).open("a") as file:
                file.write(f"{event.seq} {encode(body)}\n")
        record.last = event.seq
        record.finished = isinstance(body, Finished)
        record.events.append(event)
        self._trim(record)
        return event

    def unfinished(self) -> list[str]:
        """The runs that have no end yet."""
        return [run for run, record in self._records.items() if not record.finished]

    def states(self) -> list[RunState]:
        """Every run, for `Hello`."""
        return [RunState(run=run, last=r.last, finished=r.finished) for run, r in self._records.items()]

    def since(self, run: str, seq: int) -> list[Event]:
        """What is left of the events of `run` after number `seq`."""
        return [event for event in self._records[run].events if event.seq > seq]

    def forget(self, run: str) -> None:
        """Drop `run`: the gateway has committed its end."""
        if self._records.pop(run, None) is not None:
            self._path(run).unlink(missing_ok=True)

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.jsonl"

    @staticmethod
    def _trim(record: _Record) -> None:
        live = [event for event in record.events if not isinstance(event.body, _KEPT)]
        if len(live) > _LIVE_EVENTS:
            # A quarter at a time, so that trimming does not cost every event.
            dropped = {event.seq for event in live[: _LIVE_EVENTS // 4]}
            record.events = [event for event in record.events if event.seq not in dropped]

    @staticmethod
    def _load(path: Path) -> _Record:
        record = _Record()
        for line in path.read_text().splitlines():
            # A line cut by a crash ends the file; what it said never left the sled.
            with contextlib.suppress(BadFrame, ValueError):
                seq, _, text = line.partition(" ")
                event = Event(run=path.stem, seq=int(seq), body=decode_body(text))
                record.events.append(event)
                record.last = event.seq
                record.finished = isinstance(event.body, Finished)
        if not record.finished:
            record.last += _LOST_EVENTS
        return record
