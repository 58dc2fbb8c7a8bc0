"""What agents and the gateway say, as the page has it: Markdown as HTML, its code in colours."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from gateway.chat.document import Block, Code, CodeBlock, Span
from gateway.chat.html import Html, escaped
from gateway.chat.markdown import parse

if TYPE_CHECKING:
    from pygments.formatter import Formatter
    from pygments.lexer import Lexer

#: Names of what is shown beside its name.
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
#: Characters of code that are coloured; of longer ones none are.
_MOST = 50_000


class _Page(Html):
    def __init__(self, link: Callable[[str], str]) -> None:
        super().__init__()
        self._leads = link

    def _span(self, span: Span) -> str:
        if isinstance(span, Code) and (address := self._leads(span.words)):
            shown = f'<a href="{html.escape(address)}">{super()._span(span)}</a>'
            if not span.words.lower().endswith(_PICTURES):
                return shown
            picture = f'<img src="{html.escape(address)}?raw=1" alt="{html.escape(span.words)}" loading="lazy">'
            return f'{shown} <span class="file">{picture}</span>'
        return super()._span(span)

    def _block(self, block: Block) -> str:
        if not isinstance(block, CodeBlock):
            return super()._block(block)
        return (
            '<div class="code"><button type="button" class="copy" data-copy>Copy</button>'
            f'<pre tabindex="0"><code>{coloured(block.text, block.language)}\n</code></pre></div>'
        )


def written(text: str, link: Callable[[str], str] = lambda _: "") -> str:
    """A Markdown text as HTML: raw HTML in it is text. `link`: where words of code lead; empty: nowhere."""
    return _Page(link).blocks(parse(text).blocks)


def file(text: str, name: str) -> str:
    """A file's text as HTML, in the colours of what its name says that it is; each line is whole."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.util import ClassNotFound

    try:
        lexer = None if len(text) > _MOST else get_lexer_for_filename(name, stripnl=False)
    except ClassNotFound:
        lexer = None
    if lexer is None:
        return escaped(text.removesuffix("\n"))
    from pygments import highlight

    return highlight(text, lexer, _formatter()).removesuffix("\n")


@lru_cache(maxsize=512)
def coloured(text: str, language: str) -> str:
    """Code as HTML; as it is where its language is not known. While an answer grows, most of its code is the same."""
    lexer = None if len(text) > _MOST or not language else _lexer(language.lower()[:40])
    if lexer is None:
        return escaped(text)
    from pygments import highlight

    return highlight(text, lexer, _formatter()).rstrip("\n")


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    # Loaded by the first code that is shown, not by the start.
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return None


@cache
def _formatter() -> Formatter[str]:
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(nowrap=True, classprefix="c-")
