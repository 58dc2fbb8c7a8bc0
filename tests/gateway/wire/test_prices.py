"""What a call costs by the gateway's own account."""

from __future__ import annotations

import pytest

from gateway.store.usage import Used
from gateway.wire.prices import LISTED, Asked, Prices, read


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("claude-sonnet-4-5-20250929", (3.0, 15.0)),
        ("claude-opus-4-5-20251101", (5.0, 25.0)),
        ("claude-opus-4-1-20250805", (15.0, 75.0)),
        ("claude-haiku-4-5", (1.0, 5.0)),
        ("something-new", (15.0, 75.0)),
        ("", (15.0, 75.0)),
    ],
)
def test_a_model_has_the_price_of_its_family_and_an_unknown_one_the_dearest(
    model: str, price: tuple[float, float]
) -> None:
    assert Prices().of(model) == tuple(usd / 1e6 for usd in price)


def test_what_an_operator_has_written_goes_first() -> None:
    prices = Prices({"claude-opus-4-5": (1.0, 2.0), "new": (100.0, 200.0)})
    assert prices.of("claude-opus-4-5-20251101") == (1e-6, 2e-6)
    assert prices.of("unknown") == (100e-6, 200e-6), "and may be the dearest"
    assert prices.of("claude-haiku-4-5") == tuple(usd / 1e6 for usd in LISTED["claude-haiku-4-5"])


def test_a_call_costs_its_tokens_and_one_that_was_cut_what_had_come() -> None:
    asked = Asked("claude-sonnet-4-5", max_tokens=1000)
    used = Used(input_tokens=1000, output_tokens=100, cache_read_tokens=10_000, cache_write_tokens=2000)
    whole = (1000 + 1000 + 2500) * 3e-6 + 100 * 15e-6
    assert Prices().cost(asked, used, 50_000) == pytest.approx(whole)
    cut = Used(input_tokens=1000, output_tokens=1, at_least=True)
    assert Prices().cost(asked, cut, 300) == pytest.approx(1000 * 3e-6 + 100 * 15e-6)
    assert Prices().cost(asked, cut, 10**9) == pytest.approx(1000 * 3e-6 + 1000 * 15e-6), "never more than it asked for"
    assert Prices().most(asked) == pytest.approx(0.015)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"max_tokens": "many"}', b"[" * 100_000, b"\xff"])
def test_a_body_that_says_nothing_is_no_error(body: bytes) -> None:
    assert Prices().most(read(body)) > 0
    assert Prices().most(Asked(max_tokens=-5)) == 0
