"""What all benchmarks share: a row for each thing measured, one table, one verdict, and how they are started.

A row holds a median beside that of something bare: the least that any program had to do for the same, measured in the
same run, alternating with ours. So a bound on their ratio says something on a slow machine, too, and on a busy one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured. The bound is on the ratio where there is something bare, else on the value itself.

    `value` is a median unless `what` says otherwise; `unit` is of both numbers. `failed`: why there are none.
    """

    benchmark: str
    what: str
    value: float = 0.0
    unit: str = ""
    bare: float | None = None
    bound: float | None = None
    at_least: bool = False
    failed: str = ""

    @property
    def ratio(self) -> float | None:
        """The value, times the bare one."""
        return None if self.bare is None else self.value / self.bare

    @property
    def holds(self) -> bool | None:
        """Whether the bound holds; None where there is none. What failed holds nothing."""
        if self.failed:
            return False
        if self.bound is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        return judged >= self.bound if self.at_least else judged <= self.bound


def main(
    description: str | None,
    options: Callable[[argparse.ArgumentParser], None],
    measure: Callable[[argparse.Namespace], list[Row]],
    brief: Mapping[str, float],
) -> int:
    """Run one benchmark with the command line's options; its exit code. `brief` are options' values for `--brief`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brief", action="store_true", help="only see that it works: quick, and no bound is judged")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options(parser)
    if parser.parse_args().brief:
        parser.set_defaults(**brief)
    given = parser.parse_args()
    rows = measure(given)
    if given.brief:
        rows = [replace(row, bound=None) for row in rows]
    if given.into is not None:
        given.into.write_bytes(msgspec.json.encode(rows))
    else:
        print(table(rows))
    return verdict(rows)


def read(path: Path) -> list[Row]:
    """The rows that a benchmark was told to write into a file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Row])


def verdict(rows: Iterable[Row]) -> int:
    """The exit code: 1 if a bound does not hold, or something could not be measured."""
    return 1 if any(row.holds is False for row in rows) else 0


def table(rows: Iterable[Row]) -> str:
    """All rows beneath each other."""
    cells = [("", "", "measured", "bare", "ratio", "bound", ""), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(7)]
    return "\n".join(_line(line, widths) for line in cells)


def _cells(row: Row) -> tuple[str, ...]:
    if row.failed:
        return row.benchmark, f"{row.what}: {row.failed}", "", "", "", "", "FAILED"
    bare = "" if row.bare is None else _number(row.bare, row.unit)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    bound = ""
    if row.bound is not None:
        bound = f"{'>=' if row.at_least else '<='} {row.bound:g}" + ("" if row.bare is not None else f" {row.unit}")
    holds = {None: "", True: "holds", False: "MISSED"}[row.holds]
    return row.benchmark, row.what, _number(row.value, row.unit), bare, ratio, bound.rstrip(), holds


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}".rstrip() if value >= 1000 else f"{value:.2f} {unit}".rstrip()


def _line(line: tuple[str, ...], widths: list[int]) -> str:
    left, right = line[:2], line[2:6]
    texts = [text.ljust(width) for text, width in zip(left, widths, strict=False)]
    numbers = [text.rjust(width) for text, width in zip(right, widths[2:], strict=False)]
    return "  ".join((*texts, *numbers, line[6])).rstrip()
