"""An agent's Markdown as Matrix text and safe HTML.

What an agent says may come from anywhere: nothing in it pings, fakes, hides or runs anything.
"""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt

from transports.plain import plain

__all__ = ["html", "plain"]

#: What Matrix clients render; no images, which would be fetched from places that an agent names.
_TAGS = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "blockquote", "pre", "code", "ul", "ol", "li"),
    *("strong", "em", "s", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "code": {"class"}}
_SCHEMES = {"http", "https", "mailto"}

_PILL = re.compile(r"(?:https?://)?(?:www\.)?matrix\.to/|matrix:", re.IGNORECASE)


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
