"""What agents and the gateway say, as the page has it."""

from __future__ import annotations

from gateway.chat.html import Html
from gateway.chat.markdown import parse

_HTML = Html()


def written(text: str) -> str:
    """A Markdown text as HTML: raw HTML in it is text."""
    return _HTML.blocks(parse(text).blocks)
