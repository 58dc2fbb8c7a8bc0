"""Text for people: without what acts on a screen, cut into parts that a platform takes, and in short forms."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

#: Characters of a message that another answers.
MAX_QUOTED = 4000

# Colours and other orders to a terminal: ESC [ ... letter, ESC ] ... BEL or ESC \, and two-character escapes.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
# Controls but tab and line feed, halves of surrogate pairs, and what reorders the text around it.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
#: Letters and digits that show what they are in any font; anything else in arguments is spelled out.
_PLAIN = {"\n", "\t"}


def plain(text: str) -> str:
    """`text` with nothing in it that acts on a screen; never longer than before.

    Terminal sequences are taken out; other controls become U+FFFD, so that they are seen.
    """
    text = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _UNSEEN.sub("\ufffd", text)


def shorten(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def quote(text: str, limit: int = 60) -> str:
    """A message named in another: its beginning, in quotes. None of it is markup."""
    return f"“{escaped(shorten(text, limit))}”"


def of_others(text: str) -> str:
    """Words that came with a message and are not its sender's, as a quotation: an agent sees whose they are, and no
    line of it can be taken for a command.
    """
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def verbatim(text: str) -> str:
    """A text that is a prompt whatever it says: never a command, nor an answer."""
    return f"prompt {text}" if text else ""


def pointed_at(author: str, text: str) -> str:
    """What a message answers, as a quotation with its author; empty where that is nothing."""
    text = text.strip()
    if not text:
        return ""
    cut = f"{text[:MAX_QUOTED].rstrip()} …" if len(text) > MAX_QUOTED else text
    return of_others(f"{' '.join(author.split()) or 'somebody'} wrote:\n{plain(cut)}")


def seconds(value: float) -> str:
    """A duration for people: 8 s, 3 min, 2 h 5 min."""
    whole = round(value)
    if whole < 90:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def unfenced(text: str) -> str:
    """A text that cannot end a code block that it is put into."""
    return re.sub("`{3,}", lambda found: " ".join(found[0]), text)


def fenced(text: str, language: str = "") -> str:
    """A code block that its text cannot end, in which nothing hides."""
    text = visible(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def code(text: object) -> str:
    """A text between backticks, on one line: as it is, whatever it means in Markdown."""
    return f"`{inline(text)}`"


def visible(text: str) -> str:
    """A text in which nothing is invisible or runs backwards: such characters are spelled out."""
    seen = "".join(_spell(character) for character in text)
    return seen if seen.isascii() else _unseen().sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", seen)


def is_seen(text: str) -> bool:
    """Whether a text shows anything at all."""
    return bool((text if text.isascii() else _unseen().sub("", text)).strip())


def _spell(character: str) -> str:
    if character in _PLAIN or character.isprintable():
        return character
    return f"⟨U+{ord(character):04X}⟩" if unicodedata.category(character) != "Zs" else " "


@lru_cache(1)
def _unseen() -> regex.Pattern[str]:
    """What Unicode calls printable, or a letter, and no font shows; not what picks the form of a picture before it."""
    import regex  # when something is not ASCII: most texts do without

    picked = r"(?<!\p{Extended_Pictographic})\p{Variation_Selector}"
    return regex.compile(rf"{picked}|[\p{{Default_Ignorable_Code_Point}}--\p{{Variation_Selector}}]|\u2800", regex.V1)


def inline(text: object) -> str:
    """Fit to stand between two backticks."""
    return " ".join(visible(str(text)).replace("`", "ʼ").split())


def escaped(text: object) -> str:
    """Fit to stand in a line of Markdown, as it is: a name is no markup."""
    return re.sub(r"([\\*_~\[\]<>&])", r"\\\1", inline(text))


def units(text: str) -> int:
    """The length of a text as platforms count it, in UTF-16: a picture is two characters or more."""
    return len(text) if text.isascii() else len(text) + sum(character > "\uffff" for character in text)


def place(text: str, room: int) -> int:
    """Where to cut so that at most `room` units come before: between words if that is not far, else characters."""
    head = text[:room]
    while (over := units(head) - room) > 0:
        head = head[: -max(1, over // 2)]
    for separator in ("\n\n", "\n", " "):
        at = head.rfind(separator)
        if at > len(head) // 2:
            return at + len(separator)
    return len(head) if head.isascii() else _whole(text, len(head))


#: How far before a cut it is looked for where one character ends, as people see it.
_LOOK = 100


def _whole(text: str, at: int) -> int:
    """The last place at `at` or before between two characters, as people see them: no family is torn apart."""
    import regex

    start = max(0, at - _LOOK)
    ends = [found.end() for found in regex.finditer(r"\X", text[start : at + _LOOK])]
    whole = [start + end for end in ends if end > 1 and start + end <= at]
    return whole[-1] if whole else at
