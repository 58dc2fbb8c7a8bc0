"""An agent's Markdown as Slack's mrkdwn, in pieces that fit a section block. Pure.

What an agent says may come from anywhere: `&`, `<` and `>` are escaped wherever they stand, so nothing in it mentions
anybody or fakes a link, and Slack is told to look for no mentions in the rest (`verbatim`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from transports.plain import plain

#: Slack's limits: UTF-16 units of a section, and of all blocks of a message (with room for buttons).
SECTION = 3_000
ALL = 12_500

#: Characters of a link; a longer one could not be kept whole.
_LONGEST_LINK = 2_000

_BULLETS = ("•", "◦", "▪")
_INDENT = "    "
_RULE = "──────────"
#: Columns of a table above which padding would make it larger than it is.
_WIDEST = 60
_ADDRESS = re.compile(r"https?://[^\s<>|\"'`]+[^\s<>|\"'`.,;:!?)\]}*_~]")
_LINKABLE = re.compile(r"(?:https?://|mailto:)[^\s<>|]+", re.IGNORECASE)
#: An ampersand that could be read as an escape.
_ENTITY = re.compile(r"&(?=(?:lt|gt|amp);)")


def pieces(text: str) -> list[tuple[str, bool]]:
    """The mrkdwn of a text, cut to sections; each with whether it goes on within the paragraph before it.

    A text whose mrkdwn would be too long for one message is given as plain, escaped text.
    """
    shown = plain(text)
    for chunks in (_chunks(shown), [escape(shown)], [_barely_escaped(shown)]):
        found = _packed(chunks)
        if sum(_units(piece) for piece, _ in found) <= ALL:
            return found
    return found


def summary(text: str, most: int = 3_000) -> str:
    """What notifications, searches and screen readers get: plain and escaped, at most `most` bytes."""
    escaped = escape(plain(text)).encode()
    if len(escaped) <= most:
        return escaped.decode()
    cut = escaped[: most - 3].decode(errors="ignore")
    return cut[: cut.rindex("&")] + "…" if re.search(r"&[a-z]{0,3}$", cut) else cut + "…"


def escape(text: str) -> str:
    """Text in which nothing is markup of Slack's but its `*_~` and backticks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _barely_escaped(text: str) -> str:
    """At most four times as long: only what would be read as markup is escaped."""
    return _ENTITY.sub("&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# --- blocks ----------------------------------------------------------------------------------------------------------


def _chunks(text: str) -> list[str]:
    """The top-level blocks, each in mrkdwn."""
    tokens = _markdown().parse(text)
    chunks, start, depth = [], 0, 0
    for at, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            chunk = _block(tokens[start : at + 1])
            start = at + 1
            if chunk.strip():
                chunks.append(chunk)
    return chunks


def _block(tokens: Sequence[Token]) -> str:
    first = tokens[0]
    match first.type:
        case "fence" | "code_block":
            return _code(first.content)
        case "hr":
            return _RULE
        case "heading_open":
            return f"*{_inline(tokens[1]).replace('*', '')}*"
        case "blockquote_open":
            inner = "\n".join(_blocks(tokens[1:-1]))
            return "\n".join(f"> {line}" if line else ">" for line in inner.split("\n"))
        case "bullet_list_open" | "ordered_list_open":
            return _list(tokens, 0)
        case "table_open":
            return _table(tokens)
        case "paragraph_open":
            return _inline(tokens[1])
        case _:
            return escape(first.content)


def _blocks(tokens: Sequence[Token]) -> list[str]:
    """Blocks that stand beside each other, at any depth."""
    found, start, depth = [], 0, 0
    for at, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            found.append(_block(tokens[start : at + 1]))
            start = at + 1
    return found


def _list(tokens: Sequence[Token], depth: int) -> str:
    ordered = tokens[0].type == "ordered_list_open"
    number = int(tokens[0].attrs.get("start", 1)) if ordered else 0
    lines: list[str] = []
    for item in _items(tokens[1:-1]):
        mark = f"{number}." if ordered else _BULLETS[min(depth, len(_BULLETS) - 1)]
        lines.append(_item(item, mark, depth))
        number += 1
    return "\n".join(lines)


def _items(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """What each item of a list holds."""
    found, start, depth = [], 0, 0
    for at, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            found.append(tokens[start + 1 : at])
            start = at + 1
    return found


def _item(tokens: Sequence[Token], mark: str, depth: int) -> str:
    parts: list[str] = []
    start, level = 0, 0
    for at, token in enumerate(tokens):
        level += token.nesting
        if level:
            continue
        inner = tokens[start : at + 1]
        start = at + 1
        if inner[0].type in ("bullet_list_open", "ordered_list_open"):
            parts.append(_list(inner, depth + 1))
        elif inner[0].type in ("fence", "code_block"):
            parts.append(_block(inner))  # a fence must stand at the beginning of its line
        else:
            parts.append(_block(inner).replace("\n", f"\n{_INDENT * (depth + 1)}"))
    begun = parts and not parts[0].startswith(("```", _INDENT))
    head = f"{_INDENT * depth}{mark} {parts.pop(0) if begun else ''}".rstrip()
    rest = [part if part.startswith(("```", _INDENT)) else _INDENT * (depth + 1) + part for part in parts]
    return "\n".join([head, *rest])


def _table(tokens: Sequence[Token]) -> str:
    """A table as a block of code: Slack has none."""
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(" ".join(_words(token).split()))
    columns = max(len(row) for row in rows)
    widths = [min(_WIDEST, max(len(row[at]) for row in rows if at < len(row))) for at in range(columns)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return _code("\n".join(lines))


def _code(text: str) -> str:
    body = escape(text.rstrip("\n")).replace("```", "``\u200b`")  # three backticks would end the block
    return f"```\n{body}\n```"


# --- what stands in a line -------------------------------------------------------------------------------------------

_MARKS = {"strong": "*", "em": "_", "s": "~"}


def _inline(token: Token) -> str:
    parts: list[str] = []
    links: list[tuple[str, int]] = []
    for child in token.children or []:
        kind = child.type.removesuffix("_open").removesuffix("_close")
        if kind in _MARKS:
            parts.append(_MARKS[kind])
        elif child.type == "link_open":
            links.append((str(child.attrs.get("href", "")), len(parts)))
        elif child.type == "link_close":
            address, begun = links.pop()
            label = "".join(parts[begun:])
            del parts[begun:]
            parts.append(_link(address, label))
        elif child.type == "code_inline":
            # Slack has no way to put a backtick into such code.
            parts.append(f"`{escape(child.content).replace('`', 'ˋ')}`")
        elif child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "text":
            parts.append(escape(child.content) if links else _with_links(child.content))
        else:
            parts.append(escape(child.content))
    return "".join(parts)


def _words(token: Token) -> str:
    """The words alone, as they are."""
    return "".join(" " if child.type.endswith("break") else child.content for child in token.children or [])


def _link(address: str, label: str) -> str:
    """A link whose text does not hide where it leads when it looks like another address."""
    if not _LINKABLE.fullmatch(address):
        return f"{label} ({escape(address)})" if address and address not in label else label
    text = label.replace("|", "¦").replace("\n", " ")
    target = escape(address)
    if len(target) > _LONGEST_LINK:
        return f"{_unlinked(text)} ({target})"
    if not text or text == target:
        return f"<{target}>"
    if len(text) > _LONGEST_LINK // 4 or _ADDRESS.search(label) or "." in label.partition("/")[0]:
        return f"{_unlinked(text)} (<{target}>)"
    return f"<{target}|{text}>"


def _unlinked(text: str) -> str:
    return text.replace("<", "").replace(">", "")


def _with_links(text: str) -> str:
    """Escaped text in which bare addresses are links."""
    parts, end = [], 0
    for found in _ADDRESS.finditer(text):
        target = escape(found[0])
        parts += [escape(text[end : found.start()]), f"<{target}>" if len(target) <= _LONGEST_LINK else target]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


# --- sections --------------------------------------------------------------------------------------------------------


def _packed(chunks: Sequence[str]) -> list[tuple[str, bool]]:
    """Chunks as sections: as many in one as fit, and what is too long in several."""
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


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    # A line break in a chat message is meant as one.
    return MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).disable("image")
