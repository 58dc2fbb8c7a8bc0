"""What each platform is sent for the cases in tests/transports/goldens, and how it is written down.

    python -m tests.support.goldens     write all of them anew; then read the difference as a person on that platform

A case is Markdown in `<case>.md`; beside it stands a file for each platform. What cannot be seen is spelled out in all
of them: escape is ␛, and any other character without a shape of its own its number, such as ⟦202e⟧.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from gateway.chat.cutting import split
from transports.matrix import config as matrix_config
from transports.matrix import render as matrix
from transports.slack import config as slack_config
from transports.slack import render as slack
from transports.terminal import styled
from transports.whatsapp import config as whatsapp_config
from transports.whatsapp import render as whatsapp

FOLDER = Path(__file__).parents[1] / "transports" / "goldens"
CASES = sorted(path.stem for path in FOLDER.glob("*.md"))
COLUMNS = 80

#: Stands between messages, and between the sections of one.
_BETWEEN = "\n⟦{}⟧\n"
#: Without a shape, and harmless: what emoji and several scripts are written with, and a flag's letters.
_LEFT = {"\n", "\t", "\u200c", "\u200d", *map(chr, range(0xE0020, 0xE0080))}


def _messages(text: str, most: int, shown: Callable[[str], str]) -> str:
    return _BETWEEN.format("message").join(shown(part) for part in split(text, most))


def _slack(text: str) -> str:
    return _BETWEEN.format("section").join(piece for piece, _ in slack.pieces(text))


#: What a platform gets for a text, by the end of the file's name.
PLATFORMS: dict[str, Callable[[str], str]] = {
    "matrix.html": lambda text: _messages(text, matrix_config.MAX_TEXT, matrix.html),
    "slack.txt": lambda text: _messages(text, slack_config.MAX_TEXT, _slack),
    "whatsapp.txt": lambda text: _messages(
        text, whatsapp_config.MAX_TEXT, lambda part: whatsapp.formatted(part, whatsapp_config.MAX_TEXT)
    ),
    "console.txt": lambda text: styled(text, COLUMNS),
}


def case(name: str) -> str:
    """The Markdown of a case, as an agent would say it."""
    text = (FOLDER / f"{name}.md").read_text().removesuffix("\n").replace("␛", "\x1b")
    return re.sub(r"⟦([0-9a-f]+)⟧", lambda found: chr(int(found[1], 16)), text)


def golden(name: str, platform: str) -> Path:
    """The file that holds what a platform is sent."""
    return FOLDER / f"{name}.{platform}"


def made(name: str, platform: str) -> str:
    """The content of that file, as the code writes it now."""
    shown = PLATFORMS[platform](case(name)).replace("\x1b", "␛")
    return "".join(letter if _seen(letter) else f"⟦{ord(letter):x}⟧" for letter in shown) + "\n"


def _seen(letter: str) -> bool:
    return letter in _LEFT or unicodedata.category(letter) not in ("Cc", "Cf", "Cs")


def main() -> None:
    """Write all goldens anew, and remove those without a case."""
    kept = {golden(name, platform) for name in CASES for platform in PLATFORMS}
    for path in kept:
        name, _, platform = path.name.partition(".")
        path.write_text(made(name, platform))
    for path in FOLDER.iterdir():
        if path.suffix != ".md" and path not in kept:
            path.unlink()


if __name__ == "__main__":
    main()
