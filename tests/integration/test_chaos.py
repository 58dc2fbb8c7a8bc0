"""A few short days of `tests/chaos.py`; `make chaos` plays as many as it is given."""

from __future__ import annotations

import pytest

from tests import chaos


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [2, 4, 5, 6])
async def test_a_bad_day_loses_and_doubles_nothing(seed: int) -> None:
    found, _ = await chaos.one(seed, steps=25)
    assert found == []
