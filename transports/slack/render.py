"""An agent's document as Slack's mrkdwn, in pieces that fit a section block. Pure.

What an agent says may come from anywhere: `&`, `<` and `>` are escaped wherever they stand, so nothing in it mentions
anybody or fakes a link, and Slack is told not to look for mentions in the rest (`verbatim`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.chat import table
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
    Spans,
    Strong,
    Struck,
    Table,
    Text,
    literal,
    opens,
    poses,
    says_itself,
    told,
    touches_word,
)
from gateway.chat.markdown import parse
from gateway.chat.text import plain

#: Slack's limits: UTF-16 units of a section, and of all blocks of a message (with room for buttons).
SECTION = 3_000
ALL = 12_500

#: Characters of a link; a longer one could not be kept whole.
_LONGEST_LINK = 2_000

_BULLETS = ("•", "◦", "▪")
_INDENT = "    "
_FENCE = "```\n"
_RULE = "──────────"
_MARKS = {Strong: "*", Emphasis: "_", Struck: "~"}
#: Columns of a table that fit a line of Slack's code.
_WIDEST = 80
#: An ampersand that could be read as an escape.
_ENTITY = re.compile(r"&(?=(?:lt|gt|amp);)")


def pieces(text: str) -> list[tuple[str, bool]]:
    """The mrkdwn of a text, cut to sections; each with whether it continues the paragraph before it.

    A text whose mrkdwn would be too long for one message becomes plain, escaped text.
    """
    shown = plain(text)
    for chunks in (_chunks(shown), [escape(shown)], [_barely_escaped(shown)]):
        found = _packed(chunks)
        if sum(_units(piece) for piece, _ in found) <= ALL:
            return found
    return found


def summary(text: str, most: int = 3_000) -> str:
    """The text for notifications, searches and screen readers: plain and escaped, at most `most` bytes."""
    escaped = escape(plain(text)).encode()
    if len(escaped) <= most:
        return escaped.decode()
    cut = escaped[: most - 3].decode(errors="ignore")
    return cut[: cut.rindex("&")] + "…" if re.search(r"&[a-z]{0,3}$", cut) else cut + "…"


def escape(text: str) -> str:
    """Text in which none of Slack's markup is left but `*_~` and backticks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _barely_escaped(text: str) -> str:
    """Escape only what would be read as markup; the result is at most four times as long."""
    return _ENTITY.sub("&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# --- blocks ----------------------------------------------------------------------------------------------------------


def _chunks(text: str) -> list[str]:
    """The top-level blocks, each in mrkdwn."""
    return [chunk for block in parse(text).blocks if (chunk := _block(block, 0)).strip()]


def _block(block: Block, depth: int) -> str:
    """One block; `depth`: how many lists it is nested in."""
    match block:
        case Paragraph(spans):
            return _line(spans)
        case Heading(_, spans):
            return _marked(spans, "*", "")
        case CodeBlock(text):
            return _code(text)
        case Quote(blocks):
            inner = "\n".join(_block(inner, 0) for inner in blocks)
            return "\n".join(f"> {line}" if line else ">" for line in inner.split("\n"))
        case ListBlock(items, first):
            return "\n".join(_item(item, at, first, depth) for at, item in enumerate(items))
        case Table():
            lines = table.lines(block, _WIDEST)
            shown = [_code("\n".join(lines))] if lines else [_block(rows, depth) for rows in table.as_list(block)]
            return "\n".join(shown)
        case Rule():
            return _RULE


def _item(blocks: Blocks, at: int, first: int | None, depth: int) -> str:
    mark = _BULLETS[min(depth, len(_BULLETS) - 1)] if first is None else f"{first + at}."
    inner = _INDENT * (depth + 1)
    lines = [f"{_INDENT * depth}{mark}"]
    for number, block in enumerate(blocks):
        shown = _block(block, depth + 1)
        if shown.startswith(_FENCE) or isinstance(block, ListBlock | Table):
            lines.append(shown)  # a fence must be at the beginning of its line; lists are already indented
        elif number:
            lines.append(inner + shown.replace("\n", f"\n{inner}"))
        else:
            lines[0] += " " + shown.replace("\n", f"\n{inner}")
    return "\n".join(lines)


def _code(text: str) -> str:
    body = escape(text).replace("```", "``\u200b`")  # three backticks would end the block
    return f"{_FENCE}{body}\n```"


# --- within a line ---------------------------------------------------------------------------------------------------


def _line(spans: Spans, within: str = "") -> str:
    """The text of a line; `within`: the marks around it."""
    parts: list[str] = []
    for at, span in enumerate(spans):
        match span:
            case Text(words):
                parts.append(escape(literal(words, within)))
            case Code(words):
                # Slack cannot show a backtick inside such code.
                parts.append(f"`{escape(words).replace('`', 'ˋ')}`")
            case Break():
                parts.append("\n")
            case Link():
                parts.append(_link(span, within))
            case Strong() | Emphasis() | Struck():
                before, after = touches_word(spans, at)
                shown = _marked(span.spans, _MARKS[type(span)], within)
                # Marks count only at the edge of a word; a space without width is an edge too.
                parts += ["\u200b" if before else "", shown, "\u200b" if after else ""]
    return "".join(parts)


def _marked(spans: Spans, mark: str, within: str) -> str:
    """Text between marks, which end with their line."""
    if mark in within:
        return _line(spans, within)
    lines = _line(spans, within + mark).split("\n")
    return "\n".join(f"{mark}{line}{mark}" if line.strip() else line for line in lines)


def _link(link: Link, within: str) -> str:
    """A link; words that look like another address do not hide where it leads."""
    target, words = escape(link.address), _line(link.spans, within)
    kept = len(target) <= _LONGEST_LINK
    if not opens(link.address):
        shown = f"`{target}`"
    elif not kept:
        shown = target
    else:
        shown = f"<{target}>" if told(link) == link.address else f"<{target}|{_label(escape(told(link)))}>"
    if says_itself(link):
        return shown
    if not opens(link.address) or not kept or len(words) > _LONGEST_LINK // 4 or poses(link):
        return f"{words} ({shown})"
    return f"<{target}|{_label(words)}>"


def _label(words: str) -> str:
    return words.replace("|", "¦").replace("\n", " ")


# --- sections --------------------------------------------------------------------------------------------------------


def _packed(chunks: Sequence[str]) -> list[tuple[str, bool]]:
    """Chunks as sections: as many in one as fit; a chunk that is too long becomes several."""
    sections: list[tuple[str, bool]] = []
    for chunk in chunks:
        last, goes_on = sections[-1] if sections else ("", False)
        if sections and _units(last) + 2 + _units(chunk) <= SECTION:
            sections[-1] = (f"{last}\n\n{chunk}", goes_on)
        else:
            sections += [(piece, number > 0) for number, piece in enumerate(_cut(chunk))]
    return sections or [("\u200b", False)]


def _cut(chunk: str) -> list[str]:
    fenced = chunk.startswith("```\n") and chunk.endswith("\n```")
    room = SECTION - (8 if fenced else 0)
    rest = chunk[4:-4] if fenced else chunk
    found = []
    while _units(rest) > room:
        at = _where(rest, room)
        found.append(rest[:at])
        rest = rest[at:]
    found.append(rest)
    return [f"```\n{piece.strip(chr(10))}\n```" for piece in found] if fenced else found


def _where(text: str, room: int) -> int:
    """Where to cut so that at most `room` units come before, and no escape and no link is torn."""
    at = len(text.encode("utf-16-le", "surrogatepass")[: 2 * room].decode("utf-16-le", "ignore"))
    for separator in ("\n", " "):
        found = text.rfind(separator, at // 2, at)
        if found > 0:
            return _whole(text, found + 1)
    return _whole(text, at)


def _whole(text: str, at: int) -> int:
    for begin, end in (("<", ">"), ("&", ";")):
        opened = text.rfind(begin, 0, at)
        if opened > 0 and end not in text[opened:at] and (begin == "<" or at - opened < 5):
            return opened
    return at
