"""Every benchmark runs, and says what it measured; how quick anything is is not judged here."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import report
from benchmarks.report import Row

ROOT = Path(__file__).parents[1]


async def briefly(name: str, folder: Path) -> list[Row]:
    """The rows of a benchmark that is a process of its own, as `make bench` has it."""
    into = folder / "rows.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.{name}", "--brief", "--into", str(into)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, said.decode(errors="replace")
    return report.read(into)


def check(name: str, rows: list[Row], compared: int) -> None:
    """Something was measured, so many times beside something bare, and no bound was judged."""
    assert {row.benchmark for row in rows} == {name}
    assert all(row.value > 0 or row.unit == "MB" for row in rows), rows
    assert len([row for row in rows if row.ratio is not None and row.ratio > 0]) == compared
    assert all(row.holds is None for row in rows)


@pytest.mark.waits
@pytest.mark.parametrize(
    ("name", "compared"), [("dispatch", 5), ("hostile", 1), ("start", 2), ("webhooks", 2), ("databases", 3)]
)
async def test_a_benchmark_runs(name: str, compared: int, tmp_path: Path) -> None:
    check(name, await briefly(name, tmp_path), compared)


@pytest.mark.waits
@pytest.mark.claude
async def test_the_benchmark_of_turns_runs(tmp_path: Path) -> None:
    check("turns", await briefly("turns", tmp_path), 3)


@pytest.mark.docker
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "compared"), [("bootstrap", 2), ("build", 1), ("neighbours", 2)])
async def test_a_benchmark_of_containers_runs(name: str, compared: int, engine: None, tmp_path: Path) -> None:
    check(name, await briefly(name, tmp_path), compared)


def test_each_benchmark_is_run_and_tested() -> None:
    helpers = {"__main__", "report"}
    assert sorted(benchmarks.NAMES) == sorted({file.stem for file in (ROOT / "benchmarks").glob("*.py")} - helpers)


def test_a_bound_is_on_the_ratio_where_there_is_something_bare() -> None:
    row = Row("some", "thing", 6.0, "ms", bare=2.0, bound=3.0)
    assert row.ratio == 3.0
    assert row.holds
    assert replace(row, bound=2.9).holds is False
    assert replace(row, bare=None).holds is False
    assert replace(row, bound=None).holds is None
    assert replace(row, bound=3.1, at_least=True).holds is False


def test_the_table_has_all_rows_and_one_that_failed_fails_the_run(tmp_path: Path) -> None:
    good = Row("some", "thing", 6.0, "ms", bare=2.0, bound=3.0)
    bad = benchmarks.measured("of_nothing", [], tmp_path)
    assert bad[0].failed.endswith("No module named benchmarks.of_nothing")
    lines = report.table([good, *bad, replace(good, bound=1.0)]).splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["holds", "FAILED", "MISSED"]
    assert [report.verdict(rows) for rows in ([good], [good, *bad], [replace(good, bound=1.0)])] == [0, 1, 1]
