"""Every test, in lanes at once: whole gateways, platforms, what uses the engine, what mostly waits, and the rest; and
what rests on the store once more, with PostgreSQL below it.

    python -m tests.lanes [--sample SEED] [--busy [SEED]]

The lanes share no port, no folder and no container. The rest is shown as it goes; what the others said follows when
they have ended. With `--sample`, a quarter of each file's slow tests runs, chosen by SEED. With `--busy`, a tenth of
all, chosen by its SEED, runs after that on a machine that is kept busy by others: stress-ng on every core and on the
disk, and a gateway on the ports that one has by default. Exit code 0 if all lanes are green.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gateway.testing import LANES_VARIABLE

#: What runs on both databases: the store and all that commits, and whole gateways that are killed or refused.
ON_POSTGRES = (
    *(f"tests/gateway/{name}" for name in ("store", "intake", "delivery", "turns", "asking")),
    *(f"tests/integration/test_{name}.py" for name in ("kill", "faults", "chaos", "story")),
    *("--deselect", "tests/gateway/store/test_postgres.py", "--deselect", "tests/gateway/store/test_postgres_cuts.py"),
)
LANES = {
    "the rest": ("-m", "not docker and not waits", "--ignore=tests/integration", "--ignore=tests/transports"),
    "platforms": ("-m", "not docker and not waits", "tests/transports"),
    "whole gateways": ("-m", "not docker and not waits", "tests/integration"),
    "the engine": ("-m", "docker and not waits"),
    "what waits": ("-m", "waits"),
    "on PostgreSQL": ("--database", "postgres", "-m", "not docker and not waits", *ON_POSTGRES),
}
BUSY = ("-m", "not waits and not docker")
#: Characters of what a lane that failed said, shown again at the end.
_TAIL = 6000
LOAD = ("stress-ng", "--quiet", "--cpu", str(os.cpu_count()), "--io", "1")
_CONFIG = """
[gateway]
state_dir = "{folder}/state"

[projects]
root = "{folder}/projects"

[engine]
kind = "process"
allow_unsandboxed = true
"""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _start(chosen: tuple[str, ...], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", *chosen]
    environment = {**os.environ, LANES_VARIABLE: str(len(LANES))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile everything anew
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output, preexec_fn=_die_with_parent)


def _all_at_once(how: tuple[str, ...]) -> tuple[dict[str, int], list[str]]:
    """The exit code of each lane, and once more what those said in the end that failed, in the background."""
    failures = []
    (first, shown), *others = LANES.items()
    with contextlib.ExitStack() as stack:
        logs = {name: stack.enter_context(tempfile.TemporaryFile()) for name, _ in others}
        running = {name: _start((*chosen, *how), logs[name]) for name, chosen in others}
        codes = {first: _start((*shown, *how), None).wait()}
        for name, lane in running.items():
            codes[name] = lane.wait()
            logs[name].seek(0)
            said = logs[name].read().decode(errors="replace")
            print(f"\n--- {name} ---\n{said}", flush=True)
            if codes[name]:
                failures.append(f"--- failed: {name} ---\n{said[-_TAIL:]}")
    return codes, failures


@contextlib.contextmanager
def _load() -> Iterator[None]:
    """Others at work on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(_CONFIG.format(folder=folder))
        config.chmod(0o600)
        gateway = (sys.executable, "-m", "gateway", "run", "--config", str(config))
        others = [
            subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )
            for command, cwd in ((LOAD, folder), (gateway, None))
        ]
        try:
            yield
            assert [other.poll() for other in others] == [None, None], (
                "the machine was not as busy as it should have been"
            )
        finally:
            for other in others:
                other.terminate()
            for other in others:
                other.wait(30)


def _busy(seed: str, how: tuple[str, ...]) -> int:
    print(f"\n--- on a busy machine: --tenth {seed} ---", flush=True)
    with _load():
        return _start((*BUSY, *how, "--tenth", seed, "-q"), None).wait()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", metavar="SEED")
    parser.add_argument("--busy", nargs="?", const=secrets.token_hex(3), metavar="SEED")
    parser.add_argument("--only-busy", action="store_true", help="nothing but that")
    given = parser.parse_args()
    began = time.monotonic()
    how = ("--sample", given.sample) if given.sample else ()
    codes, failures = ({}, []) if given.only_busy else _all_at_once(how)
    if given.busy:
        codes["a busy machine"] = _busy(given.busy, how)
    print(*failures, sep="\n")  # last, where a log that is cut still has it
    took = time.monotonic() - began
    print(f"{', '.join(f'{name}: {code}' for name, code in codes.items())} after {took:.0f} s")
    return max(codes.values(), default=0)


if __name__ == "__main__":
    sys.exit(main())
