"""Slack's way of writing text, as plain text. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"<([@#!][^<>\n]+|[A-Za-z][\w+.-]*:[^<>\s][^<>\n]*)>")
_PERSON = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^<>\n]*)?>")


def mentioned(raw: str) -> list[str]:
    """The ids of the people whom a text mentions, in order, each once."""
    return list(dict.fromkeys(_PERSON.findall(raw))) if "<@" in raw else []


def plain(raw: str, name: Callable[[str], str]) -> str:
    """What a person wrote, as they saw it: escapes undone, mentions and links in words.

    Args:
        raw: a text from Slack.
        name: what somebody with a given id is called.
    """
    parts: list[str] = []
    end = 0
    for token in _TOKEN.finditer(raw):
        parts += [_unescaped(raw[end : token.start()]), _unescaped(_shown(token[1], name))]
        end = token.end()
    return "".join([*parts, _unescaped(raw[end:])])


def _shown(token: str, name: Callable[[str], str]) -> str:
    what, _, label = token.partition("|")
    if what.startswith("@"):
        return f"@{label or name(what[1:])}"
    if what.startswith("#"):
        return f"#{label or what[1:]}"
    if what.startswith("!"):
        kind = what[1:].partition("^")[0]
        return label or (f"@{kind}" if kind in ("here", "channel", "everyone") else what[1:])
    bare = what.removeprefix("mailto:").removeprefix("tel:")
    if not label or label in (what, bare):
        return bare
    if what.endswith((f"://{label}", f"://{label}/")):  # Slack made a link of what was typed, a file's name, say
        return label
    return f"{label} ({bare})"


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
