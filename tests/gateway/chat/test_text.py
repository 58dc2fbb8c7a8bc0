"""Cutting text: nothing lost, fences whole, limits kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.cutting import split
from gateway.chat.text import quote, seconds, shorten, units


def test_short_text_is_one_part() -> None:
    assert split("hi", 10) == ["hi"]
    assert split("", 10) == []


def test_an_open_fence_is_closed_and_opened_again() -> None:
    code = "\n".join(f"line_{n} = {n}" for n in range(200))
    parts = split(f"Before\n\n```python\n{code}\n```\n\nAfter", 900)
    assert len(parts) > 2
    for part in parts:
        assert len(part) <= 900
        assert part.count("```") % 2 == 0
    assert all(part.startswith("```python\n") for part in parts[1:-1])
    lines = [line for part in parts for line in part.split("\n") if line.startswith("line_")]
    assert lines == code.split("\n")


@given(st.lists(st.text(alphabet="ab `~\n", max_size=80), max_size=30), st.integers(700, 1600))
def test_no_word_is_lost_and_no_part_too_long(pieces: list[str], limit: int) -> None:
    text = "\n".join(pieces) * 3
    parts = split(text, limit)
    assert all(len(part) <= limit for part in parts)

    def letters(s: str) -> list[str]:
        return [letter for letter in s if letter in "ab"]

    assert letters("".join(parts)) == letters(text)


def test_a_word_longer_than_a_part_is_cut() -> None:
    parts = split("x" * 5000, 1600)
    assert "".join(parts) == "x" * 5000


@pytest.mark.parametrize(("value", "told"), [(3, "3 s"), (89, "89 s"), (180, "3 min"), (7500, "2 h 5 min")])
def test_durations(value: float, told: str) -> None:
    assert seconds(value) == told


def test_shorten_and_quote() -> None:
    assert shorten("a  b\nc", 20) == "a b c"
    assert quote("x" * 100, 10) == "“xxxxxxxxx…”"


FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG = "\U0001f1e9\U0001f1ea"


@pytest.mark.parametrize("one", [FAMILY, FLAG, "e\u0301", "\U0001f44b\U0001f3fd", "\u0928\u093f"])
def test_no_part_ends_within_a_character_and_each_is_as_short_as_a_platform_counts(one: str) -> None:
    text = one * 400
    parts = split(text, 100)
    assert "".join(parts) == text
    for part in parts:
        assert len(part.encode("utf-16-le")) // 2 <= 100
        assert part == one * (len(part) // len(one))


@given(st.text(max_size=400), st.integers(40, 120))
def test_whatever_is_written_fits(text: str, limit: int) -> None:
    assert all(units(part) <= limit for part in split(text, limit))
