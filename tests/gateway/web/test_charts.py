"""Numbers as bars."""

from __future__ import annotations

import pytest

from gateway.web import charts


def test_the_largest_is_the_widest_and_each_says_its_number() -> None:
    chart = charts.draw("k", "T", ("in", "out"), {"a": (10, 5), "b": (0, 20)}, charts.count)
    assert [[(bar.width, bar.shown, bar.series) for bar in row.bars] for row in chart.rows] == [
        [(23.0, "10", 0), (11.5, "5", 1)],
        [(0.0, "0", 0), (46.0, "20", 1)],
    ]
    ys = [bar.y for row in chart.rows for bar in row.bars]
    assert ys == sorted(set(ys)), "none lies on another"
    assert chart.height > ys[-1]
    assert chart.numbers == (("a", ("10", "5")), ("b", ("0", "20")))


@pytest.mark.parametrize(
    "values", [{}, {"a": (0,)}, {"a": (1e30,)}, {"a" * 500: (1,)}, {str(n): (n,) for n in range(999)}]
)
def test_nothing_and_much_are_drawn(values: dict[str, tuple[float, ...]]) -> None:
    chart = charts.draw("k", "T", ("n",), values, charts.count)
    assert len(chart.numbers) == len(values) == len(chart.rows) + chart.left_out
    assert all(0 <= bar.width <= charts.WIDEST for row in chart.rows for bar in row.bars)
    assert all(len(row.label) <= 20 for row in chart.rows)


def test_a_share_is_one_of_the_values() -> None:
    assert charts.share([], 0.5) == 0
    assert charts.share([3], 0.95) == 3
    assert charts.share([4, 1, 3, 2], 0.5) == 2
    assert charts.share(range(1, 101), 0.95) == 95
    assert charts.share(range(1, 101), 1.0) == 100


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (999, "999"), (999.6, "1k"), (12_345, "12.3k"), (2e6, "2M"), (3.5e9, "3.5G"), (2e13, "2e+04G")],
)
def test_many_things_are_three_digits_and_a_unit(value: float, told: str) -> None:
    assert charts.thousands(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0.00 USD"), (0.0123, "0.0123 USD"), (0.42, "0.42 USD"), (1234.5, "1,234.50 USD")]
)
def test_money(value: float, told: str) -> None:
    assert charts.usd(value) == told
