"""An agent's document as WhatsApp's formatting. Pure.

WhatsApp has `*bold*`, `_italic_`, `~struck~`, backticks, quotes and no escapes. What an agent says may come from
anywhere: nothing in it acts on a screen, and what is only text stays text.
"""

from __future__ import annotations

from gateway.chat import table
from gateway.chat.document import (
    Block,
    Blocks,
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
    Spans,
    Strong,
    Struck,
    Table,
    Text,
    literal,
    opens,
    says_itself,
    told,
    touches_word,
)
from gateway.chat.markdown import parse
from gateway.chat.text import plain, unfenced, units

_RULE = "———"
#: Columns above which a table is a list: a phone would wrap its lines.
_WIDEST = 36
_MARKS = {Strong: "*", Emphasis: "_", Struck: "~"}
#: How each was written, for places where WhatsApp has no formatting.
_SAID = {Strong: "**", Emphasis: "*", Struck: "~~"}


def formatted(text: str, most: int) -> str:
    """The text for WhatsApp, in at most `most` characters if `text` has no more.

    Text whose formatting would make it too long is sent as it is.
    """
    made = _blocks(parse(text).blocks)
    return made if made.strip() and units(made) <= most else plain(text)


# --- blocks ----------------------------------------------------------------------------------------------------------


def _blocks(blocks: Blocks, depth: int = 0, between: str = "\n\n") -> str:
    return between.join(made for block in blocks if (made := _block(block, depth)))


def _block(block: Block, depth: int) -> str:
    """One block; `depth`: how many lists it is nested in."""
    match block:
        case Paragraph(spans):
            return _line(spans)
        case Heading(_, spans):
            return _marked(spans, "*", "")
        case CodeBlock(text):
            return _code(text)
        case Quote(blocks):
            return "\n".join(f"> {line}" if line else ">" for line in _blocks(blocks).split("\n"))
        case ListBlock(items, first):
            return "\n".join(_item(item, at, first, depth) for at, item in enumerate(items))
        case Table():
            lines = table.lines(block, _WIDEST)
            return _code("\n".join(lines)) if lines else _blocks(table.as_list(block), depth)
        case Rule():
            return _RULE


def _item(blocks: Blocks, at: int, first: int | None, depth: int) -> str:
    mark = f"{first + at}." if first is not None else ("◦" if depth else "-")
    indent = " " * (len(mark) + 1)
    return f"{mark} {_blocks(blocks, depth + 1, chr(10))}".replace("\n", f"\n{indent}")


def _code(content: str) -> str:
    return f"```\n{unfenced(content)}\n```"


# --- within a line ---------------------------------------------------------------------------------------------------


def _line(spans: Spans, within: str = "") -> str:
    """The text of a line; `within`: the marks around it."""
    parts: list[str] = []
    for at, span in enumerate(spans):
        match span:
            case Text(words):
                parts.append(literal(words, within))
            case Code(words):
                parts.append(f"`{words.replace('`', 'ˋ')}`")
            case Break():
                parts.append("\n")
            case Link():
                parts.append(_link(span, within))
            case Strong() | Emphasis() | Struck():
                said = _SAID[type(span)]
                # Inside a word WhatsApp has no formatting.
                in_word = any(touches_word(spans, at))
                shown = f"{said}{_line(span.spans, within)}{said}" if in_word else ""
                parts.append(shown or _marked(span.spans, _MARKS[type(span)], within))
    return "".join(parts)


def _marked(spans: Spans, mark: str, within: str) -> str:
    """Text between marks, which end with their line."""
    if mark in within:
        return _line(spans, within)
    lines = _line(spans, within + mark).split("\n")
    return "\n".join(f"{mark}{line}{mark}" if line.strip() else line for line in lines)


def _link(link: Link, within: str) -> str:
    """Words never hide where they lead."""
    shown = told(link) if opens(link.address) else f"`{link.address}`"
    return shown if says_itself(link) else f"{_line(link.spans, within)} ({shown})"
