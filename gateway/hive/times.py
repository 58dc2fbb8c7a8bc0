"""When: the words that people use for a moment, and for times that recur.

What may stand before the text of a command is a closed grammar: a sentence that only begins like one ("every time I
open it") is none. The words themselves are read by `dateparser`, recurrences by `cronsim`, which does what Debian's
cron does with a clock that is set: what is due in a missing hour is due when that is over, and what is due in an hour
that comes twice is due once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from gateway.errors import UserError

#: The hour of a day that is named without one.
_MORNING = "9:00"
#: Seconds: no schedule is due more often, and none is due later than that.
_SHORTEST_S, _FURTHEST_S = 60.0, 366 * 24 * 3600.0 * 2
#: Missed times that are counted; more are "more than".
MOST_MISSED = 1000

_UNITS = {
    "minutes": r"m|mins?|minutes?",
    "hours": r"h|hrs?|hours?",
    "days": r"d|days?",
    "weeks": r"w|weeks?",
}
_UNIT = "|".join(_UNITS.values())
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = r"mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs(?:day)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?"
_MONTH = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?"
)
_ORDINAL = r"\d{1,2}(?:st|nd|rd|th)?"
_CLOCK = r"\d{1,2}:\d{2}(?:\s?[ap]m)?|\d{1,2}\s?[ap]m|noon|midnight"
_HOUR = rf"(?:at\s+)?(?:{_CLOCK})|at\s+\d{{1,2}}(?!\S)"
_DURATION = rf"(?:in\s+)?(?:(?:\d{{1,4}}|an?)\s*(?:{_UNIT})(?=\d|\b)\s*(?:and\s+)?)+"
_DATE = (
    rf"today|tonight|tomorrow|(?:(?:on|next|this)\s+)?(?:{_DAY})|(?:on\s+)?\d{{4}}-\d{{2}}-\d{{2}}|next\s+week|"
    rf"(?:on\s+)?{_ORDINAL}\s+(?:of\s+)?(?:{_MONTH})(?:\s+\d{{4}})?|(?:on\s+)?(?:{_MONTH})\s+{_ORDINAL}(?:,?\s+\d{{4}})?"
)
_MOMENT = rf"(?:{_DATE})\s+(?:{_HOUR})|(?:{_HOUR})\s+(?:on\s+)?(?:{_DATE})|{_DURATION}|{_DATE}|{_HOUR}"
_SOME_DAYS = rf"(?:{_DAY})s?(?:\s*(?:,|and|,\s*and)\s*(?:{_DAY})s?)*"
_REGULAR = rf"(?P<days>day|weekdays?|weekends?|{_ORDINAL}(?:\s+of\s+the\s+month)?|{_SOME_DAYS})\s+(?P<hour>{_HOUR})"
_CRON = r"(?:cron\s+)?(?P<cron>[\d*][\d*,/-]*\s+[\d*][\d*,/-]*(?:\s+[\dA-Za-z*][\w*,/#-]*){3})"
_EACH = rf"(?P<each>(?P<count>\d{{1,4}})\s*(?P<unit>{_UNIT}))\b"

_LEADING_MOMENT = re.compile(rf"(?:me\s+)?(?P<when>{_MOMENT})(?=[\s,:]|$)[\s,:]*(?:to\s+)?(?P<rest>.*)", re.I | re.S)
_LEADING_TIMES = re.compile(rf"(?P<when>{_CRON}|{_EACH}|{_REGULAR})(?=[\s,:]|$)[\s,:]*(?P<rest>.*)", re.I | re.S)
_TIMES = re.compile(rf"{_CRON}|{_EACH}|{_REGULAR}", re.I)
_ONLY_DURATION = re.compile(_DURATION, re.I)
_HAS_HOUR = re.compile(rf"(?:{_HOUR})", re.I)
_BARE_HOUR = re.compile(r"\bat\s+(\d{1,2})(?![\d:]|\s?[ap]m)", re.I)


def leading_moment(text: str) -> tuple[str, str] | None:
    """The words for a moment that a text begins with, and the rest of it; None if it does not begin so."""
    found = _LEADING_MOMENT.fullmatch(text.strip())
    return None if found is None else (found["when"].strip(), found["rest"].strip())


def leading_times(text: str) -> tuple[str, str] | None:
    """The words for recurring times that a text begins with, and the rest of it; None if it does not begin so."""
    found = _LEADING_TIMES.fullmatch(text.strip())
    return None if found is None else (found["when"].strip(), found["rest"].strip())


def moment(words: str, now: float, zone: ZoneInfo) -> float:
    """The stamp that words mean, for somebody whose clocks show `zone`. Slow at first. Raises UserError."""
    import dateparser

    duration = _ONLY_DURATION.fullmatch(words.strip()) is not None
    # A duration is so long whatever clocks do meanwhile; a time of day is what clocks show.
    base = datetime.fromtimestamp(now, UTC if duration else zone).replace(tzinfo=None)
    spelled = _BARE_HOUR.sub(r"at \1:00", words)
    if not duration and _HAS_HOUR.search(spelled) is None and "tonight" not in spelled.lower():
        spelled += f" {_MORNING}"
    if duration and not spelled.lower().startswith("in "):
        spelled = f"in {spelled}"
    settings = {"PREFER_DATES_FROM": "future", "RELATIVE_BASE": base, "PARSERS": ["relative-time", "absolute-time"]}
    read: datetime | None = dateparser.parse(spelled, languages=["en"], settings=settings)
    if read is None:
        raise UserError(f"That is not a time: {words}. Type, for example, `2h`, `tomorrow 9:00` or `friday at 17:00`.")
    if read <= base and re.fullmatch(_HOUR, words.strip(), re.I):  # no day is named: the next time that clocks show it
        read += timedelta(days=1)
    at = read.replace(tzinfo=UTC if duration else zone).timestamp()
    if at <= now:
        raise UserError(f"{words} is past: that was {shown(at, zone)}. Name the time, too, for example `today 17:00`.")
    if at - now > _FURTHEST_S:
        raise UserError(f"{words} is more than two years from now: {shown(at, zone)}.")
    return at


@dataclass(frozen=True, slots=True)
class Times:
    """Times that recur: by a cron line in a time zone, or every so many seconds from when it was made."""

    cron: str
    every_s: float
    zone: str

    @classmethod
    def of(cls, words: str, zone: str) -> Times:
        """Read them. Raises UserError."""
        found = _TIMES.fullmatch(words.strip())
        if found is None:
            raise UserError(f"These are no times: {words}. Type, for example, `weekdays 8:30`, `2h` or `0 9 * * 1-5`.")
        if found["each"]:
            return cls("", _seconds(found["count"], found["unit"]), zone)
        line = found["cron"] or _cron(found["days"].lower(), found["hour"])
        try:
            CronSim(line, datetime.now(UTC))
        except CronSimError as error:
            raise UserError(
                f"`{line}` is not a cron line: {error}. Five fields: minute hour day month weekday."
            ) from error
        return cls(line, 0.0, zone)

    def after(self, stamp: float) -> Iterator[float]:
        """Every time after a stamp, the first one first; it may end."""
        if not self.cron:
            while True:
                stamp += self.every_s
                yield stamp
        for at in CronSim(self.cron, datetime.fromtimestamp(stamp, _zone(self.zone))):
            yield at.timestamp()

    def next(self, due: float, now: float) -> tuple[float | None, int]:
        """After a time that was due: the first one that is still to come, if any; and how many passed since."""
        missed = 0
        for at in self.after(due):
            if at > now:
                return at, missed
            missed += 1
            if missed > MOST_MISSED:
                return next(iter(self._far_after(due, now)), None), missed
        return None, missed

    def _far_after(self, due: float, now: float) -> Iterator[float]:
        if self.cron:
            return self.after(now)
        return self.after(due + (now - due) // self.every_s * self.every_s)


def shown(at: float, zone: ZoneInfo) -> str:
    """A stamp, as a person's clocks show it."""
    there = datetime.fromtimestamp(at, zone)
    return f"{there:%a} {there:%Y-%m-%d %H:%M} ({zone.key})"


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _seconds(count: str, unit: str) -> float:
    (name,) = (name for name, words in _UNITS.items() if re.fullmatch(words, unit, re.I))
    found = timedelta(**{name: int(count)}).total_seconds()
    if not _SHORTEST_S <= found <= _FURTHEST_S:
        raise UserError("That is too often, or too seldom: between a minute and two years, please.")
    return found


def _cron(days: str, hour: str) -> str:
    clock = _clock(hour)
    if days == "day":
        return f"{clock} * * *"
    if days.startswith("weekday"):
        return f"{clock} * * 1-5"
    if days.startswith("weekend"):
        return f"{clock} * * 6,0"
    if days[0].isdigit():
        of_month = int(re.match(r"\d+", days)[0])  # type: ignore[index]  # it begins with one
        if not 1 <= of_month <= 31:
            raise UserError(f"No month has a day {of_month}.")
        return f"{clock} {of_month} * *"
    named = re.findall(_DAY, days)
    numbers = [next(n for n, day in enumerate(_DAYS, 1) if day.startswith(name[:3])) % 7 for name in named]
    return f"{clock} * * {','.join(str(number) for number in dict.fromkeys(numbers))}"


def _clock(words: str) -> str:
    """Minute and hour, as cron has them. Raises UserError."""
    said = words.lower().removeprefix("at").strip()
    if said in ("noon", "midnight"):
        return "0 12" if said == "noon" else "0 0"
    found = re.fullmatch(r"(\d{1,2})(?::(\d{2}))?\s?([ap]m)?", said)
    assert found is not None
    hour, minute = int(found[1]), int(found[2] or 0)
    if found[3]:
        hour = hour % 12 + (12 if found[3] == "pm" else 0) if 1 <= hour <= 12 else 99
    if hour > 23 or minute > 59:
        raise UserError(f"No clock shows {words}.")
    return f"{minute} {hour}"
