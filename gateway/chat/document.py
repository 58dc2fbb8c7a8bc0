"""What an agent says, as a document: read from its Markdown by `markdown`, written by each transport. Pure.

What an agent says may come from anywhere, so every word of a document is inert (`text.plain`). An image is a link:
nobody's client fetches it unasked.

    Document -> blocks: Paragraph, Heading, CodeBlock, Quote, ListBlock, Table, Rule
                spans:  Text, Code, Strong, Emphasis, Struck, Link, Break
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

# --- what there is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Words as they are, on one line."""

    words: str


@dataclass(frozen=True, slots=True)
class Code:
    """Code within a line."""

    words: str


@dataclass(frozen=True, slots=True)
class Strong:
    """What matters. No mark holds another one of its own kind, at any depth."""

    spans: Spans


@dataclass(frozen=True, slots=True)
class Emphasis:
    """What is stressed."""

    spans: Spans


@dataclass(frozen=True, slots=True)
class Struck:
    """What no longer holds."""

    spans: Spans


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead somewhere. `address` has no spaces and only ASCII; ask `opens` whether a client can open it."""

    spans: Spans
    address: str


@dataclass(frozen=True, slots=True)
class Break:
    """The end of a line. In a chat a line break is meant as one."""


Span = Text | Code | Strong | Emphasis | Struck | Link | Break
Spans = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words that belong together, on one line or several."""

    spans: Spans


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` is 1 to 6."""

    level: int
    spans: Spans


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Lines without a line feed at the end. `language` is a name without spaces, or empty."""

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """What somebody else said."""

    blocks: Blocks


@dataclass(frozen=True, slots=True)
class ListBlock:
    """Items, numbered from `first` on; bullets where that is None."""

    items: tuple[Blocks, ...]
    first: int | None = None


Align = Literal["", "left", "center", "right"]


@dataclass(frozen=True, slots=True)
class Table:
    """Each row has as many cells as the head."""

    head: tuple[Spans, ...]
    rows: tuple[tuple[Spans, ...], ...]
    aligned: tuple[Align, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across."""


Block = Paragraph | Heading | CodeBlock | Quote | ListBlock | Table | Rule
Blocks = tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """All that was said at once."""

    blocks: Blocks


# --- what more than one renderer asks --------------------------------------------------------------------------------

_OPENS = re.compile(r"(?:https?://|mailto:)[^\s<>|]+", re.IGNORECASE)
_SCHEME = re.compile(r"^(?:https?://|mailto:)", re.IGNORECASE)
_HOST = re.compile(r"(?<![\w.-])(?:[\w-]+\.)+[^\W\d_]{2,}")


def bare(spans: Iterable[Span]) -> str:
    """The words alone, with the addresses of links that do not say them."""
    return "".join(_bare(span) for span in spans)


def touches_word(spans: Sequence[Span], at: int) -> tuple[bool, bool]:
    """Whether a letter or a digit stands right before the span at `at`, and right behind it."""
    before = at > 0 and bare(spans[at - 1 : at])[-1:].isalnum()
    return before, bare(spans[at + 1 : at + 2])[:1].isalnum()


def opens(address: str) -> bool:
    """Whether clients open such an address: the web's, and mail's."""
    return _OPENS.fullmatch(address) is not None


def says_itself(link: Link) -> bool:
    """Whether the words of a link are its address, so that the address, as `told`, is enough."""
    words = bare(link.spans).strip()
    if not opens(link.address):
        return not words or link.address.partition("#")[0] == words or link.address == words
    return not words or _core(words) in (_core(link.address), _core(unquote(link.address)))


def told(link: Link) -> str:
    """The address of a link as people write it."""
    words = bare(link.spans)
    same = unquote(words).removesuffix("/") == unquote(link.address).removesuffix("/")
    return words if same else link.address.removeprefix("mailto:")


def poses(link: Link) -> bool:
    """Whether the words of a link look like another address than the one where it leads."""
    if says_itself(link):
        return False
    words = bare(link.spans)
    try:
        parts = urlsplit(link.address)
        leads = (parts.hostname if parts.netloc else parts.path.rpartition("@")[2]) or ""
    except ValueError:
        return True
    hosts = {host.casefold() for host in _HOST.findall(words)}
    return (bool(hosts) and hosts != {leads.casefold()}) or (not hosts and "://" in words) or "@" in words


def literal(words: str, within: str = "", marks: str = "*_~`") -> str:
    """Words for platforms that know marks but no way to escape them: no pair of marks is left, nor one of `within`.

    Marks become letters that look like them, but only where they would act.
    """
    letters = list(words)
    for mark in marks:
        if mark in words:
            found = range(len(letters)) if mark in within else _pairs(words, mark)
            for at in found:
                if letters[at] == mark:
                    letters[at] = _LIKE[mark]
    return "".join(letters).replace("```", _LIKE["`"] * 3)


_LIKE = {"*": "∗", "_": "ˍ", "~": "∼", "`": "ˋ"}


def _core(address: str) -> str:
    """An address without what may be left out when one says it."""
    return _SCHEME.sub("", address).removesuffix("/")


def _pairs(words: str, mark: str) -> Iterator[int]:
    """Where a mark begins or ends what a platform would format: next to a word, and on one line."""
    begun: list[int] = []
    taken = 0
    for at, letter in enumerate(words):
        if letter == "\n":
            begun, taken = [], 0
        if letter != mark:
            continue
        before, after = words[at - 1 : at], words[at + 1 : at + 2]
        if not after.isalnum() and before.strip() and taken < len(begun):
            yield from (begun[taken], at)
            taken += 1
        elif not before.isalnum() and after.strip() and after not in _LIKE:
            begun.append(at)


def _bare(span: Span) -> str:
    match span:
        case Text(words) | Code(words):
            return words
        case Break():
            return " "
        case Link(spans):
            return told(span) if says_itself(span) else f"{bare(spans)} ({told(span)})"
        case Strong(spans) | Emphasis(spans) | Struck(spans):
            return bare(spans)
