"""Markdown as Slack shows it, byte for byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transports.slack import blocks, render
from transports.slack.config import MAX_TEXT

GOLDENS = {
    "marks": ("**bold** *it* ~~gone~~ `code`", "*bold* _it_ ~gone~ `code`"),
    "heading": ("# A *big* **one**\ntext", "*A _big_ one*\n\ntext"),
    "breaks": ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
    "nested lists": (
        "- one\n  - two\n    1. three\n    2. four\n      more of four\n- five\n\n  of five",
        "• one\n    ◦ two\n        1. three\n        2. four\n            more of four\n• five\n    of five",
    ),
    "ordered from": ("7. seven\n8. eight", "7. seven\n8. eight"),
    "tasks": ("- [x] done\n- [ ] open", "• [x] done\n• [ ] open"),
    "code in a list": ("- see\n\n  ```sh\n  ls <x>\n  ```", "• see\n```\nls &lt;x&gt;\n```"),
    "list that is only code": ("- ```\n  x\n  ```", "•\n```\nx\n```"),
    "fence": ("```py\nif a < b & c:\n    pass\n```", "```\nif a &lt; b &amp; c:\n    pass\n```"),
    "fence in a fence": ("````\n```\n````", "```\n``\u200b`\n```"),
    "open fence": ("```\nx", "```\nx\n```"),
    "indented code": ("    x = *1*", "```\nx = *1*\n```"),
    "backtick in code": ("`` a`b ``", "`aˋb`"),
    "table": (
        "| name | n |\n|---|--:|\n| `a` | 1 |\n| **long one** | 22 |",
        "```\nname     |  n\n---------|---\na        |  1\nlong one | 22\n```",
    ),
    "quote": ("> one\n> two\n>\n> three", "> one\n> two\n> three"),
    "rule": ("a\n\n---\n\nb", "a\n\n──────────\n\nb"),
    "bare link": ("see https://example.org/a_b?x=1&y=2.", "see <https://example.org/a_b?x=1&amp;y=2>."),
    "autolink": ("<https://example.org/>", "<https://example.org/>"),
    "link": ("[the *docs*](https://example.org/x)", "<https://example.org/x|the _docs_>"),
    "link with a bar": ("[a|b>c](https://example.org)", "<https://example.org|a¦b&gt;c>"),
    "link that poses": ("[bank.example](https://evil.example/)", "bank.example (<https://evil.example/>)"),
    "link that poses as a link": (
        "[https://bank.example](https://evil.example/)",
        "https://bank.example (<https://evil.example/>)",
    ),
    "link with bars inside": ("[x](https://example.org/a|<!channel>)", "<https://example.org/a%7C%3C!channel%3E|x>"),
    "script link": ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
    "relative link": ("[x](docs/a.md)", "x (`docs/a.md`)"),
    "image": ("![track](https://t.example/p.png)", "<https://t.example/p.png|track>"),
    "html": (
        "<b>x</b> <!-- y -->\n\n<script>z</script>",
        "&lt;b&gt;x&lt;/b&gt; &lt;!-- y --&gt;\n\n&lt;script&gt;z&lt;/script&gt;",
    ),
    "emoji": ("👩‍👩‍👧 :tada: ✅ 🇩🇪", "👩‍👩‍👧 :tada: ✅ 🇩🇪"),
    "right to left": ("שלום **עולם** مرحبا", "שלום *עולם* مرحبا"),
    "bidi orders": ("user\u202egpj.exe \u2066x\u2069", "user\ufffdgpj.exe \ufffdx\ufffd"),
    "terminal orders": ("\x1b[2Jwiped \x1b]0;t\x07 \x9b31m", "wiped  \ufffd31m"),
    "nul and bell": ("a\x00b\x07", "a\ufffdb\ufffd"),
    "mentions": (
        "<!channel> <!here> <@U012> <#C1> <!subteam^S1> @here `<!channel>`",
        "&lt;!channel&gt; &lt;!here&gt; &lt;@U012&gt; &lt;#C1&gt; &lt;!subteam^S1&gt; @here `&lt;!channel&gt;`",
    ),
    "escaped mention": (
        "&lt;!channel&gt; &#60;!here&#62; \\<!channel>",
        "&lt;!channel&gt; &lt;!here&gt; &lt;!channel&gt;",
    ),
    "mention in a link": ("[<!channel>](https://example.org)", "<https://example.org|&lt;!channel&gt;>"),
    "mention as a link": ("<https://x.example|<!channel>>", "&lt;<https://x.example>|&lt;!channel&gt;&gt;"),
    "live": ("⏳ Working, 3 s\n› Bash ls -la", "⏳ Working, 3 s\n› Bash ls -la"),
}


@pytest.mark.parametrize(("text", "shown"), GOLDENS.values(), ids=GOLDENS)
def test_goldens(text: str, shown: str) -> None:
    assert "".join(piece for piece, _ in render.pieces(text)) == shown


#: What may stand between angle brackets: a link, with a text or without.
_LINK = re.compile(r"<https?://[^<>|]+(?:\|[^<>|]*)?>|<mailto:[^<>|]+(?:\|[^<>|]*)?>", re.IGNORECASE)
NASTY = ["<!channel>", "<@U012>", "&lt;", "<", ">", "&", "|", "*", "_", "~", "`", "```", "\n", "\n\n", "- ", "> ", "# "]
NASTY += [
    "[",
    "](",
    ")",
    "https://a.example/",
    "mailto:a@b.example",
    "| a |\n|---|\n",
    "    ",
    "1. ",
    "𐍈",
    "\x1b[",
    "x y",
]
TEXTS = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=40).map("".join)


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.integers(1, 60))
def test_nothing_but_links_is_markup(text: str, times: int) -> None:
    """FAULTS 28, and the sizes that Slack takes, for whatever an agent says."""
    text = (text * times)[:MAX_TEXT]
    content = blocks.content(text, ("allow", "deny"))
    pieces = [block["text"]["text"] for block in content["blocks"] if block["type"] == "section"]
    assert all(0 < render._units(piece) <= render.SECTION for piece in pieces)
    assert sum(map(render._units, pieces)) <= render.ALL
    assert len(pieces) <= 40
    assert len(content["text"].encode()) <= 4000
    for piece in [*pieces, content["text"]]:
        rest = _LINK.sub("", piece)
        assert "<" not in rest


@pytest.mark.parametrize("letter", ["<", "&", "𐍈", "a", "\n", "- x\n", "`", "&amp;", "| a | b |\n"])
def test_the_longest_text_fits(letter: str) -> None:
    text = (letter * MAX_TEXT)[:MAX_TEXT]
    pieces = render.pieces(text)
    assert sum(render._units(piece) for piece, _ in pieces) <= render.ALL
    if letter in "<&𐍈a":
        joined = "".join(piece for piece, _ in pieces).replace("&lt;", "<").replace("&amp;", "&")
        assert joined == text, "nothing of it is lost"


def test_a_long_block_of_code_is_several() -> None:
    text = "```\n" + "\n".join(f"line {n} <x>" for n in range(300))[: MAX_TEXT - 10] + "\n```"
    pieces = render.pieces(text)
    assert len(pieces) > 1
    assert all(piece.startswith("```\n") and piece.endswith("\n```") for piece, _ in pieces)
    assert [goes_on for _, goes_on in pieces] == [False] + [True] * (len(pieces) - 1)


def test_a_table_with_a_huge_cell_is_not_padded_without_end() -> None:
    text = "| a | b |\n|---|---|\n" + "| x | y |\n" * 100 + f"| {'z' * 1500} | y |"
    assert sum(render._units(piece) for piece, _ in render.pieces(text)) <= render.ALL


def test_an_empty_text_is_no_empty_section() -> None:
    assert render.pieces("\n\n") == [("\u200b", False)]


@pytest.mark.parametrize("text", ["&" * 5000, "é" * 3000, "<b>" * 1500, "x&" * 2999])
def test_a_summary_is_cut_between_escapes(text: str) -> None:
    told = render.summary(text)
    assert len(told.encode()) <= 3000
    assert told.endswith("…")
    assert re.fullmatch(r"(?:[^&<>]|&(?:amp|lt|gt);)*", told)


def test_buttons() -> None:
    actions = blocks.content("?", ("allow", "allow session", "deny", "1"))["blocks"][-1]
    assert actions["type"] == "actions"
    assert [(b["value"], b["text"]["text"], b.get("style")) for b in actions["elements"]] == [
        ("allow", "Allow", "primary"),
        ("allow session", "Allow session", None),
        ("deny", "Deny", "danger"),
        ("1", "1", None),
    ]
    assert len({b["action_id"] for b in actions["elements"]}) == 4
    assert blocks.content("!", ())["blocks"][-1]["type"] == "section"


def test_a_key_is_found_again_in_a_post_and_beside_a_file() -> None:
    assert blocks.stands_for({"metadata": blocks.metadata("key")}, "key")
    assert not blocks.stands_for({"metadata": blocks.metadata("key")}, "key 2")
    assert not blocks.stands_for({"metadata": blocks.metadata("key") | {"event_type": "others"}}, "key")
    assert blocks.stands_for({"blocks": blocks.caption("x", "key")}, "key")
    assert not blocks.stands_for({"blocks": blocks.caption("x", "key 2")}, "key")
    assert not blocks.stands_for({"metadata": None, "blocks": "?"}, "key")
