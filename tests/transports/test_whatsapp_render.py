"""Markdown as WhatsApp shows it: byte-exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.cutting import split
from gateway.chat.text import plain
from transports.whatsapp.render import formatted

GOLDENS = {
    "plain": ("Hello, world", "Hello, world"),
    "emphasis": ("**bold** *it* _it_ ~~gone~~ ***both***", "*bold* _it_ _it_ ~gone~ _*both*_"),
    "within a word": ("a**b**c snake_case_name 2*3*4", "a**b**c snake_case_name 2*3*4"),
    "heading": ("# Title **here**\ntext", "*Title here*\n\ntext"),
    "bold over lines": ("**one\ntwo**", "*one*\n*two*"),
    "code": ("run `rm *x*` now", "run `rm *x*` now"),
    "fence": ("```python\nx = '*a*'\n```", "```\nx = '*a*'\n```"),
    "fence in a fence": ("````\n```\nin\n```\n````", "```\n` ` `\nin\n` ` `\n```"),
    "list": ("* a\n* b\n  1. c\n  2. d\n     - e\n* f", "- a\n- b\n  1. c\n  2. d\n     ◦ e\n- f"),
    "numbers": ("3. a\n4. b", "3. a\n4. b"),
    "code in a list": ("- a\n\n  ```sh\n  ls\n  ```\n- b", "- a\n  ```\n  ls\n  ```\n- b"),
    "quote": ("> said *so*\n>\n> twice", "> said _so_\n>\n> twice"),
    "link": ("[the site](https://example.org/a_b_c)", "the site (https://example.org/a_b_c)"),
    "bare link": ("<https://example.org/a_b_c>", "https://example.org/a_b_c"),
    "link that lies": ("[https://good.example](https://evil.example)", "https://good.example (https://evil.example)"),
    "no scheme": ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
    "picture": ("![alt](https://example.org/t.png)", "alt (https://example.org/t.png)"),
    "rule": ("a\n\n---\n\nb", "a\n\n———\n\nb"),
    "table": (
        "| a | b |\n|---|---|\n| 1 | **two** |\n| `x` | |",
        "```\na | b\n--|----\n1 | two\nx |\n```",
    ),
    "literal marks": (r"\*not bold\* and \_not\_ and \~no\~ and \`no\`", "∗not bold∗ and ˍnotˍ and ∼no∼ and ˋnoˋ"),
    "lonely marks": (r"5 \* 3, *.py, ~/x, a_b", "5 * 3, *.py, ~/x, a_b"),
    "tilde": ("~one~ word", "∼one∼ word"),
    "emoji": ("👩‍👩‍👧 **👍🏽**", "👩‍👩‍👧 *👍🏽*"),
    "right to left": ("**שלום** עולם\n\nمرحبا", "*שלום* עולם\n\nمرحبا"),
    "mentions": ("<!channel> @room @everyone", "<!channel> @room @everyone"),
    "html": ("<b>bold</b><script>x</script>", "<b>bold</b><script>x</script>"),
    "screen": ("\x1b[31mred\x1b[0m \x07 \u202egpj.exe", "red \ufffd \ufffdgpj.exe"),
    "soft break": ("one\ntwo  \nthree", "one\ntwo\nthree"),
    "only a definition": ("[x]: https://example.org", "[x]: https://example.org"),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(name: str) -> None:
    text, wanted = GOLDENS[name]
    assert formatted(text, 1600) == wanted


def test_what_formatting_would_make_too_long_is_sent_as_it_is() -> None:
    text = "\n".join(f"> {'x' * 10}\n" + "\n".join("y" for _ in range(30)) for _ in range(10))
    most = len(text)
    assert len(formatted(text, 10**6)) > most
    assert formatted(text, most) == text


def test_every_part_of_a_long_answer_fits() -> None:
    """FAULTS 17: 65,000 characters with a fence that never ends."""
    text = "# Head\n\n" + "**word** " * 2_000 + "\n```python\n" + "print('*x*')\n" * 3_600
    parts = [formatted(part, 1600) for part in split(text, 1600)]
    assert all(0 < len(part) <= 1600 for part in parts)
    assert all(part.count("```") % 2 == 0 for part in parts)
    assert "".join(parts).count("print") == 3_600


@given(st.text(alphabet=st.characters() | st.sampled_from("*_~`>#-|[]()\n \\<&!"), max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    made = formatted(text, max(1, len(text)))
    assert len(made) <= max(1, len(text))
    assert made.strip() or not plain(text).strip(), "nothing that can be read is lost whole"
    assert not any(letter in made for letter in "\x00\x07\x1b\x9b\u202e\u2066")
