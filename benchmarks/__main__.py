"""All benchmarks, one after the other, each a process of its own, and one table at the end.

    python -m benchmarks [--brief]

One that fails is a row that says so. Exit code 1 if a bound does not hold, or one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Row, read, table, verdict

NAMES = ("dispatch", "door", "hostile", "start", "webhooks", "turns", "bootstrap", "build", "neighbours", "databases")
ROOT = Path(__file__).parents[1]
#: Seconds that one may take.
WITHIN_S = 1800.0
#: And to clean up after it was told to end.
CLEAN_UP_S = 60.0


def measured(name: str, arguments: list[str], folder: Path) -> list[Row]:
    """The rows of one benchmark, whatever becomes of it."""
    into, said = folder / f"{name}.json", folder / f"{name}.txt"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--into", str(into), *arguments]
    with said.open("wb") as errors, subprocess.Popen(command, cwd=ROOT, stderr=errors) as process:
        try:
            process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # so that it ends what it started
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(CLEAN_UP_S)
            process.kill()
            return [Row(name, "all of it", failed=f"it took longer than {WITHIN_S:.0f} s")]
    if into.is_file():
        return read(into)
    told = said.read_text(errors="replace").strip()
    print(told, file=sys.stderr)
    return [Row(name, "all of it", failed=(told.splitlines() or [f"exit code {process.returncode}"])[-1])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brief", action="store_true", help="only see that all work: quick, and no bound is judged")
    arguments = ["--brief"] if parser.parse_args().brief else []
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        for name in NAMES:
            print(f"{name} ...", flush=True)
            rows += measured(name, arguments, Path(folder))
    print(table(rows))
    return verdict(rows)


if __name__ == "__main__":
    sys.exit(main())
