"""From before `Inbox.accept` to the run frame's receipt, on SQLite and on PostgreSQL, in one run.

    python -m benchmarks.databases [--rounds 5] [--seconds 4] [--rate 50]

Two gateways as `benchmarks.dispatch` has them, and a PostgreSQL server of this machine with its usual durability; they
take turns. Bare is one commit of the same database and one frame, in the same loop. A round trip is one question to the
server that it answers from memory.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.dispatch import Paced, ServerCommits, gateway, open_loop
from benchmarks.report import Row, main
from tests.support.postgres import programs, running_server

BRIEF = {"rounds": 1, "seconds": 0.5}
NAMES = ("SQLite", "PostgreSQL")


def rows(found: dict[str, list[Paced]], round_trips: list[float], rate: float) -> list[Row]:
    """The table's rows."""
    told = [Row("databases", "round trip to PostgreSQL", statistics.median(round_trips), "ms")]
    middle = {}
    for name in NAMES:
        messages = [ms for paced in found[name] for ms in paced.messages]
        commits = [ms for paced in found[name] for ms in paced.commits]
        frames = [ms for paced in found[name] for ms in paced.frames]
        middle[name] = statistics.median(messages)
        floor = statistics.median(commits) + statistics.median(frames)
        told.append(Row("databases", f"accept to run frame at {rate:g}/s on {name}, p50", middle[name], "ms", floor))
    each = statistics.mean(paced.all.each for paced in found["PostgreSQL"])
    told.append(Row("databases", "commits for a message on PostgreSQL, mean", each))
    beside = "accept to run frame on PostgreSQL, beside SQLite"
    return [*told, Row("databases", beside, middle["PostgreSQL"], "ms", middle["SQLite"])]


async def run(given: argparse.Namespace, folder: Path, address: str) -> list[Row]:
    """Both gateways at once; one of them at work."""
    found: dict[str, list[Paced]] = defaultdict(list)
    for name in NAMES:
        (folder / name).mkdir()
    async with gateway(folder / "SQLite") as here, gateway(folder / "PostgreSQL", address) as there:
        for bench in (here, there):
            await open_loop(bench, "warm-up", min(2.0, given.seconds), given.rate)
        for number in range(given.rounds):
            for name, bench in zip(NAMES, (here, there), strict=True):
                found[name].append(await open_loop(bench, f"round {number}", given.seconds, given.rate))
        assert isinstance(there.bare, ServerCommits)
        return rows(found, there.bare.round_trips, given.rate)


def measure(given: argparse.Namespace) -> list[Row]:
    """In folders, and with a server, that go with it."""
    if programs() is None:
        sys.exit("this needs PostgreSQL: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="hb") as folder, running_server(durable=True) as server:
        return asyncio.run(run(given, Path(folder), server.of(Path(folder))))


def options(parser: argparse.ArgumentParser) -> None:
    """How often, how long, how fast."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rate", type=float, default=50)


if __name__ == "__main__":
    sys.exit(main(__doc__, options, measure, BRIEF))
