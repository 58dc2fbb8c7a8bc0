"""From process start to ready, and the memory of an idle gateway.

    python benchmarks/start.py [--rounds 9]

Default configuration, migrated database, no project. Ready is `/readyz` answering 200. Beside it, alternating in the
same run: a Python process that only imports the libraries any such gateway needs.
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

FLOOR = "import aiohttp.web, sqlalchemy, pydantic_settings, msgspec; print('ready', flush=True); input()"


def gateway_round(folder: Path) -> tuple[float, float]:
    """Seconds until ready, and MB of RSS then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HUSKIES_")},
        "HOME": str(folder),
        "HUSKIES_GATEWAY__LISTEN": f"127.0.0.1:{port}",
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "run"],
        cwd=folder,
        env=environment,
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


def floor_round() -> tuple[float, float]:
    """The same for a process that only imports."""
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", FLOOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        took = time.monotonic() - began
        rss = psutil.Process(process.pid).memory_info().rss / 2**20
        process.kill()
    return took, rss


def main(rounds: int) -> int:
    """Measure, print, and say whether the bounds hold."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        gateway_round(Path(name))  # makes and migrates the database
        pairs = [(gateway_round(Path(name)), floor_round()) for _ in range(rounds)]
    took = statistics.median(gateway[0] for gateway, _ in pairs)
    rss = statistics.median(gateway[1] for gateway, _ in pairs)
    floor_took = statistics.median(floor[0] for _, floor in pairs)
    floor_rss = statistics.median(floor[1] for _, floor in pairs)
    print(f"{'medians of ' + str(rounds):<24} {'ready s':>8} {'RSS MB':>8}")
    print(f"{'gateway':<24} {took:>8.2f} {rss:>8.1f}")
    print(f"{'imports alone':<24} {floor_took:>8.2f} {floor_rss:>8.1f}")
    print(f"{'ratio':<24} {took / floor_took:>8.2f} {rss / floor_rss:>8.2f}")
    holds = took <= 1.0 and rss <= 90
    print("bounds (ready <= 1.0 s, RSS <= 90 MB):", "hold" if holds else "DO NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    sys.exit(main(parser.parse_args().rounds))
