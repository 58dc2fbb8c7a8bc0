"""Numbers as bars: what a template draws of them. Pure.

A bar lies in its row beside its label and its number, so that nothing is told by colour alone, and a phone shows what a
wide window does. Widths are in percent of the drawing, heights in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.chat.text import shorten

#: Where bars begin, and how wide the widest is, %.
LEFT, WIDEST = 34.0, 46.0
#: Pixels: of a bar, between rows, and of what is written.
_BAR, _GAP, _TEXT = 14, 8, 11
#: Characters of a label; the table has all of it.
_LABEL = 20
#: Rows that are drawn; the others are in the table.
_MOST = 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One number. `series`: which of the row's it is, from 0; `text_y`: where the line of its number stands."""

    y: int
    width: float
    text_y: int
    shown: str
    series: int


@dataclass(frozen=True, slots=True)
class Row:
    """The bars of one label; `text_y`: where its line stands."""

    label: str
    text_y: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and the table of the same numbers: `numbers` has each label with what each series shows.

    `left_out`: rows that are in the table alone.
    """

    key: str
    title: str
    series: tuple[str, ...]
    rows: tuple[Row, ...]
    height: int
    numbers: tuple[tuple[str, tuple[str, ...]], ...]
    left_out: int


def draw(
    key: str,
    title: str,
    series: Sequence[str],
    values: Mapping[str, Sequence[float]],
    form: Callable[[float], str],
) -> Chart:
    """A chart of `values`, by label one for each of `series`, in their order. `form` writes a number."""
    largest = max((value for several in values.values() for value in several), default=0.0)
    rows: list[Row] = []
    y = 0
    for label, several in list(values.items())[:_MOST]:
        bars = tuple(
            Bar(
                y=y + number * _BAR,
                width=round(WIDEST * value / largest, 2) if largest > 0 else 0.0,
                text_y=y + number * _BAR + _TEXT,
                shown=form(value),
                series=number,
            )
            for number, value in enumerate(several)
        )
        rows.append(Row(shorten(label, _LABEL), y + _TEXT, bars))
        y += _BAR * len(several) + _GAP
    table = tuple((label, tuple(map(form, several))) for label, several in values.items())
    return Chart(key, title, tuple(series), tuple(rows), y, table, len(values) - len(rows))


def share(values: Iterable[float], part: float) -> float:
    """The value that a part of all values, from 0 to 1, does not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else 0.0


def count(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}"


def thousands(value: float) -> str:
    """A number of many things: three digits and a unit."""
    for unit in ("", "k", "M", "G"):
        if value < 999.5 or unit == "G":
            return f"{value:.3g}{unit}" if unit else f"{value:.0f}"
        value /= 1000
    raise AssertionError


def usd(value: float) -> str:
    """An amount of money."""
    return f"{value:.4f} USD" if 0 < value < 0.1 else f"{value:,.2f} USD"
