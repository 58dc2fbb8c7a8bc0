"""Words for times: what is one, what is prose, and what clocks that are set do to it."""

from __future__ import annotations

from datetime import datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UserError
from gateway.hive.times import Times, leading_moment, leading_times, moment, shown

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 12, 1, 12, 0, tzinfo=BERLIN).timestamp()  # a Tuesday


def at(stamp: float | None, zone: ZoneInfo = BERLIN) -> str:
    assert stamp is not None
    return shown(stamp, zone).partition(" (")[0]


@pytest.mark.parametrize(
    ("text", "words", "rest", "due"),
    [
        ("2h look at it", "2h", "look at it", "Tue 2026-12-01 14:00"),
        ("in 2 hours to look", "in 2 hours", "look", "Tue 2026-12-01 14:00"),
        ("1h30m tea", "1h30m", "tea", "Tue 2026-12-01 13:30"),
        ("an hour and 5 minutes: tea", "an hour and 5 minutes", "tea", "Tue 2026-12-01 13:05"),
        ("me tomorrow at 9 to call", "tomorrow at 9", "call", "Wed 2026-12-02 09:00"),
        ("tomorrow, call", "tomorrow", "call", "Wed 2026-12-02 09:00"),
        ("friday ship it", "friday", "ship it", "Fri 2026-12-04 09:00"),
        ("on Friday at 17:00 ship", "on Friday at 17:00", "ship", "Fri 2026-12-04 17:00"),
        ("next monday 8:30 review", "next monday 8:30", "review", "Mon 2026-12-07 08:30"),
        ("10:30 tomorrow x", "10:30 tomorrow", "x", "Wed 2026-12-02 10:30"),
        ("5pm tea", "5pm", "tea", "Tue 2026-12-01 17:00"),
        ("noon eat", "noon", "eat", "Wed 2026-12-02 12:00"),
        ("11:00 x", "11:00", "x", "Wed 2026-12-02 11:00"),
        ("dec 24 at 10 presents", "dec 24 at 10", "presents", "Thu 2026-12-24 10:00"),
        ("2027-02-01 10:00 x", "2027-02-01 10:00", "x", "Mon 2027-02-01 10:00"),
    ],
)
def test_a_moment_and_the_text_behind_it(text: str, words: str, rest: str, due: str) -> None:
    assert leading_moment(text) == (words, rest)
    assert at(moment(words, NOW, BERLIN)) == due


@pytest.mark.parametrize(
    ("text", "words", "cron"),
    [
        ("weekdays 8:30 look", "weekdays 8:30", "30 8 * * 1-5"),
        ("day at 9 x", "day at 9", "0 9 * * *"),
        ("weekend 10am x", "weekend 10am", "0 10 * * 6,0"),
        ("mon, wed and friday at 17:00 x", "mon, wed and friday at 17:00", "0 17 * * 1,3,5"),
        ("sundays midnight x", "sundays midnight", "0 0 * * 0"),
        ("15th 12am pay", "15th 12am", "0 0 15 * *"),
        ("1st of the month at 9 pay", "1st of the month at 9", "0 9 1 * *"),
        ("*/5 8-18 * * MON-FRI x", "*/5 8-18 * * MON-FRI", "*/5 8-18 * * MON-FRI"),
    ],
)
def test_recurring_times_are_cron_lines(text: str, words: str, cron: str) -> None:
    found = leading_times(text)
    assert found is not None and found[0] == words
    assert Times.of(words, "Europe/Berlin").cron == cron


@pytest.mark.parametrize(
    "text",
    ["me to call", "me", "2 files are broken", "next time x", "a while", "may be later", "at once", "9 things", ""],
)
def test_prose_is_no_moment(text: str) -> None:
    assert leading_moment(text) is None


@pytest.mark.parametrize(
    "text",
    ["time I open it", "day I lose", "hour it fails", "other day 9:00", "file in src", "1 of the tests fails", "10s x"],
)
def test_prose_is_no_recurrence(text: str) -> None:
    assert leading_times(text) is None


@pytest.mark.parametrize("words", ["today 9:00", "yesterday", "2020-01-01 9:00", "2040-01-01 9:00"])
def test_a_moment_that_cannot_be_is_told(words: str) -> None:
    with pytest.raises(UserError, match=r"past|not a time|two years"):
        moment(words, NOW, BERLIN)


@pytest.mark.parametrize(
    "words", ["60 9 * * *", "0 9 * * 9", "25:00", "day 25:00", "day 13pm", "31 31 31 31 31", "40th 9:00"]
)
def test_times_that_cannot_be_are_told(words: str) -> None:
    with pytest.raises(UserError):
        Times.of(words, "Europe/Berlin")


def test_a_time_that_clocks_leave_out_is_due_when_the_hour_is_over() -> None:
    """On 2027-03-28 Berlin has no 2:30."""
    before = datetime(2027, 3, 26, 12, 0, tzinfo=BERLIN).timestamp()
    found = [at(stamp) for stamp in islice(Times.of("day 2:30", "Europe/Berlin").after(before), 3)]
    assert found == ["Sat 2027-03-27 02:30", "Sun 2027-03-28 03:00", "Mon 2027-03-29 02:30"]
    assert at(moment("2027-03-28 2:30", before, BERLIN)) == "Sun 2027-03-28 03:30"


def test_a_time_that_clocks_show_twice_is_due_once() -> None:
    """On 2026-10-25 Berlin has 2:30 twice."""
    before = datetime(2026, 10, 23, 12, 0, tzinfo=BERLIN).timestamp()
    stamps = list(islice(Times.of("day 2:30", "Europe/Berlin").after(before), 3))
    assert [at(stamp)[:14] for stamp in stamps] == ["Sat 2026-10-24", "Sun 2026-10-25", "Mon 2026-10-26"]
    assert [later - earlier for earlier, later in pairwise(stamps)] == [24 * 3600, 25 * 3600]


def test_a_duration_is_so_long_whatever_clocks_do() -> None:
    evening = datetime(2027, 3, 27, 23, 0, tzinfo=BERLIN).timestamp()
    assert moment("in 6h", evening, BERLIN) - evening == 6 * 3600
    assert at(Times.of("6h", "Europe/Berlin").next(evening, evening)[0]) == "Sun 2027-03-28 06:00"


def test_what_was_missed_is_counted_and_the_next_one_is_to_come() -> None:
    times = Times.of("weekdays 8:30", "Europe/Berlin")
    due = datetime(2026, 11, 27, 8, 30, tzinfo=BERLIN).timestamp()  # a Friday
    following, missed = times.next(due, NOW)
    assert (at(following), missed) == ("Wed 2026-12-02 08:30", 2)
    following, missed = Times.of("1m", "Europe/Berlin").next(NOW, NOW + 90 * 24 * 3600 + 30)
    assert (following, missed) == (NOW + 90 * 24 * 3600 + 60, 1001)


@given(
    st.floats(min_value=1.6e9, max_value=2e9),
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 0 29 2 *", "0 9 31 * *"]),
)
def test_the_next_time_is_always_to_come(now: float, cron: str) -> None:
    following, _ = Times.of(cron, "Europe/Berlin").next(now - 3 * 24 * 3600, now)
    assert following is not None and following > now
