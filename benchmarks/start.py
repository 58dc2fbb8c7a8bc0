"""From process start to ready, and the memory of an idle gateway.

    python -m benchmarks.start [--rounds 9]

Default configuration, migrated database, no project. Ready is `/readyz` answering 200. Bare, alternating in the same
run, is a Python process that only imports the libraries any such gateway needs. Both run from compiled bytecode, as
what is installed does: each runs once before, and may write its bytecode then, whatever the environment says.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.report import Row, main

#: Times the bare imports.
READY_RATIO = 1.4
BRIEF = {"rounds": 1}
BARE = "import aiohttp.web, sqlalchemy, pydantic_settings, msgspec; print('ready', flush=True); input()"


def environment(folder: Path) -> dict[str, str]:
    """This process's, without what would change the gateway's configuration, or keep bytecode from being written."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HUSKIES_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "HOME": str(folder)}


def gateway_round(folder: Path) -> tuple[float, float]:
    """Seconds until ready, and MB of RSS then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "run"],
        cwd=folder,
        env={**environment(folder), "HUSKIES_GATEWAY__LISTEN": f"127.0.0.1:{port}"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not is_ready(port):
            assert process.poll() is None, "the gateway ended"
            time.sleep(0.002)
        took = time.monotonic() - began
        rss = psutil.Process(process.pid).memory_info().rss / 2**20
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    return took, rss


def is_ready(port: int) -> bool:
    """Ask `/readyz` once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def bare_round(folder: Path) -> tuple[float, float]:
    """The same for a process that only imports."""
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", BARE],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        took = time.monotonic() - began
        rss = psutil.Process(process.pid).memory_info().rss / 2**20
        process.kill()
    return took, rss


def measure(given: argparse.Namespace) -> list[Row]:
    """Both in turn."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        folder = Path(name)
        gateway_round(folder)  # makes and migrates the database, and compiles
        bare_round(folder)
        pairs = [(gateway_round(folder), bare_round(folder)) for _ in range(given.rounds)]
    ours, bare = zip(*pairs, strict=True)
    (ready, rss), (imports, imports_rss) = (map(statistics.median, zip(*found, strict=True)) for found in (ours, bare))
    return [
        Row("start", "ready, beside bare imports", ready, "s", imports, READY_RATIO),
        Row("start", "RSS when ready", rss, "MB", imports_rss),
    ]


def options(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=9)


if __name__ == "__main__":
    sys.exit(main(__doc__, options, measure, BRIEF))
