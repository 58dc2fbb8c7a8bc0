"""Every test, in four lanes at once: whole gateways, what uses the engine, what mostly waits, and the rest.

    python -m tests.lanes

The lanes share no port, no folder and no container. The rest is shown as it goes; what the others said follows when
they have ended. Exit code 0 if all lanes are green.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO

LANES = {
    "the rest": ("-m", "not docker and not waits", "--ignore=tests/integration"),
    "whole gateways": ("-m", "not docker and not waits", "tests/integration"),
    "the engine": ("-m", "docker and not waits"),
    "what waits": ("-m", "waits"),
}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _start(chosen: tuple[str, ...], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", *chosen]
    return subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=_die_with_parent)


def main() -> int:
    began = time.monotonic()
    (first, shown), *others = LANES.items()
    with contextlib.ExitStack() as stack:
        logs = {name: stack.enter_context(tempfile.TemporaryFile()) for name, _ in others}
        running = {name: _start(chosen, logs[name]) for name, chosen in others}
        codes = {first: _start(shown, None).wait()}
        for name, lane in running.items():
            codes[name] = lane.wait()
            logs[name].seek(0)
            print(f"\n--- {name} ---\n{logs[name].read().decode(errors='replace')}", flush=True)
    took = time.monotonic() - began
    print(f"{', '.join(f'{name}: {code}' for name, code in codes.items())} after {took:.0f} s")
    return max(codes.values())


if __name__ == "__main__":
    sys.exit(main())
