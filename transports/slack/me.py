"""The bot itself: who it is in its workspace, and when a text means it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Me:
    """The bot, its workspace, what people call it, and the apps through which they may type commands."""

    user_id: str
    team_id: str
    names: tuple[str, ...]
    apps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the bot is called in Slack."""
        return next(iter(self.names), self.user_id)

    def unaddressed(self, raw: str) -> tuple[str, bool]:
        """A text without a mention or "huskies:" at its beginning, or a mention at its end; and whether it names us.

        Mentions elsewhere stay in the text.
        """
        named = f"<@{self.user_id}" in raw
        around, called = _patterns(self.user_id, self.names)
        rest = around.sub("", raw) if named else raw
        found = called.match(rest)
        return (rest[found.end() :], True) if found else (rest, named)


@lru_cache(maxsize=4)
def _patterns(user_id: str, names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Mentions around a text, and a name at its beginning."""
    one = rf"<@{re.escape(user_id)}(?:\|[^<>\n]*)?>"
    either = "|".join(re.escape(name) for name in sorted({user_id, *names}, key=len, reverse=True))
    around = re.compile(rf"^\s*(?:{one}[:,]*\s*)+|(?:\s*{one})+\s*$")
    return around, re.compile(rf"\s*@?(?:{either})(?:[:,]+(?=\s|$)|(?=\s|$))\s*", re.IGNORECASE)
