"""An agent's document as safe Matrix HTML, and its text.

What an agent says may come from anywhere: nothing in it pings, fakes, hides or runs anything.
"""

from __future__ import annotations

import html as entities
import re
from collections.abc import Iterable, Sequence

import nh3

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
    return _blocks(parse(text).blocks)


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Decide whether to keep an attribute: a link to a person's address would show as a mention."""
    if tag == "a" and name == "href" and _PILL.match(value):
        return None
    if tag == "code" and not re.fullmatch(r"language-[\w+#.-]+", value):
        return None
    return value


# --- blocks ----------------------------------------------------------------------------------------------------------


def _blocks(blocks: Iterable[Block]) -> str:
    return "\n".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Paragraph(spans):
            return f"<p>{_line(spans)}</p>"
        case Heading(level, spans):
            return f"<h{level}>{_line(spans)}</h{level}>"
        case CodeBlock(text, language):
            kind = f' class="language-{_escaped(language)}"' if language else ""
            return f"<pre><code{kind}>{_escaped(text)}\n</code></pre>"
        case Quote(blocks):
            return f"<blockquote>\n{_blocks(blocks)}\n</blockquote>"
        case ListBlock(items, first):
            tag, start = ("ul", "") if first is None else ("ol", "" if first == 1 else f' start="{first}"')
            return f"<{tag}{start}>\n{''.join(map(_item, items))}</{tag}>"
        case Table(head, rows):
            body = f"<tbody>\n{''.join(_row(row, 'td') for row in rows)}</tbody>\n" if rows else ""
            return f"<table>\n<thead>\n{_row(head, 'th')}</thead>\n{body}</table>"
        case Rule():
            return "<hr>"


def _item(blocks: Sequence[Block]) -> str:
    """One item; a paragraph at its beginning needs no tag, unless another one follows."""
    if blocks and isinstance(blocks[0], Paragraph) and not any(isinstance(block, Paragraph) for block in blocks[1:]):
        rest = f"\n{_blocks(blocks[1:])}\n" if blocks[1:] else ""
        return f"<li>{_line(blocks[0].spans)}{rest}</li>\n"
    return f"<li>\n{_blocks(blocks)}\n</li>\n" if blocks else "<li></li>\n"


def _row(cells: Iterable[Sequence[Span]], tag: str) -> str:
    return "<tr>\n" + "".join(f"<{tag}>{_line(cell)}</{tag}>\n" for cell in cells) + "</tr>\n"


# --- within a line ---------------------------------------------------------------------------------------------------


def _line(spans: Iterable[Span]) -> str:
    return "".join(map(_span, spans))


def _span(span: Span) -> str:
    match span:
        case Text(words):
            return _escaped(words)
        case Code(words):
            return f"<code>{_escaped(words)}</code>"
        case Strong(spans):
            return f"<strong>{_line(spans)}</strong>"
        case Emphasis(spans):
            return f"<em>{_line(spans)}</em>"
        case Struck(spans):
            return f"<s>{_line(spans)}</s>"
        case Break():
            return "<br>\n"
        case Link():
            return _link(span)


def _link(link: Link) -> str:
    """Words never hide where they lead: an address that no client opens, or that they contradict, is shown too."""
    if not opens(link.address) or _PILL.match(link.address):
        shown = f"<code>{_escaped(link.address)}</code>"  # in code, no client makes a mention of it
        return shown if says_itself(link) else f"{_line(link.spans)} ({shown})"
    if poses(link):
        return f"{_line(link.spans)} ({_anchor(link.address, _escaped(told(link)))})"
    return _anchor(link.address, _line(link.spans) if bare(link.spans).strip() else _escaped(told(link)))


def _anchor(address: str, shown: str) -> str:
    href = _escaped(address).replace('"', "&quot;")
    return f'<a href="{href}" rel="noopener">{shown}</a>'


def _escaped(text: str) -> str:
    return entities.escape(text, quote=False).replace("\xa0", "&nbsp;")
