"""What an agent says, byte for byte as it goes to Matrix."""

from __future__ import annotations

import json

import pytest

from transports.matrix import content, render
from transports.matrix.config import MAX_TEXT

GOLDEN = [
    (
        "**bold** *em* ~~del~~ `code`",
        "<p><strong>bold</strong> <em>em</em> <s>del</s> <code>code</code></p>",
    ),
    ("a & b < c > d", "<p>a &amp; b &lt; c &gt; d</p>"),
    ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
    ("<b onclick=x>hi</b>", "<p>&lt;b onclick=x&gt;hi&lt;/b&gt;</p>"),
    ("@room look", "<p>@room look</p>"),
    ("@ana:hs.test and !r:hs.test", "<p>@ana:hs.test and !r:hs.test</p>"),
    ("[ana](https://matrix.to/#/@ana:hs.test)", "<p>ana (<code>https://matrix.to/#/@ana:hs.test</code>)</p>"),
    ("[ana](matrix:u/ana:hs.test)", "<p>ana (<code>matrix:u/ana:hs.test</code>)</p>"),
    ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ("[x](data:text/html,hi)", "<p>[x](data:text/html,hi)</p>"),
    ("[x](file:///etc/passwd)", "<p>[x](file:///etc/passwd)</p>"),
    ("[x](ftp://h/f)", "<p>x (<code>ftp://h/f</code>)</p>"),
    ("[x](https://e.org/?a=1&b=2)", '<p><a href="https://e.org/?a=1&amp;b=2" rel="noopener">x</a></p>'),
    ("![pixel](https://e.org/p.gif)", '<p><a href="https://e.org/p.gif" rel="noopener">pixel</a></p>'),
    ("```py\nx = '<a>'\n```", "<pre><code class=\"language-py\">x = '&lt;a&gt;'\n</code></pre>"),
    ('```"><img/src=x>\nx\n```', "<pre><code>x\n</code></pre>"),
    ("<!-- hidden -->", "<p>&lt;!-- hidden --&gt;</p>"),
    (
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n"
        "<tbody>\n<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n</tbody>\n</table>",
    ),
    ("3. three\n4. four", '<ol start="3">\n<li>three</li>\n<li>four</li>\n</ol>'),
    ("> quote\n\n---", "<blockquote>\n<p>quote</p>\n</blockquote>\n<hr>"),
]


@pytest.mark.parametrize(("markdown", "html"), GOLDEN)
def test_markdown_becomes_safe_html(markdown: str, html: str) -> None:
    assert render.html(render.plain(markdown)) == html


PLAIN = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;http://e.org\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("a\x1bcb", "ab"),
    ("a\x00b\x08c\x7fd\x9be", "a\ufffdb\ufffdc\ufffdd\ufffde"),
    ("user\u202egpj.exe\u2066x\u2069", "user\ufffdgpj.exe\ufffdx\ufffd"),
    ("one\r\ntwo\rthree\tfour", "one\ntwo\nthree\tfour"),
    ("half \ud83d of a pair", "half \ufffd of a pair"),
    ("שלום\u200f! 🐺\u200d❄", "שלום\u200f! 🐺\u200d❄"),
]


@pytest.mark.parametrize(("text", "shown"), PLAIN)
def test_nothing_in_a_text_acts_on_a_screen(text: str, shown: str) -> None:
    assert render.plain(text) == shown
    assert len(shown) <= len(text)


def test_a_message_in_bytes() -> None:
    made = content.message("hi @room\x1b[1m", thread="$root", reply_to="$q")
    assert json.dumps(made, sort_keys=True) == (
        '{"body": "hi @room", "format": "org.matrix.custom.html", "formatted_body": "<p>hi @room</p>", '
        '"m.mentions": {}, "m.relates_to": {"event_id": "$root", "is_falling_back": false, '
        '"m.in_reply_to": {"event_id": "$q"}, "rel_type": "m.thread"}, "msgtype": "m.notice"}'
    )


@pytest.mark.parametrize("character", ["🐺", "&", "a", '"', "`", "*a", "\n", "\x00", "> ", "\\", "\u202e"])
def test_every_content_fits_an_encrypted_event(character: str) -> None:
    text = (character * MAX_TEXT)[:MAX_TEXT]
    for made in (content.message(text, thread="$" + "e" * 43), content.replacement(text, "$" + "e" * 43)):
        size = len(json.dumps(made, ensure_ascii=False).encode())
        assert size * 4 / 3 < 62_500, "base64 of it and 3 kB of what the homeserver adds make 65,536 bytes"


def test_a_transaction_id_depends_on_the_key_alone() -> None:
    assert content.transaction("send", "!r", "key") == content.transaction("send", "!r", "key")
    others = [("edit", "!r", "key"), ("send", "!s", "key"), ("send", "!r", "kez"), ("send", "!rkey", "")]
    assert len({content.transaction(*other) for other in [("send", "!r", "key"), *others]}) == 5
