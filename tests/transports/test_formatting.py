"""What an agent says, as each platform gets it: byte for byte for the cases in goldens/, and for any text at all.

`python -m tests.support.goldens` writes the files anew.
"""

from __future__ import annotations

import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat.text import plain
from tests.support.goldens import CASES, FOLDER, PLATFORMS, golden, made
from transports.matrix import render as matrix
from transports.slack import render as slack
from transports.terminal import inert, styled
from transports.whatsapp.render import formatted


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", CASES)
def test_a_platform_is_sent_its_golden(name: str, platform: str) -> None:
    assert made(name, platform) == golden(name, platform).read_text()


def test_no_golden_is_missing_or_left_over() -> None:
    wanted = {golden(name, platform) for name in CASES for platform in PLATFORMS}
    assert {path for path in FOLDER.iterdir() if path.suffix != ".md"} == wanted
    assert len(CASES) >= 10


def test_nothing_acts_in_what_a_hostile_agent_says() -> None:
    """FAULTS 28, in the files themselves: mentions, markup, orders to a screen, reordered text."""
    for name in CASES:
        sent = {platform: golden(name, platform).read_text() for platform in PLATFORMS}
        assert not re.search(r"<(?!https?://|mailto:)", sent["slack.txt"])
        assert not re.search(r"matrix\.to|matrix:", " ".join(re.findall(r'<a href="([^"]*)"', sent["matrix.html"])))
        assert "␛" not in sent["matrix.html"] + sent["slack.txt"] + sent["whatsapp.txt"]
        assert "␛" not in re.sub(r"␛\[[0-9;]+m", "", sent["console.txt"]), "only the looks of letters change"
        # A mark of no width at the edge of a word, or in three ticks, is ours; one for right-to-left text may stay.
        assert set(re.findall(r"⟦([0-9a-f]+)⟧", "".join(sent.values()))) <= {"200b", "200f"}


#: What may stand between angle brackets in Slack: a link, with words or without.
_LINK = re.compile(r"<(?:https?://|mailto:)[^<>|]+(?:\|[^<>|]*)?>", re.IGNORECASE)
_PARTS = [
    *("<!channel>", "<@U012>", "@room", "&lt;", "&#x202e;", "&#27;[2J", "<", ">", "&", "|", "*", "**", "_", "~~", "`"),
    *(
        "```",
        "\n",
        "\n\n",
        "- ",
        "1. ",
        "> ",
        "# ",
        "    ",
        "| a |\n|---|\n",
        "[",
        "](",
        ")",
        "![",
        "https://a.example/",
    ),
    *("mailto:a@b.example", "matrix:u/a:b", "https://matrix.to/#/@a:b", "javascript:x", "\x1b[2J", "\x1b]8;;", "\x07"),
    *("\x00", "\x9b", "\u202e", "\u2066", "\xa0", "\ufffd", "👩\u200d💻", "שלום", "太字", "𐍈", "x y", "<b>", "\\"),
    *('"', "'", "!", "(", " ", "\t", "---", "===", "|", "+ ", "\r", "\x0c", "&nbsp;", "&#10;", "&shy;"),
    *("<https://a.b>", "\u2028", "…", ":"),
]
TEXTS = st.lists(st.sampled_from(_PARTS) | st.text(max_size=5), max_size=40).map("".join)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_no_text_breaks_a_platform_or_acts_on_it(text: str) -> None:
    html = matrix.html(text)
    assert html == matrix.written(text), "the guard has nothing to take out"
    assert not re.search(r'<a href="(?!https?://|mailto:)', html)
    mrkdwn = "".join(piece for piece, _ in slack.pieces(text))
    assert "<" not in _LINK.sub("", mrkdwn)
    whatsapp = formatted(text, 10**6)
    console = re.sub(r"\x1b\[[0-9;]+m", "", styled(text, 80))
    for sent in (html, mrkdwn, whatsapp, console):
        assert plain(sent) == sent, "no control character"
        assert not any(unicodedata.bidirectional(letter) in ("RLO", "LRO", "RLI", "LRI", "FSI") for letter in sent)
    assert inert(console) == console, "nor what has no shape"


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_every_word_that_an_agent_says_is_there(text: str) -> None:
    """But what `gateway.chat.markdown` names: of fences, tables, titles, and images within links."""
    text = re.sub(r"""`{3,}|~{3,}|!\[|["'(|]""", " ", text)
    words = re.findall(r"[a-z]{4,}", re.sub(r"&\S*", "", plain(text)))
    for sent in (matrix.html(text), "".join(piece for piece, _ in slack.pieces(text)), formatted(text, 10**6)):
        assert all(word in sent for word in words if word not in ("http", "https", "mailto"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["marks", "quotes", "a wide table", "a long table", "links"])
def test_a_hundred_thousand_characters_take_moments(name: str) -> None:
    text = {
        "marks": "*a **b _c ~~d " * 7_200,
        "quotes": (">" * 25 + " a\n") * 3_700,
        "a wide table": f"|a|b|\n|-|-|\n|{'x' * 50_000}|y|\n" + "|x|y|\n" * 8_000,
        "a long table": "|a|b|\n|-|-|\n" + "|x|y|\n" * 16_000,
        "links": "[a](https://a.example/b) https://c.example *d* " * 2_100,
    }[name][:100_000]
    for shown in (
        matrix.html,
        slack.pieces,
        lambda text: formatted(text, 10**6),
        lambda text: styled(text, 80),
    ):
        began = time.process_time()
        shown(text)
        assert time.process_time() - began < 15


def test_a_terminal_breaks_prose_between_words_and_leaves_code_whole() -> None:
    command = "ssh huskies@127.0.0.1 -p 22200 -i /home/you/.huskies/demo/id_ed25519"
    shown = styled(f"Paste this into any editor: `{command}`, **and then** go on.", 30)
    lines = shown.split("\n")
    assert [line for line in lines if command in line], "what is copied is whole"
    prose = [line for line in lines if command not in line]
    assert all(len(re.sub(r"\x1b\[[\d;]*m", "", line)) <= 30 for line in prose)
    assert prose[0] == "Paste this into any editor:"
    assert "\0" not in shown
