"""What agents and the gateway say, as the page has it: Markdown as HTML, its code in colours."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from gateway.chat.document import Block, CodeBlock
from gateway.chat.html import Html, escaped
from gateway.chat.markdown import parse

if TYPE_CHECKING:
    from pygments.formatter import Formatter
    from pygments.lexer import Lexer

#: Characters of code that are coloured; of longer ones none are.
_MOST = 50_000


class _Page(Html):
    def _block(self, block: Block) -> str:
        if not isinstance(block, CodeBlock):
            return super()._block(block)
        return (
            '<div class="code"><button type="button" class="copy" data-copy>Copy</button>'
            f'<pre tabindex="0"><code>{coloured(block.text, block.language)}\n</code></pre></div>'
        )


_HTML = _Page()


def written(text: str) -> str:
    """A Markdown text as HTML: raw HTML in it is text."""
    return _HTML.blocks(parse(text).blocks)


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
