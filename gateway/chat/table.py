"""A table for platforms that have none: as aligned lines if it fits, else as a list of its rows. Pure."""

from __future__ import annotations

import unicodedata

from gateway.chat.document import Align, Blocks, Break, ListBlock, Paragraph, Span, Spans, Strong, Table, Text, bare

#: Of the characters that change the one before them: the joiner of emoji, what asks for a picture, and skin tones.
_JOINER, _PICTURE = "\u200d", "\ufe0f"
_TONES = range(0x1F3FB, 0x1F400)

_DOT = Text(" · ")


def width(text: str) -> int:
    """Columns of a monospaced font that a line takes. Fonts differ in emoji; this is what most do."""
    if text.isascii():
        return len(text)
    columns = 0
    joined, last = False, 0
    for letter in text:
        wide = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if letter == _PICTURE:
            columns, last = columns + (last == 1), 2
        elif joined or ord(letter) in _TONES or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
            pass
        else:
            columns, last = columns + wide, wide
        joined = letter == _JOINER
    return columns


def widths(table: Table) -> list[int]:
    """The columns that each column takes, at least one."""
    rows = (table.head, *table.rows)
    return [max(1, *(width(cell(row[at])) for row in rows)) for at in range(len(table.head))]


def cell(spans: Spans) -> str:
    """The words of a cell, alone."""
    return " ".join(bare(spans).split())


def padded(shown: str, taken: int, room: int, align: Align) -> str:
    """A cell that takes `taken` columns, in a column of `room`."""
    left = {"right": room - taken, "center": (room - taken) // 2}.get(align, 0)
    return " " * left + shown + " " * (room - taken - left)


def lines(table: Table, most: int) -> list[str]:
    """The aligned lines of a table, a rule below its head; none where they would take more than `most` columns."""
    rooms = widths(table)
    if sum(rooms) + 3 * (len(rooms) - 1) > most:
        return []
    found = []
    for row in (table.head, *table.rows):
        words = [cell(spans) for spans in row]
        shown = zip(words, rooms, table.aligned, strict=True)
        found.append(" | ".join(padded(word, width(word), room, align) for word, room, align in shown).rstrip())
    found.insert(1, "-|-".join("-" * room for room in rooms))
    return found


def as_list(table: Table) -> Blocks:
    """The rows one below the other, for a table that is too wide: the first column names each."""
    if not table.rows:
        return (Paragraph(_apart([spans for spans in table.head if spans])),)
    return (ListBlock(tuple((Paragraph(_row(table.head, row)),) for row in table.rows)),)


def _row(head: tuple[Spans, ...], row: tuple[Spans, ...]) -> Spans:
    parts: list[Spans] = [(Strong(_unmarked(row[0])),)] if row[0] else []
    for name, spans in zip(head[1:], row[1:], strict=True):
        if spans:
            parts.append((Text(f"{cell(name)}: "), *spans) if name else spans)
    return _apart(parts, Break())


def _unmarked(spans: Spans) -> Spans:
    """What may stand in something strong: no mark holds another one of its own kind."""
    return tuple(inner for span in spans for inner in (span.spans if isinstance(span, Strong) else (span,)))


def _apart(parts: list[Spans], between: Span = _DOT) -> Spans:
    found: list[Span] = []
    for part in parts:
        found += [between, *part] if found else part
    return tuple(found)
