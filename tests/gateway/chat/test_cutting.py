"""Long Markdown in parts: each part renders as what it is a part of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.cutting import split
from gateway.chat.document import Block, Blocks, CodeBlock, Heading, ListBlock, Paragraph, Quote, Table, bare
from gateway.chat.markdown import parse
from gateway.chat.text import units


def test_a_fence_in_a_list_goes_on_in_the_next_part() -> None:
    code = "\n".join(f"   step_{n}()" for n in range(60))
    parts = split(f"1. First\n\n2. Then run\n\n   ```python\n{code}\n   ```\n\n   and look.\n3. Done", 400)
    assert len(parts) == 2
    assert parts[0].endswith("()\n   ```")
    for part in parts[1:]:
        assert part.startswith("```python\nstep_")
    assert parts[-1].endswith("()\n```\n\nand look.\n\n3. Done")
    assert [type(block) for block in parse(parts[-1]).blocks] == [CodeBlock, Paragraph, ListBlock]


def test_a_fence_in_a_quote_goes_on_in_the_next_part() -> None:
    code = "\n".join(f"> line {n}" for n in range(60))
    parts = split(f"> Ana wrote:\n> ```sh\n{code}\n> ```\n> and more", 300)
    assert len(parts) > 2
    assert all(part.startswith("> ```sh\n> line") and part.endswith("> ```") for part in parts[1:-1])
    assert all(isinstance(block, Quote) for part in parts for block in parse(part).blocks)


def test_a_table_repeats_its_head() -> None:
    rows = "\n".join(f"| file_{n} | {n} |" for n in range(60))
    parts = split(f"Sizes:\n\n| name | size |\n|---|---:|\n{rows}\n\nThat is all.", 300)
    tables = [block for part in parts for block in parse(part).blocks if isinstance(block, Table)]
    assert len(tables) > 3
    assert {bare(table.head[0]) for table in tables} == {"name"}
    assert {table.aligned for table in tables} == {("", "right")}
    assert [bare(row[0]) for table in tables for row in table.rows] == [f"file_{n}" for n in range(60)]


@pytest.mark.parametrize("line", ["```not a fence``` and so on", "    ```", "text ```", "`` ` ``"])
def test_what_only_looks_like_a_fence_opens_none(line: str) -> None:
    parts = split(f"{line}\n\n" + "word " * 100, 200)
    assert len(parts) > 1
    assert not any("```" in part for part in parts[1:])


def test_a_heading_stays_with_what_it_heads() -> None:
    parts = split("word " * 35 + "\n\n# Head\n\n" + "next " * 30, 200)
    assert [part.startswith("# Head") for part in parts] == [False, True]


def test_a_line_that_is_too_long_in_a_quote_stays_quoted() -> None:
    parts = split("> " + "word " * 200, 200)
    assert len(parts) > 4
    assert all(part.startswith("> word") for part in parts)


def test_no_fence_is_opened_for_its_end_alone() -> None:
    for lines in range(10, 30):
        code = "\n".join("x = 1" for _ in range(lines))
        for part in split(f"{'intro ' * 10}\n```py\n{code}\n```\nafter " + "word " * 30, 200):
            for block in parse(part).blocks:
                assert not isinstance(block, CodeBlock) or block.text.strip()


_KINDS = {CodeBlock: "code", Table: "table", Heading: "heading"}


class _Writer:
    """Markdown in which each word is another, so that it can be told where each one went."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._numbers = count(100)

    def words(self, most: int = 12) -> str:
        return " ".join(f"w{next(self._numbers)}" for _ in range(self._draw(st.integers(1, most))))

    def blocks(self, depth: int) -> list[str]:
        lines: list[str] = []
        for _ in range(self._draw(st.integers(1, 3))):
            lines += [*self._block(depth), ""]
        return lines[:-1]

    def _block(self, depth: int) -> list[str]:
        kind = self._draw(st.sampled_from(["text", "text", "code", "table", "list", "numbers", "quote"]))
        if kind == "code":
            return ["```py", *(self.words(4) for _ in range(self._draw(st.integers(1, 15)))), "```"]
        if kind == "table":
            rows = self._draw(st.integers(1, 10))
            return ["| head | more |", "|---|---|", *(f"| {self.words(3)} | {self.words(2)} |" for _ in range(rows))]
        if kind == "text" or depth > 2:
            return [self.words() for _ in range(self._draw(st.integers(1, 4)))]
        if kind == "quote":
            return [f"> {line}".rstrip() for line in self.blocks(depth + 1)]
        lines: list[str] = []
        for number in range(self._draw(st.integers(1, 4))):
            mark = f"{number + 1}. " if kind == "numbers" else "- "
            # An item begins with words: what follows may be anything.
            first, *rest = [self.words(), "", *self.blocks(depth + 1)]
            lines += [mark + first, *((" " * len(mark) + line).rstrip() for line in rest)]
        return lines


@st.composite
def _documents(draw: st.DrawFn) -> str:
    return "\n".join(_Writer(draw).blocks(0))


def _told(blocks: Blocks, quotes: int = 0) -> Iterator[tuple[str, str]]:
    """Each word, and the kind of what it stands in."""
    for block in blocks:
        yield from _of(block, quotes)


def _of(block: Block, quotes: int) -> Iterator[tuple[str, str]]:
    match block:
        case Quote():
            yield from _told(block.blocks, quotes + 1)
        case ListBlock():
            for item in block.items:
                yield from _told(item, quotes)
        case Table():
            for row in block.rows:
                for cell in row:
                    yield from ((word, f"table {quotes}") for word in bare(cell).split())
        case CodeBlock():
            yield from ((word, f"code {quotes}") for word in block.text.split())
        case Heading() | Paragraph():
            yield from ((word, f"text {quotes}") for word in bare(block.spans).split())


@given(_documents(), st.integers(150, 400))
def test_every_word_stands_in_what_it_stood_in(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(units(part) <= limit for part in parts)
    whole = list(_told(parse(text).blocks))
    assert [told for part in parts for told in _told(parse(part).blocks)] == whole
    assert all(re.search(r"w\d", part) for part in parts), "no part is empty"


@given(st.text(alphabet="a>- 1.`~|\n#", max_size=600), st.integers(40, 120))
def test_whatever_its_structure_nothing_is_lost(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(0 < units(part) <= limit for part in parts)
    assert "".join(parts).count("a") >= text.count("a")


def test_time_grows_with_the_length() -> None:
    """A megabyte, deep and unbalanced; no bound is timed, it merely has to end."""
    text = "".join(f"{'> ' * (n % 40)}- {'`' * (n % 5)} | {n}\n" for n in range(40_000))
    assert len(split(text, 1600)) > 500
