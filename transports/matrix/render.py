"""An agent's document as safe Matrix HTML, and its text.

What an agent says may come from anywhere: nothing in it pings, fakes, hides or runs anything.
"""

from __future__ import annotations

import re

import nh3

from gateway.chat.html import Html
from gateway.chat.markdown import parse
from gateway.chat.text import plain

__all__ = ["html", "plain", "written"]

#: What Matrix clients render. No images: they would be fetched from places that an agent names.
_TAGS = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "blockquote", "pre", "code", "ul", "ol", "li"),
    *("strong", "em", "s", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "code": {"class"}}
_SCHEMES = {"http", "https", "mailto"}

_PILL = re.compile(r"(?:https?://)?(?:www\.)?matrix\.to/|matrix:", re.IGNORECASE)
#: A link to a person's address would show as a mention.
_HTML = Html(_PILL.match)


def html(text: str) -> str:
    """The HTML of an agent's Markdown; raw HTML in it shows as text."""
    # The last guard: there should be nothing for it to change.
    return nh3.clean(
        written(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes=_SCHEMES,
        link_rel="noopener",
    )


def written(text: str) -> str:
    """The HTML before its last guard."""
    return _HTML.blocks(parse(text).blocks)


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Decide whether to keep an attribute: a link to a person's address would show as a mention."""
    if tag == "a" and name == "href" and _PILL.match(value):
        return None
    if tag == "code" and not re.fullmatch(r"language-[\w+#.-]+", value):
        return None
    return value
