"""An agent's document on a terminal. Pure.

What an agent says may come from anywhere: it is made inert first, so that the only escape sequences are ours. They
change how letters look, and each ends with the letters it is for: none moves the cursor.
"""

from __future__ import annotations

import re
import unicodedata

from gateway.chat import table as tables
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
    Span,
    Spans,
    Strong,
    Struck,
    Table,
    Text,
    bare,
    opens,
    says_itself,
    told,
)
from gateway.chat.markdown import parse

#: The control and formatting characters that a terminal does not act on: line break, tab, and the two joiners that
#: emoji and several scripts are written with.
_HARMLESS = "\n\t\u200c\u200d"
_BULLETS = ("•", "◦", "▪")
#: How letters look, in the terminal's numbers.
_BOLD, _DIM, _ITALIC, _STRUCK = "1", "2", "3", "9"
_LONGEST_RULE = 40
#: Stands for a space at which no line is broken; it never occurs in inert text.
_KEPT = "\0"
_LOOK = re.compile(r"\x1b\[[\d;]*m")


def inert(text: str) -> str:
    """Text that no terminal acts on: control and formatting characters become U+FFFD."""
    return "".join(
        letter if letter in _HARMLESS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs") else "\ufffd"
        for letter in text
    )


def styled(text: str, columns: int) -> str:
    """An agent's Markdown for a terminal of that many columns.

    Prose is broken between words. Code is not, nor is a word that is longer than a line: the terminal wraps these, so
    that they can be copied whole.
    """
    return _blocks(parse(inert(text)).blocks, columns, "\n\n")


# --- blocks ----------------------------------------------------------------------------------------------------------


def _blocks(blocks: Blocks, columns: int, between: str, depth: int = 0) -> str:
    return between.join(_block(block, columns, depth) for block in blocks)


def _block(block: Block, columns: int, depth: int) -> str:
    """One block; `depth`: how many lists it is nested in."""
    match block:
        case Paragraph(spans):
            return _broken(_line(spans), columns)
        case Heading(_, spans):
            return _broken(_line(spans, (_BOLD,)), columns)
        case CodeBlock(text):
            return "\n".join(_painted(line, (_DIM,)) for line in text.split("\n"))
        case Quote(blocks):
            bar = _painted("│", (_DIM,))
            return "\n".join(f"{bar} {line}" for line in _blocks(blocks, columns - 2, "\n\n").split("\n"))
        case ListBlock(items, first):
            return "\n".join(_item(item, at, first, columns, depth) for at, item in enumerate(items))
        case Table():
            return _table(block, columns, depth)
        case Rule():
            return _painted("─" * max(1, min(columns, _LONGEST_RULE)), (_DIM,))


def _item(blocks: Blocks, at: int, first: int | None, columns: int, depth: int) -> str:
    mark = _BULLETS[min(depth, len(_BULLETS) - 1)] if first is None else f"{first + at}."
    indent = " " * (len(mark) + 1)
    return f"{mark} {_blocks(blocks, columns - len(indent), chr(10), depth + 1)}".replace("\n", f"\n{indent}")


def _table(table: Table, columns: int, depth: int) -> str:
    rooms = tables.widths(table)
    if sum(rooms) + 3 * (len(rooms) - 1) > columns:
        return _blocks(tables.as_list(table), columns, "\n", depth)
    lines = [_painted("─┼─".join("─" * room for room in rooms), (_DIM,))]
    for number, row in enumerate((table.head, *table.rows)):
        cells = [
            tables.padded(_unbroken(spans, () if number else (_BOLD,)), tables.width(bare(spans)), room, align)
            for spans, room, align in zip(row, rooms, table.aligned, strict=True)
        ]
        lines.insert(number and number + 1, f" {_painted('│', (_DIM,))} ".join(cells).rstrip())
    return "\n".join(lines)


def _broken(text: str, columns: int) -> str:
    """Lines of at most that many columns, as far as the words allow."""
    lines: list[str] = []
    for line in text.split("\n"):
        first, *rest = line.split(" ")
        lines.append(first)
        taken = _width(first)
        for word in rest:
            more = _width(word)
            if taken + 1 + more > columns:
                lines.append(word)
                taken = more
            else:
                lines[-1] += f" {word}"
                taken += 1 + more
    return "\n".join(lines).replace(_KEPT, " ")


def _width(word: str) -> int:
    return tables.width(_LOOK.sub("", word))


# --- within a line ---------------------------------------------------------------------------------------------------


def _unbroken(spans: Spans, looks: tuple[str, ...]) -> str:
    return _line(spans, looks).replace(_KEPT, " ")


def _line(spans: Spans, looks: tuple[str, ...] = ()) -> str:
    return "".join(_span(span, looks) for span in spans)


def _span(span: Span, looks: tuple[str, ...]) -> str:
    match span:
        case Text(words):
            return _painted(words, looks)
        case Code(words):
            # Most terminals show neither where both are set.
            return _painted(words, looks if _BOLD in looks else (*looks, _DIM)).replace(" ", _KEPT)
        case Strong(spans):
            return _line(spans, (*looks, _BOLD))
        case Emphasis(spans):
            return _line(spans, (*looks, _ITALIC))
        case Struck(spans):
            return _line(spans, (*looks, _STRUCK))
        case Break():
            return "\n"
        case Link(spans, address):
            shown = _painted(told(span), looks) if opens(address) else _span(Code(address), looks)
            return shown if says_itself(span) else f"{_line(spans, looks)} ({shown})"


def _painted(words: str, looks: tuple[str, ...]) -> str:
    # An entity may have stood for a character that a terminal acts on.
    shown = inert(words)
    return f"\x1b[{';'.join(sorted({*looks}))}m{shown}\x1b[0m" if looks and shown else shown
