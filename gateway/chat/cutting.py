"""Long Markdown in parts that a platform takes: the reader that renders it decides what is open where. Pure.

A fence that is open at a cut is closed there and opened again, with its language; a table's head is repeated; a quote
goes on as one. What goes on within an item of a list stands at the margin in the next part, for an indentation without
its item would read as code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.chat.text import place, plain, units

#: Characters of what follows the opening of a fence, beyond which it is no language.
_LANGUAGE = 120
#: The mark of a list's item, and the space behind it, more than which is code.
_ITEM = re.compile(r" {0,3}(?:[-+*]|\d{1,9}[.)])(?: {1,4}(?! )| |$)")
_QUOTE = re.compile(r" {0,3}> ?")
#: Characters of quotes and indentations that are put before what goes on.
_WIDEST = 24
#: Room for a piece of a line, below which it is left to the next part.
_LEAST = 8
#: How good a place for a cut is: between blocks, between lines, within code, and only if there is no other.
_BLOCKS, _LINES, _CODE, _WORST = range(4)


def split(text: str, limit: int) -> list[str]:
    """Cut Markdown into parts of at most `limit` characters, counted as `units`.

    Cuts fall between blocks where possible, else between lines, else between words, and never within what people see
    as one character.
    """
    if units(text) <= limit:
        return [text] if text else []
    return list(_parts(_Outline(plain(text)), limit))


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """Something that takes whole lines, up to `end`."""

    kind: str
    start: int
    end: int
    #: Columns of an item's mark and the space behind it.
    indent: int = 0
    #: A fence's marks, and what follows them.
    marks: str = ""
    info: str = ""


class _Outline:
    """What each line stands in."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        count = len(self.lines)
        #: Quotes and items around each line, from the outside; the fence and the table that are open before it.
        self.around: list[tuple[_Box, ...]] = [()] * (count + 1)
        self.fence: list[_Box | None] = [None] * (count + 1)
        self.fences: dict[int, _Box] = {}
        self.table: list[_Box | None] = [None] * (count + 1)
        self._begins = bytearray(count + 1)
        self._headed = bytearray(count + 1)
        for kind, start, end, marks, info in _blocks(text):
            self._add(kind, start, min(end, count), marks, info)

    def _add(self, kind: str, start: int, end: int, marks: str, info: str) -> None:
        self._begins[start] = 1
        if kind in ("quote", "item"):
            box = _Box(kind, start, end, self._indent(start) if kind == "item" else 0)
            self.around[start:end] = [(*boxes, box) for boxes in self.around[start:end]]
        elif kind in ("fence", "table"):
            box = _Box(kind, start, end, marks=marks, info=info)
            opened = self.fence if kind == "fence" else self.table
            if kind == "fence":
                self.fences[start] = box
            opened[start + 1 : end] = [box] * max(0, end - start - 1)
        elif kind == "heading":
            while end < len(self.lines) and not self.lines[end].strip():
                end += 1
            self._headed[start + 1 : end + 1] = b"\1" * (end - start)

    def _indent(self, line: int) -> int:
        """The columns of the mark of the innermost item that begins in a line."""
        found = _ITEM.match(self._within(line)[1])
        return len(found[0]) if found is not None else 2

    def _within(self, line: int, without: Sequence[_Box] = ()) -> tuple[str, str]:
        """What the quotes and items around a line are in it, less the items `without`; and the rest of the line."""
        before, rest = "", self.lines[line]
        for box in self.around[line]:
            if box.kind == "quote":
                found = _QUOTE.match(rest)
                before, rest = before + "> ", rest[found.end() :] if found is not None else rest
            elif line == box.start:
                before, rest = before + rest[: box.indent], rest[box.indent :]
            else:
                indented = len(rest) - len(rest.lstrip(" "))
                before += "" if box in without else rest[: min(indented, box.indent)]
                rest = rest[min(indented, box.indent) :]
        return before, rest

    def line(self, line: int, without: Sequence[_Box]) -> str:
        """A line, less the indentation of the items `without`."""
        if not without:
            return self.lines[line]
        # A list that goes on below them must not become words of theirs.
        ended = any(box.end == line for box in without) and self.lines[line - 1].strip() and self.lines[line].strip()
        inside = any(box in without for box in self.around[line])
        return ("\n" if ended else "") + ("".join(self._within(line, without)) if inside else self.lines[line])

    def margin(self, line: int, without: Sequence[_Box]) -> str:
        """What a new line has to begin with to stand in what is around a line."""
        around = (box for box in self.around[line] if box not in without)
        return "".join("> " if box.kind == "quote" else " " * box.indent for box in around)

    def quality(self, line: int) -> int:
        """How good a cut before a line is."""
        fence, table = self.fence[line], self.table[line]
        blank = not self.lines[line].strip() or not self.lines[line - 1].strip()
        if fence is not None:
            if line in (fence.start + 1, fence.end - 1):
                return _WORST
            return _LINES if blank else _CODE
        if table is not None:
            return _WORST if line <= table.start + 2 else _LINES
        if self._headed[line]:
            return _CODE
        return _BLOCKS if blank or self._begins[line] else _LINES


def _blocks(text: str) -> Iterator[tuple[str, int, int, str, str]]:
    """What takes lines, the outer before the inner."""
    from gateway.chat.markdown import reader  # with the first long text, not at the start

    kinds = {"blockquote_open": "quote", "list_item_open": "item", "table_open": "table", "heading_open": "heading"}
    for token in reader(text):
        if token.map is not None and token.nesting >= 0 and token.type != "inline":
            start, end = token.map
            yield kinds.get(token.type, token.type), start, end, token.markup, token.info.strip()


def _parts(outline: _Outline, limit: int) -> Iterator[str]:
    at, within = 0, 0
    while at < len(outline.lines):
        part = _Part(outline, limit, at, within)
        yield part.text
        at, within = part.next
        while not within and at < len(outline.lines) and outline.fence[at] is None and not outline.lines[at].strip():
            at += 1


class _Part:
    """One part; `next` is where the one behind it begins: a line, and a character in it."""

    def __init__(self, outline: _Outline, limit: int, start: int, within: int) -> None:
        self._outline = outline
        self._start = start
        self._within = within
        around = outline.around[start] if start < len(outline.lines) else ()
        #: Items that began in an earlier part.
        self._opened = [box for box in around if box.kind == "item" and (box.start < start or within)]
        self._fence = outline.fence[start] or (outline.fences.get(start) if within else None)
        self._head = self._again(limit)
        room = limit - sum(units(line) + 1 for line in self._head)
        self._lines: list[str] = []
        #: The length of each beginning: of no line, of one, and so on.
        self._lengths = [0]
        while start + len(self._lines) < len(outline.lines):
            line = self._line(start + len(self._lines))
            length = self._lengths[-1] + units(line)
            if length + self._closing_units(start + len(self._lines) + 1) > room:
                break
            self._lines.append(line)
            self._lengths.append(length + 1)
        self.text, self.next = self._cut(room)

    def _again(self, limit: int) -> list[str]:
        """What is said again at the beginning; nothing where there is no room for it."""
        outline, start, table = self._outline, self._start, self._outline.table[self._start]
        head: list[str] = []
        if self._fence is not None:
            head = [self._margin(start) + self._fence.marks + self._fence.info[:_LANGUAGE]]
        elif table is not None and start >= table.start + 2 and not self._within:
            head = [outline.line(at, self._opened) for at in (table.start, table.start + 1)]
        return head if 2 * sum(map(units, head)) <= limit // 2 else []

    def _margin(self, line: int) -> str:
        margin = self._outline.margin(line, self._opened) if line < len(self._outline.lines) else ""
        return margin if len(margin) <= _WIDEST else ""

    def _line(self, line: int) -> str:
        if line == self._start and self._within:
            margin = "" if self._fence is None and self._outline.table[line] else self._margin(line)
            return margin + self._outline.lines[line][self._within :]
        return self._outline.line(line, self._opened)

    def _closing(self, line: int) -> list[str]:
        """What closes a fence that is open before a line, and was opened in this part."""
        fence = self._outline.fence[line]
        if fence is None or not (self._head if fence is self._fence else fence.start >= self._start):
            return []
        return [self._margin(line) + fence.marks]

    def _closing_units(self, line: int) -> int:
        return sum(units(one) + 1 for one in self._closing(line))

    def _cut(self, room: int) -> tuple[str, tuple[int, int]]:
        count, end = len(self._lines), len(self._outline.lines)
        if self._start + count == end:
            return self._made(count), (end, 0)
        for worst in (_BLOCKS, _LINES, _CODE):
            for taken in range(count, 0, -1):
                if self._lengths[taken] <= room // 2:
                    break
                if self._outline.quality(self._start + taken) <= worst:
                    return self._made(taken), (self._start + taken, 0)
        line = self._start + count
        following = self._line(line)
        left = room - self._lengths[-1] - self._closing_units(line)
        in_rows = self._outline.fence[line] is not None or self._outline.table[line] is not None
        if count and (left < _LEAST or (in_rows and units(following) <= room // 2)):
            return self._made(count), (line, 0)
        piece = following[: max(1, place(following, max(1, left)))]
        within = len(self._outline.lines[line]) - (len(following) - len(piece))
        self._lines.append(piece.rstrip() or piece)
        return self._made(count + 1, line), (line, max(within, 1))

    def _made(self, taken: int, line: int | None = None) -> str:
        """The text of the first lines; `line`: the one that the last of them is a part of."""
        closing = self._closing(self._start + taken if line is None else line)
        text = "\n".join([*self._head, *self._lines[:taken], *closing])
        return text if closing else text.rstrip("\n")
