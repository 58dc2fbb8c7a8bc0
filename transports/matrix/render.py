"""An agent's Markdown as Matrix text and safe HTML.

What an agent says may come from anywhere: nothing in it pings, fakes, hides or runs anything.
"""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt

#: What Matrix clients render; no images, which would be fetched from places that an agent names.
_TAGS = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "blockquote", "pre", "code", "ul", "ol", "li"),
    *("strong", "em", "s", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "code": {"class"}}
_SCHEMES = {"http", "https", "mailto"}

# Colours and other orders to a terminal: ESC [ ... letter, ESC ] ... BEL or ESC \, and two-character escapes.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
# Controls but tab and line feed, halves of surrogate pairs, and what reorders the text around it.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_PILL = re.compile(r"(?:https?://)?(?:www\.)?matrix\.to/|matrix:", re.IGNORECASE)


def plain(text: str) -> str:
    """`text` with nothing in it that acts on a screen; never longer than before.

    Terminal sequences are taken out; other controls become U+FFFD, so that they are seen.
    """
    text = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _UNSEEN.sub("\ufffd", text)


def html(text: str) -> str:
    """The HTML of Markdown that went through `plain`; raw HTML in it shows as text."""
    return nh3.clean(
        _markdown().render(text).strip(),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes=_SCHEMES,
        link_rel="noopener",
    )


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Keep an attribute, or not: a link to a person's address would show as a mention."""
    if tag == "a" and name == "href" and _PILL.match(value):
        return None
    if tag == "code" and not re.fullmatch(r"language-[\w+#.-]+", value):
        return None
    return value


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    # A line break in a chat message is meant as one.
    options = {"html": False, "linkify": False, "breaks": True}
    return MarkdownIt("commonmark", options).enable(["table", "strikethrough"]).disable("image")
