"""Questions at a terminal: a default in brackets, secrets unseen, `skip` to leave a part out."""

from __future__ import annotations

import getpass
import itertools
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

from gateway.errors import UserError

#: Prints a line, or several.
Say = Callable[[str], None]
#: What is wrong with an answer; empty: nothing.
Complain = Callable[[str], str]

_MASK = "••••"
#: Letters that are pleasant to read in one line.
_WIDTH = 100


class Skipped(Exception):
    """The person leaves this part out."""


class Asker:
    """Asks at the terminal of this process."""

    def __init__(self, say: Say) -> None:
        """Raises UserError where there is no terminal."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UserError(
                "huskies init asks its questions in a terminal, and this is not one; copy config.example.toml to "
                "~/.huskies/config.toml and fill it in"
            )
        self.say = say

    def tell(self, text: str, bullet: str = "") -> None:
        """Say prose, as wide as the terminal; lines of equal indentation are a paragraph, `bullet` begins the first."""
        width = min(shutil.get_terminal_size().columns, _WIDTH)
        for indent, paragraph in itertools.groupby(text.split("\n"), _indentation):
            words = " ".join(line.strip() for line in paragraph)
            self.say(
                textwrap.fill(
                    words,
                    width,
                    initial_indent=bullet or " " * indent,
                    subsequent_indent=" " * (len(bullet) or indent),
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
            bullet = " " * len(bullet)

    def ask(
        self,
        question: str,
        *,
        default: str = "",
        secret: bool = False,
        optional: bool = False,
        complain: Complain = lambda _: "",
    ) -> str:
        """One answer, asked for again while something is wrong with it.

        Args:
            question: what it is, in a few words.
            default: what Enter means; shown in brackets, masked for a secret.
            secret: is typed unseen, and never shown.
            optional: the answer may be empty; if there is a default, `-` means empty.
            complain: looks at an answer, also at the default.

        Raises:
            Skipped: `skip` was typed.
        """
        shown = masked(default) if secret and default else default
        shown += ", - for none" if optional and default else ""
        prompt = f"{question}{' (unseen)' if secret else ''}{f' [{shown}]' if shown else ''}: "
        while True:
            typed = (getpass.getpass(prompt) if secret else input(prompt)).strip()
            if typed.lower() == "skip":
                raise Skipped
            if optional and typed == "-":
                return ""
            answer = typed or default
            if not answer and not optional:
                self.tell("     This is needed; `skip` leaves this part out.")
            elif answer and (wrong := complain(answer)):
                self.tell(f"     {wrong}")
            else:
                return answer

    def choose(self, question: str, choices: Sequence[str], default: str) -> str:
        """One of a few words; it may be typed in part. Raises Skipped."""
        while True:
            typed = self.ask(f"{question} ({'/'.join(choices)})", default=default).lower()
            found = [choice for choice in choices if choice.startswith(typed)]
            if typed in choices or len(found) == 1:
                return typed if typed in choices else found[0]
            self.tell(f"     One of: {', '.join(choices)}")

    def yes(self, question: str, *, default: bool) -> bool:
        """Yes or no. `skip` is no."""
        try:
            return self.choose(question, ("yes", "no"), "yes" if default else "no") == "yes"
        except Skipped:
            return False


def _indentation(line: str) -> int:
    """Columns before the first word; -1 for an empty line, which ends a paragraph."""
    return len(line) - len(line.lstrip()) if line.strip() else -1


def masked(secret: str) -> str:
    """A secret that can be told from another one, by its last letters where it has enough of them."""
    return _MASK + (secret[-4:] if len(secret) >= 16 else "")
