"""A document as HTML: nothing in it pings, fakes, hides, fetches or runs anything. Pure."""

from __future__ import annotations

import html as entities
from collections.abc import Callable, Iterable, Sequence

from gateway.chat.document import (
    Block,
    Break,
    Code,
    CodeBlock,
    Emphasis,
    Heading,
    Link,
    ListBlock,
    Paragraph,
    Quote,
    Rule,
    Span,
    Strong,
    Struck,
    Table,
    Text,
    bare,
    opens,
    poses,
    says_itself,
    told,
)


class Html:
    """Writes documents. `refuses`: addresses that are shown, and lead nowhere, as a client would make more of them."""

    def __init__(self, refuses: Callable[[str], object] = lambda _: False) -> None:
        self._refuses = refuses

    def blocks(self, blocks: Iterable[Block]) -> str:
        """All of a document."""
        return "\n".join(map(self._block, blocks))

    def _block(self, block: Block) -> str:
        match block:
            case Paragraph(spans):
                return f"<p>{self._line(spans)}</p>"
            case Heading(level, spans):
                return f"<h{level}>{self._line(spans)}</h{level}>"
            case CodeBlock(text, language):
                kind = f' class="language-{escaped(language)}"' if language else ""
                return f"<pre><code{kind}>{escaped(text)}\n</code></pre>"
            case Quote(blocks):
                return f"<blockquote>\n{self.blocks(blocks)}\n</blockquote>"
            case ListBlock(items, first):
                tag, start = ("ul", "") if first is None else ("ol", "" if first == 1 else f' start="{first}"')
                return f"<{tag}{start}>\n{''.join(map(self._item, items))}</{tag}>"
            case Table(head, rows):
                body = f"<tbody>\n{''.join(self._row(row, 'td') for row in rows)}</tbody>\n" if rows else ""
                return f"<table>\n<thead>\n{self._row(head, 'th')}</thead>\n{body}</table>"
            case Rule():
                return "<hr>"

    def _item(self, blocks: Sequence[Block]) -> str:
        """One item; a paragraph at its beginning needs no tag, unless another one follows."""
        if blocks and isinstance(blocks[0], Paragraph) and not any(isinstance(one, Paragraph) for one in blocks[1:]):
            rest = f"\n{self.blocks(blocks[1:])}\n" if blocks[1:] else ""
            return f"<li>{self._line(blocks[0].spans)}{rest}</li>\n"
        return f"<li>\n{self.blocks(blocks)}\n</li>\n" if blocks else "<li></li>\n"

    def _row(self, cells: Iterable[Sequence[Span]], tag: str) -> str:
        return "<tr>\n" + "".join(f"<{tag}>{self._line(cell)}</{tag}>\n" for cell in cells) + "</tr>\n"

    # --- within a line -----------------------------------------------------------------------------------------------

    def _line(self, spans: Iterable[Span]) -> str:
        return "".join(map(self._span, spans))

    def _span(self, span: Span) -> str:
        match span:
            case Text(words):
                return escaped(words)
            case Code(words):
                return f"<code>{escaped(words)}</code>"
            case Strong(spans):
                return f"<strong>{self._line(spans)}</strong>"
            case Emphasis(spans):
                return f"<em>{self._line(spans)}</em>"
            case Struck(spans):
                return f"<s>{self._line(spans)}</s>"
            case Break():
                return "<br>\n"
            case Link():
                return self._link(span)

    def _link(self, link: Link) -> str:
        """Words never hide where they lead: an address that no client opens, or that they contradict, is shown too."""
        if not opens(link.address) or self._refuses(link.address):
            shown = f"<code>{escaped(link.address)}</code>"  # in code, no client makes a mention of it
            return shown if says_itself(link) else f"{self._line(link.spans)} ({shown})"
        if poses(link):
            return f"{self._line(link.spans)} ({_anchor(link.address, escaped(told(link)))})"
        return _anchor(link.address, self._line(link.spans) if bare(link.spans).strip() else escaped(told(link)))


def _anchor(address: str, shown: str) -> str:
    href = escaped(address).replace('"', "&quot;")
    return f'<a href="{href}" rel="noopener">{shown}</a>'


def escaped(text: str) -> str:
    """Words as they are, between tags."""
    return entities.escape(text, quote=False).replace("\xa0", "&nbsp;")
