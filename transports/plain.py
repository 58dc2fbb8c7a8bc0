"""Text that acts on nobody's screen: for every platform that shows what an agent says."""

from __future__ import annotations

import re

# Colours and other orders to a terminal: ESC [ ... letter, ESC ] ... BEL or ESC \, and two-character escapes.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
# Controls but tab and line feed, halves of surrogate pairs, and what reorders the text around it.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """`text` with nothing in it that acts on a screen; never longer than before.

    Terminal sequences are taken out; other controls become U+FFFD, so that they are seen.
    """
    text = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _UNSEEN.sub("\ufffd", text)
