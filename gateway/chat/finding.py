"""What a look at something outside found, in words that say what to click or type.

`huskies doctor` and `huskies init` show the same findings; transports make them, and know nothing of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

from gateway.chat.text import seconds

#: Seconds that one look may take.
LOOK_S = 10.0
#: Seconds between two clocks that nobody needs to hear of: a date in a header is whole seconds, and took its time.
_SAME_CLOCK_S = 60.0


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    HINT = "hint"  # something is missing that is not needed, or could not be looked at from here
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `name` is one word, such as `slack.scopes`; `text` is one line."""

    name: str
    verdict: Verdict
    text: str

    @property
    def broken(self) -> bool:
        """Whether something does not work that has to."""
        return self.verdict is Verdict.BROKEN

    @property
    def line(self) -> str:
        """The finding as people see it."""
        shown = self.verdict.upper() if self.broken else self.verdict
        return f"{shown:<6} {self.name}: {self.text}"


def ok(name: str, text: str = "ok") -> Finding:
    """All is well."""
    return Finding(name, Verdict.OK, text)


def hint(name: str, text: str) -> Finding:
    """Worth knowing; it works all the same, or nobody can tell from here."""
    return Finding(name, Verdict.HINT, text)


def broken(name: str, text: str) -> Finding:
    """It does not work until a person acts."""
    return Finding(name, Verdict.BROKEN, text)


def clock(
    name: str, whose: str, headers: Mapping[str, str], ours: float, *, refused_above_s: float | None = None
) -> list[Finding]:
    """Compare this host's clock with the `Date` in an answer's headers; nothing where there is none to compare.

    Args:
        name: of the finding.
        whose: the other clock's owner, for people.
        headers: of the answer, in any case.
        ours: this host's time when the answer came, in seconds since 1970.
        refused_above_s: the difference from which on requests are refused; None: none ever is.
    """
    date = next((value for key, value in headers.items() if key.lower() == "date"), "")
    try:
        skew_s = ours - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return []
    if abs(skew_s) <= _SAME_CLOCK_S:
        return [ok(name)]
    # Whole minutes where there are any: the date has lost its fraction on the way.
    apart = seconds(round(abs(skew_s) / 60) * 60 if abs(skew_s) >= 90 else abs(skew_s))
    told = f"this host's clock is {apart} {'ahead of' if skew_s > 0 else 'behind'} {whose}'s"
    mend = "set it by the network; type: timedatectl set-ntp true"
    if refused_above_s is None:
        return [hint(name, f"{told}; {mend}")]
    if abs(skew_s) <= refused_above_s:
        limit = seconds(refused_above_s)
        return [hint(name, f"{told}; beyond {limit} its requests are refused as too old. So {mend}")]
    return [broken(name, f"{told}, so its requests are refused as too old or too new; {mend}")]
