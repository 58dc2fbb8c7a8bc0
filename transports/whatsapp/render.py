"""An agent's Markdown as WhatsApp's formatting. Pure.

WhatsApp knows `*bold*`, `_italic_`, `~struck~`, backticks, quotes and no escapes. What an agent says may come from
anywhere: nothing in it acts on a screen, and what is only text stays text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode as Node

from gateway.text import unfenced
from transports.plain import plain

_RULE = "———"
#: Columns above which a table is not padded: a phone would wrap them.
_WIDEST = 48
#: What would be read as formatting, and what looks like it: there is no other way to write it.
_PAIR = re.compile(r"(?<![^\W_])([*_~`])(?=[^\s*_~`])([^\n]*?)(?<=[^\s])\1(?![^\W_])")
_LIKE = {"*": "∗", "_": "ˍ", "~": "∼", "`": "ˋ"}
_MARKS = {"strong": "*", "em": "_", "s": "~"}


def formatted(text: str, most: int) -> str:
    """The text for WhatsApp, in at most `most` characters where `text` has no more.

    Text whose formatting would make it too long is sent as it is.
    """
    shown = plain(text)
    made = _blocks(_parse(shown).children)
    return made if made.strip() and len(made) <= most else shown


def _parse(text: str) -> Node:
    return Node(_markdown().parse(text))


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


# --- blocks ----------------------------------------------------------------------------------------------------------


def _blocks(nodes: Sequence[Node], depth: int = 0, between: str = "\n\n") -> str:
    return between.join(made for node in nodes if (made := _block(node, depth)))


def _block(node: Node, depth: int) -> str:
    match node.type:
        case "fence" | "code_block":
            return _code(node.content)
        case "hr":
            return _RULE
        case "heading":
            return _wrapped(_inline(node.children, bold=True), "*")
        case "blockquote":
            return "\n".join(f"> {line}" if line else ">" for line in _blocks(node.children).split("\n"))
        case "bullet_list" | "ordered_list":
            return _list(node, depth)
        case "table":
            return _table(node)
        case "inline":
            return _inline(node.children)
        case _:
            return _blocks(node.children, depth)


def _code(content: str) -> str:
    content = unfenced(content).rstrip("\n")
    return f"```\n{content}\n```"


def _list(node: Node, depth: int) -> str:
    first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
    lines = []
    for at, item in enumerate(node.children):
        mark = f"{first + at}." if first is not None else ("◦" if depth else "-")
        body = _blocks(item.children, depth + 1, "\n").split("\n")
        indent = " " * (len(mark) + 1)
        lines.append("\n".join([f"{mark} {body[0]}", *(f"{indent}{line}" for line in body[1:])]))
    return "\n".join(lines)


def _table(node: Node) -> str:
    rows = [[_bare(cell) for cell in row.children] for part in node.children for row in part.children]
    widths = [max(map(len, column)) for column in zip(*rows, strict=False)]
    if sum(widths) + 3 * len(widths) <= _WIDEST:
        rows = [[cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows]
        rows.insert(1, ["-" * width for width in widths])
    return _code("\n".join(" | ".join(row).rstrip() for row in rows))


def _bare(node: Node) -> str:
    """A cell's text without any formatting."""
    if not node.children:
        return node.content if node.type in ("text", "code_inline") else " "
    return "".join(_bare(child) for child in node.children).strip()


# --- within a line ---------------------------------------------------------------------------------------------------


def _inline(nodes: Sequence[Node], *, bold: bool = False) -> str:
    made = ""
    for at, node in enumerate(nodes):
        if node.type == "inline":
            made += _inline(node.children, bold=bold)
            continue
        after = nodes[at + 1].content[:1] if at + 1 < len(nodes) and nodes[at + 1].type == "text" else ""
        made += _span(node, bold=bold, within=made[-1:].isalnum() or after.isalnum())
    return made


def _span(node: Node, *, bold: bool, within: bool) -> str:
    """One span. `within`: it is part of a word, where WhatsApp knows no formatting."""
    match node.type:
        case "text":
            return _literal(node.content)
        case "code_inline":
            return f"`{node.content.replace('`', 'ʼ')}`"
        case "softbreak" | "hardbreak":
            return "\n"
        case "strong" | "em" | "s":
            inner = _inline(node.children, bold=bold or node.type == "strong")
            if within:  # perhaps it was never meant as formatting: 2*3*4
                return f"{node.markup}{inner}{node.markup}"
            return inner if bold and node.type == "strong" else _wrapped(inner, _MARKS[node.type])
        case "link":
            return _link(_inline(node.children, bold=bold), str(node.attrs.get("href", "")))
        case "image":
            return _link(_literal(node.content), str(node.attrs.get("src", "")))
        case _:
            return _literal(node.content)


def _link(label: str, address: str) -> str:
    """Words never hide where they lead."""
    known = label.replace("ˍ", "_").replace("∗", "*")
    return (
        address
        if not label or known in (address, unquote(address), address.removeprefix("mailto:"))
        else (f"{label} ({address})")
    )


def _wrapped(text: str, mark: str) -> str:
    """Formatting ends with its line."""
    return "\n".join(f"{mark}{line}{mark}" if line.strip() else line for line in text.split("\n"))


def _literal(text: str) -> str:
    """Text in which no pair of marks is formatting; a mark alone is none."""
    while (found := _PAIR.search(text)) is not None:
        like = _LIKE[found[1]]
        text = f"{text[: found.start()]}{like}{found[2]}{like}{text[found.end() :]}"
    return text.replace("```", "ˋˋˋ")
