"""Answers that can be tapped: reactions that the bot puts below its questions, and what people mean by them."""

from __future__ import annotations

from collections.abc import Sequence

#: What each choice looks like; where a word has several, the bot offers the first.
_EMOJI = {
    "allow": ("✅", "👍"),
    "allow session": ("🔁",),
    "deny": ("❌", "👎"),
    **{str(number): (f"{number}\ufe0f\u20e3",) for number in range(1, 10)},
}
_WORDS = {emoji.replace("\ufe0f", ""): word for word, emojis in _EMOJI.items() for emoji in emojis}


def offered(choices: Sequence[str]) -> list[str]:
    """The emojis for a question's choices, in order."""
    return [_EMOJI[choice][0] for choice in choices if choice in _EMOJI]


def meant(emoji: object) -> str:
    """The choice that an emoji stands for; empty for any other."""
    return _WORDS.get(emoji.replace("\ufe0f", ""), "") if isinstance(emoji, str) else ""
