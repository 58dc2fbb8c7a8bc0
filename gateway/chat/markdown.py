"""Markdown becomes a document: the only place that knows how Markdown is read. Pure.

Raw HTML is words, and so are definitions and comments, which Markdown would hide. What is left out: whatever follows
the opening of a fence but a language, the title of a link, where an image within a link leads, and cells beyond the
last column of a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from gateway.chat.document import (
    Align,
    Block,
    Blocks,
    Break,
    Code,
    CodeBlock,
    Document,
    Emphasis,
    Heading,
    Link,
    ListBlock,
    Paragraph,
    Quote,
    Rule,
    Span,
    Spans,
    Strong,
    Struck,
    Table,
    Text,
    bare,
)
from gateway.chat.text import plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

#: Characters above which a text, and levels of blocks above which it is not formatted any more.
_MOST = 100_000
_DEEPEST = 30

_ALIGNED: dict[str, Align] = {f"text-align:{side}": side for side in ("left", "center", "right")}
_LANGUAGE = re.compile(r"[\w+#.-]+")
#: After it, a star is a sign: 2*3*4, /*code*/; as it is before a dot: *.py.
_BEFORE_SIGN = re.compile(r"[0-9A-Za-z/]")
_MARKS: dict[str, type[Strong] | type[Emphasis] | type[Struck]] = {"strong": Strong, "em": Emphasis, "s": Struck}
#: What follows `http` or `https` in an address without brackets around it; square ones may be the end of a label.
_REST = re.compile(r"://(?:\[[0-9a-f:.]+\]|[^\W_])[^\s<>|\"`\[\]\\\ufffd]*", re.IGNORECASE)
_SCHEME = re.compile(r"(?<![^\W_])https?$", re.IGNORECASE)
#: Brackets that may be links: the parser looks from each of them to the end.
_MOST_BRACKETS = 4_000
#: Names of Python's between two underscores on each side; others are names where a path or a call is around them.
_KNOWN = (
    "all annotations call class delattr del dict doc enter eq exit file future getattr getitem hash init iter len main "
    "module name new next pycache qualname repr setattr setitem slots str version wrapped post_init"
)
_DUNDER = re.compile(
    rf"__(?:(?:{_KNOWN.replace(' ', '|')})__(?!\w)|[A-Za-z]\w*?__(?=\.\w|[/(]))|(?<=[/.])__[A-Za-z]\w*?__(?!\w)"
)
_WORD = re.compile(r"\w")
#: What ends a sentence rather than an address.
_BEHIND = frozenset(".,:;!?'*_~}…。，、；：！？）」』】")


def parse(markdown: str) -> Document:
    """The document of an agent's Markdown. Any text is one, in time that grows with its length.

    What is too large or too deep to be formatted becomes one paragraph, as it was said.
    """
    text = plain(markdown)
    small = len(text) <= _MOST and text.count("[") <= _MOST_BRACKETS
    tokens = _markdown().parse(text) if small else None
    if tokens is None or any(token.level >= _DEEPEST - 1 for token in tokens):
        return Document(_as_said(text))
    return Document(_blocks(iter(tokens)))


def reader(text: str) -> Sequence[Token]:
    """The blocks of a text, in the lines that they take; what is in them is not looked at."""
    tokens: list[Token] = []
    made = _markdown()
    made.block.parse(text, made, {}, tokens)
    return tokens


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    # Here, because it is needed with the first text, not at the start.
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "maxNesting": _DEEPEST})
    made.enable(["table", "strikethrough"])
    # A definition would vanish, and with it what it says; in parts of a long text its links would be elsewhere.
    made.disable("reference")
    made.inline.ruler.at("image", _image_rule)
    made.inline.ruler.before("newline", "address", _address_rule)
    made.inline.ruler.before("emphasis", "dunder", _dunder_rule)
    return made


def _dunder_rule(state: StateInline, silent: bool) -> bool:
    """`__init__.py` is a name, whatever CommonMark makes of it."""
    found = _DUNDER.match(state.src, state.pos, state.posMax)
    if found is None or (state.pos > 0 and _WORD.match(state.src[state.pos - 1])):
        return False
    if not silent:
        state.pending += found[0]
    state.pos = found.end()
    return True


def _image_rule(state: StateInline, silent: bool) -> bool:
    """An image is a link with its words."""
    from markdown_it.rules_inline import link

    if not state.src.startswith("![", state.pos):
        return False
    state.pos += 1
    found = link(state, silent)
    if not found:
        state.pos -= 1
    return found


def _address_rule(state: StateInline, silent: bool) -> bool:
    """An address by itself is a link, whatever marks are in it."""
    if state.linkLevel or not state.src.startswith("://", state.pos):
        return False
    scheme = _SCHEME.search(state.src, max(0, state.pos - 6), state.pos)
    rest = _REST.match(state.src, state.pos, state.posMax)
    if scheme is None or rest is None or not (silent or state.pending.endswith(scheme[0])):
        return False
    found = _without_end(rest[0])
    if not silent:
        state.pending = state.pending[: -len(scheme[0])]
        state.push("link_open", "a", 1).attrs = {"href": state.md.normalizeLink(scheme[0] + found)}
        state.push("text", "", 0).content = scheme[0] + found
        state.push("link_close", "a", -1)
    state.pos += len(found)
    return True


def _without_end(address: str) -> str:
    """An address without the punctuation and the closing brackets of the sentence around it."""
    end = len(address)
    unopened = address.count(")") - address.count("(")
    while address[end - 1] in _BEHIND or (address[end - 1] == ")" and unopened > 0):
        unopened -= address[end - 1] == ")"
        end -= 1
    return address[:end]


def _as_said(text: str) -> Blocks:
    spans: list[Span] = []
    for line in text.strip("\n").split("\n"):
        spans += [Text(line), Break()] if line else [Break()]
    return (Paragraph(tuple(spans[:-1])),)


def _blocks(tokens: Iterator[Token]) -> Blocks:
    """The blocks up to the end of what holds them."""
    found: list[Block] = []
    for token in tokens:
        if token.nesting < 0:
            break
        found.append(_block(token, tokens))
    return tuple(found)


def _block(token: Token, rest: Iterator[Token]) -> Block:
    match token.type:
        case "fence" | "code_block":
            language = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
            known = language if _LANGUAGE.fullmatch(language) else ""
            return CodeBlock(plain(token.content).rstrip("\n"), known)
        case "hr":
            return Rule()
        case "blockquote_open":
            return Quote(_blocks(rest))
        case "bullet_list_open":
            return ListBlock(_items(rest))
        case "ordered_list_open":
            return ListBlock(_items(rest), int(token.attrs.get("start", 1)))
        case "table_open":
            return _table(rest)
        case _:
            spans = _spans(next(rest).children or [])
            next(rest)
            return Heading(int(token.tag[1:]), spans) if token.type == "heading_open" else Paragraph(spans)


def _items(tokens: Iterator[Token]) -> tuple[Blocks, ...]:
    found: list[Blocks] = []
    for token in tokens:
        if token.nesting < 0:
            break
        found.append(_blocks(tokens))
    return tuple(found)


def _table(tokens: Iterator[Token]) -> Table:
    rows: list[list[Spans]] = []
    aligned: list[Align] = []
    for token in tokens:
        match token.type:
            case "table_close":
                break
            case "tr_open":
                rows.append([])
            case "th_open":
                aligned.append(_ALIGNED.get(str(token.attrs.get("style", "")), ""))
            case "inline":
                rows[-1].append(_spans(token.children or []))
    head, *body = (tuple(row) for row in rows)
    return Table(head, tuple(body), tuple(aligned))


@dataclass(slots=True)
class _Open:
    """What is open in a line. What adds nothing to what it stands in shares its `spans`."""

    kind: str
    spans: list[Span] = field(default_factory=list)
    address: str = ""
    adds: bool = True
    behind: str = ""


def _spans(tokens: Sequence[Token]) -> Spans:
    stack = [_Open("")]
    kinds = Counter[str]()
    for at, token in enumerate(tokens):
        kind, spans = token.type.removesuffix("_open").removesuffix("_close"), stack[-1].spans
        if token.nesting > 0:
            stack.append(_opened(token, tokens[at + 1], kind, spans, again=kinds[kind] > 0))
            kinds[kind] += stack[-1].adds
        elif token.nesting < 0:
            ended = stack.pop()
            kinds[kind] -= ended.adds
            if ended.adds:
                stack[-1].spans.append(_made(ended))
            elif ended.behind:
                spans.append(Text(ended.behind))
        elif kind == "code_inline":
            spans.append(Code(plain(token.content)))
        elif kind in ("softbreak", "hardbreak"):
            spans.append(Break())
        elif token.content:
            # What an entity stood for may act on a screen, too.
            spans.append(Text(plain(token.content).replace("\n", " ")))
    return _joined(stack[0].spans)


def _opened(token: Token, following: Token, kind: str, spans: list[Span], *, again: bool) -> _Open:
    """A mark, or a link, begins. `again`: within one of its kind."""
    before = spans[-1].words[-1:] if spans and isinstance(spans[-1], Text) else ""
    sign = _BEFORE_SIGN.fullmatch(before) or following.content.startswith((".", "/"))
    if kind == "em" and token.markup == "*" and sign:
        spans.append(Text("*"))
        return _Open(kind, spans, adds=False, behind="*")
    if again:
        return _Open(kind, spans, adds=False)
    return _Open(kind, address=plain(str(token.attrs.get("href", ""))))


def _made(ended: _Open) -> Span:
    spans = _joined(ended.spans)
    return Link(spans, ended.address) if ended.kind == "link" else _MARKS[ended.kind](spans)


def _joined(spans: Iterable[Span]) -> Spans:
    """Words that stand side by side are one text."""
    found: list[Span] = []
    for kind, group in groupby(spans, type):
        run = tuple(group)
        found += [Text(bare(run))] if kind is Text else run
    return tuple(found)
