"""The document of an agent's Markdown: what is read as what, and that any text is one."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from gateway.chat.document import (
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
    Spans,
    Strong,
    Struck,
    Table,
    Text,
    bare,
    literal,
    poses,
    says_itself,
    told,
)
from gateway.chat.markdown import parse
from gateway.chat.table import as_list, lines, width


def _line(text: str) -> Spans:
    (paragraph,) = parse(text).blocks
    assert isinstance(paragraph, Paragraph)
    return paragraph.spans


def _link(text: str) -> Link:
    first = _line(text)[0]
    assert isinstance(first, Link)
    return first


def test_each_block_has_a_noun() -> None:
    text = "# *A*\n\none\ntwo\n\n- x\n- y\n\n  3. z\n\n> q\n\n```py x\nc\n```\n\n---\n\n|a|b|\n|-|-:|\n|`1`||"
    assert parse(text) == Document(
        (
            Heading(1, (Emphasis((Text("A"),)),)),
            Paragraph((Text("one"), Break(), Text("two"))),
            ListBlock(
                (
                    (Paragraph((Text("x"),)),),
                    (Paragraph((Text("y"),)), ListBlock(((Paragraph((Text("z"),)),),), first=3)),
                )
            ),
            Quote((Paragraph((Text("q"),)),)),
            CodeBlock("c", "py"),
            Rule(),
            Table(((Text("a"),), (Text("b"),)), (((Code("1"),), ()),), ("", "right")),
        )
    )


LINES = [
    ("**a *b* ~~c~~**", (Strong((Text("a "), Emphasis((Text("b"),)), Text(" "), Struck((Text("c"),)))),)),
    ("**a __b__ c**", (Strong((Text("a b c"),)),)),
    ("2*3*4 a*b*", (Text("2*3*4 a*b*"),)),
    ("*.py and /*", (Text("*.py and /*"),)),
    ("<b>&amp;</b>", (Text("<b>&</b>"),)),
    ("![words](https://e.org/p.png)", (Link((Text("words"),), "https://e.org/p.png"),)),
    ("[![b](https://e.org/p.png)](https://e.org/)", (Link((Text("b"),), "https://e.org/"),)),
    ("[x](javascript:y)", (Text("[x](javascript:y)"),)),
    ("[x]: https://e.org", (Text("[x]: "), Link((Text("https://e.org"),), "https://e.org"))),
    ("&#x202e;x `\u2066`", (Text("\ufffdx "), Code("\ufffd"))),
    ("a&#10;b", (Text("a b"),)),
]


@pytest.mark.parametrize(("text", "spans"), LINES)
def test_what_stands_in_a_line(text: str, spans: Spans) -> None:
    assert _line(text) == spans


ADDRESSES = [
    ("https://e.org/_a_/__b__/c.", "https://e.org/_a_/__b__/c"),
    ("(https://e.org/x_(y))", "https://e.org/x_(y)"),
    ("**https://e.org**", "https://e.org"),
    ("http://[::1]:8080/x]", "http://[::1]:8080/x"),
    ("see https://e.org/a,b;", "https://e.org/a,b"),
    ("https://例え.example/", "https://xn--r8jz45g.example/"),
    ("https://...", ""),
    ("xhttps://e.org", ""),
    ("ftp://e.org", ""),
    ("`https://e.org`", ""),
]


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_an_address_by_itself_is_a_link(text: str, address: str) -> None:
    found: list[str] = []

    def collect(spans: Spans) -> None:
        for span in spans:
            if isinstance(span, Link):
                found.append(span.address)
            elif isinstance(span, Strong):
                collect(span.spans)

    collect(_line(text))
    assert found == ([address] if address else [])


@pytest.mark.parametrize(
    ("words", "address", "lies"),
    [
        ("the docs", "https://e.org/", False),
        ("version 1.2", "https://e.org/", False),
        ("e.org/docs", "https://e.org/docs", False),
        ("see e.org", "https://e.org/docs", False),
        ("bank.example", "https://e.org/", True),
        ("https://bank.example/", "https://e.org/", True),
        ("bank.example", "https://bank.example@e.org/", True),
        ("http://localhost", "https://e.org/", True),
        ("ana@e.org", "mailto:eve@e.org", True),
        ("ana@e.org", "mailto:ana@e.org", False),
        ("@channel", "https://e.org/", True),
    ],
)
def test_words_that_look_like_another_address_are_known(words: str, address: str, lies: bool) -> None:
    assert poses(Link((Text(words),), address)) is lies


def test_the_address_of_a_link_as_people_write_it() -> None:
    assert told(_link("https://e.org/Größe")) == "https://e.org/Größe"
    assert told(_link("<ana@e.org>")) == "ana@e.org"
    assert told(_link("https://bücher.example")) == "https://xn--bcher-kva.example", "another letter, another host"
    assert says_itself(_link("[](https://e.org)"))
    assert says_itself(_link("[src/a.py](src/a.py#L3)"))
    assert not says_itself(_link("[src](src/a.py)"))
    assert bare(_line("[x](https://e.org), [](a.py), <https://e.org>")) == "x (https://e.org), a.py, https://e.org"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("*a* and _b_", "∗a∗ and ˍbˍ"),
        ("2 * 3 * 4, *.py, a_b_c", "2 * 3 * 4, *.py, a_b_c"),
        ("*a\nb*", "*a\nb*"),
        ("*a *b c* d*", "∗a ∗b c∗ d∗"),
        ("```", "ˋˋˋ"),
    ],
)
def test_words_are_no_marks(words: str, shown: str) -> None:
    assert literal(words) == shown


def test_a_mark_within_itself_is_none() -> None:
    assert literal("2 * 3 _4", within="*") == "2 ∗ 3 _4"


def test_columns_are_those_of_the_screen() -> None:
    assert [width(text) for text in ("abc", "太字", "é", "e\u0301", "👩\u200d💻", "👍🏽", "🇩🇪", "❤\ufe0f", "שלום")] == [
        *(3, 4, 1, 1, 2, 2, 2, 2, 4),
    ]


def test_a_table_that_does_not_fit_is_a_list() -> None:
    (table,) = parse("|a|b|c|\n|-|:-:|-:|\n|x|1|22|\n||*y*|zz|").blocks
    assert isinstance(table, Table)
    assert lines(table, 20) == ["a | b |  c", "--|---|---", "x | 1 | 22", "  | y | zz"]
    assert lines(table, 9) == []
    (rows,) = as_list(table)
    assert isinstance(rows, ListBlock)
    told_rows = [bare(paragraph.spans) for (paragraph,) in rows.items if isinstance(paragraph, Paragraph)]
    assert told_rows == ["x b: 1 c: 22", "b: y c: zz"]


DEEP = {
    "quotes": "> " * 200 + "the end",
    "lists": "- " * 200 + "the end",
    "lists over lines": "".join(f"{'  ' * depth}- a\n" for depth in range(100)) + "  " * 100 + "the end",
    "images": "![" * 300 + "the end" + "](https://e.org)" * 300,
    "marks": "*a " * 3_000 + "the end" + " a*" * 3_000,
    "stars": "a*b" * 3_000 + "the end",
}


@pytest.mark.parametrize("name", DEEP)
def test_however_deep_it_is_all_there(name: str) -> None:
    assert "the end" in repr(parse(DEEP[name]))


LARGE = {
    **{
        str(number): text * (100_000 // len(text))
        for number, text in enumerate(["[", "![", "*a ", "> ", "`", "<a ", "&#", "|"])
    },
    "table": "|" * 20_000 + "\n" + "|-" * 20_000 + "\n" + "|a\n" * 10_000,
    "brackets": "https://a" + ")" * 99_000,
    "ticks": "".join("`" * (at % 300) + "a" for at in range(700)),
    "unclosed": "[a](" * 25_000,
    "images in links": "![[](" * 20_000,
    "a few of them": "![[](" * 1_990,
    "pairs": "[" * 50_000 + "]" * 50_000,
    "escapes": "\x1b]x" * 33_000,
    "too large": "**a** " * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_hundred_thousand_characters_take_moments(name: str) -> None:
    began = time.process_time()
    found = parse(LARGE[name])
    assert found.blocks
    assert time.process_time() - began < 3  # twelve times what the slowest takes


def test_the_parser_is_not_loaded_at_the_start() -> None:
    code = "import sys, gateway.app, transports.console; sys.exit('markdown_it' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "text",
    ["__init__.py", "pkg/__init__.py", "__main__ or __all__", "(__name__)", "a__b__c", "self.__mine__", "__mine__()"],
)
def test_dunders_survive(text: str) -> None:
    (paragraph,) = parse(text).blocks
    assert paragraph == Paragraph((Text(text),))


def test_words_between_two_underscores_are_still_bold() -> None:
    for text in ("two words", "one"):
        (paragraph,) = parse(f"__{text}__").blocks
        assert paragraph == Paragraph((Strong((Text(text),)),))
