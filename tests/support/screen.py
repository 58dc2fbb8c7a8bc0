"""What a person sees: a small model of a terminal, enough for what line editors write."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_SEQUENCE = re.compile(
    r"\x1b\[(?P<private>[?>]?)(?P<numbers>[\d;]*)(?P<final>[@-~])"  # CSI
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles and the like
    r"|\x1b[ -/]*[0-~]"
)


class Screen:
    """A grid of characters and a cursor. What scrolls off the top is kept in `history`."""

    def __init__(self, columns: int = 100, lines: int = 30, answer: Callable[[bytes], object] = lambda _: None) -> None:
        """`answer`: takes what the terminal says by itself, such as where its cursor is."""
        self.columns, self.lines = columns, lines
        self.history: list[str] = []
        self._answer = answer
        self._grid = [[" "] * columns for _ in range(lines)]
        self._row = self._column = 0
        self._rest = ""
        #: What was written in letters that look otherwise, with how: `("1", "bold words")`.
        self.styled: list[tuple[str, str]] = []
        self._look = ""

    def feed(self, text: str) -> None:
        """Take what a program wrote."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
            elif found := _SEQUENCE.match(text, at):
                if found["final"]:
                    numbers = [int(number or 0) for number in found["numbers"].split(";")]
                    self._order(found["private"], numbers, found["final"])
                at = found.end()
            elif len(text) - at < 64:
                self._rest = text[at:]  # the sequence goes on in the next part
                return
            else:
                raise AssertionError(f"no sequence that a terminal knows: {text[at : at + 64]!r}")

    @property
    def rows(self) -> list[str]:
        """What is shown now, a line each."""
        return ["".join(row).rstrip() for row in self._grid]

    @property
    def all(self) -> list[str]:
        """What was shown since the start and still can be seen by scrolling back; no empty lines at the end."""
        rows = [*self.history, *self.rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def line(self) -> str:
        """The line that the cursor is in."""
        return self.rows[self._row]

    def _put(self, letter: str) -> None:
        match letter:
            case "\r":
                self._column = 0
            case "\n":
                self._feed_line()
            case "\b":
                self._column = max(0, self._column - 1)
            case "\t":
                self._column = min(self.columns - 1, self._column // 8 * 8 + 8)
            case _ if letter < " ":
                return
            case _:
                columns = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
                if self._column + columns > self.columns:
                    self._column = 0
                    self._feed_line()
                # A wide letter leaves nothing in its second cell.
                self._grid[self._row][self._column : self._column + columns] = [letter, ""][:columns]
                if self._look:
                    look, text = self.styled[-1]
                    self.styled[-1] = (look, text + letter)
                self._column += columns

    def _feed_line(self) -> None:
        if self._row < self.lines - 1:
            self._row += 1
            return
        self.history.append("".join(self._grid.pop(0)).rstrip())
        self._grid.append([" "] * self.columns)

    def _order(self, private: str, numbers: list[int], final: str) -> None:
        first = numbers[0]
        count = max(1, first)
        self._column = min(self._column, self.columns - 1) if final in "ABCDGHf" else self._column
        match final:
            case "A":
                self._row = max(0, self._row - count)
            case "B":
                self._row = min(self.lines - 1, self._row + count)
            case "C":
                self._column = min(self.columns - 1, self._column + count)
            case "D":
                self._column = max(0, self._column - count)
            case "G":
                self._column = min(self.columns, count) - 1
            case "H" | "f":
                self._row = min(self.lines, count) - 1
                self._column = min(self.columns, max(1, numbers[1] if len(numbers) > 1 else 1)) - 1
            case "J":
                self._erase_line(first)
                rest = range(self._row + 1, self.lines) if first == 0 else range(self._row)
                for row in rest if first in (0, 1) else range(self.lines):
                    self._grid[row] = [" "] * self.columns
            case "K":
                self._erase_line(first)
            case "n" if first == 6:
                self._answer(f"\x1b[{self._row + 1};{self._column + 1}R".encode())
            case "m":
                self._look = ";".join(map(str, numbers)) if any(numbers) else ""
                if self._look:
                    self.styled.append((self._look, ""))
            case "h" | "l" | "n" | "q" | "r" | "c" | "t" | "u":
                return  # modes and colours: none of them moves a character
            case _:
                raise AssertionError(f"an order that this screen does not know: {private}{numbers}{final}")

    def _erase_line(self, how: int) -> None:
        row = self._grid[self._row]
        start = self._column if how == 0 else 0
        end = min(self._column + 1, self.columns) if how == 1 else self.columns
        row[start:end] = [" "] * (end - start)
