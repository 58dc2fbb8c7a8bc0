"""What the files of a source say about versions. A source may be hostile: unreadable files are named, not errors."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stacks import versions as syntax
from stacks.schema import Platform, Read, Unread, Versions
from stacks.tree import MAX_KIB, Tree

#: The project's own settings; only its stack and versions count.
PROJECT_FILE = ".huskies/project.toml"
#: Characters of a foreign text that a warning shows.
_SHOWN = 60
#: Dots in a line of TOML, whose square the parser's memory grows with: 64 KiB of them would take gigabytes. And dots in
#: all of it, since its time grows with both.
_MAX_DOTS, _MAX_DOTS_IN_ALL = 300, 30_000
#: What is no part of a file that is read by a pattern; a star in a path must not begin a comment. A comment without an
#: end goes to the file's: to look for the end from each beginning would take minutes.
_COMMENTS = {
    ".xml": re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL),
    ".gradle": re.compile(r"^[ \t]*/\*.*?(?:\*/|\Z)", re.DOTALL | re.MULTILINE),
    ".gradle.kts": re.compile(r"^[ \t]*/\*.*?(?:\*/|\Z)", re.DOTALL | re.MULTILINE),
}


class Unreadable(ValueError):
    """A text is not in its format."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one file says about a version: where, in which words, and what that allows (see `versions.Reading`)."""

    file: str
    key: str
    text: str
    allows: str
    exact: str

    def __str__(self) -> str:
        return said(self.file, self.key, self.text)


def said(file: str, key: str, value: object) -> str:
    """The beginning of a sentence about what a file says. Values that may be endless are not written out."""
    if isinstance(value, str):
        what = quoted(value)
    elif isinstance(value, bool | float):
        what = str(value).lower()
    else:
        what = {int: "a number", list: "a list", dict: "a table"}.get(type(value), "something else")
    return f"{file} says {key} = {what}" if key else f"{file} says {what}"


def quoted(text: str) -> str:
    """A foreign text for people: short, in quotes, on one line and without control characters."""
    return f'"{shown(text)}"'


def shown(text: str) -> str:
    """A foreign text for people, without quotes around it."""
    start = text[: _SHOWN + 1]
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in start)
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


def place(folder: str, name: str) -> str:
    """The path of a file in a folder of the source."""
    return f"{folder}/{name}" if folder else name


def load_toml(text: str) -> dict[str, Any]:
    """What a TOML file holds. Raises Unreadable."""
    if text.count(".") > _MAX_DOTS_IN_ALL or any(line.count(".") > _MAX_DOTS for line in text.split("\n")):
        raise Unreadable("too many dots")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number that is too long, or tables too deep
        raise Unreadable("not TOML") from error


def read_versions(tree: Tree, folder: str, versions: Versions) -> tuple[list[Said], list[str]]:
    """What files say about the versions of a stack, and warnings about what cannot be read.

    A file that is not in the folder is looked for at the source's top, as version managers do.
    """
    found: dict[Said, None] = {}
    warnings: dict[str, None] = {}
    for entry in versions.reads:
        path = next((place(at, entry.file) for at in (folder, "") if _is_file(tree, place(at, entry.file))), None)
        if path is None:
            continue
        key = ".".join(entry.key)
        try:
            value = _value(tree, path, entry)
        except Unreadable as error:
            warnings[f"{path} cannot be read ({error}): what it says about versions was ignored."] = None
            continue
        if value is None or value == "" or isinstance(value, dict):  # as in `rust-version.workspace = true`
            continue
        one = understand(path, key, value, entry.syntax, versions)
        if one is not None:
            found[one] = None
        else:
            sentence = f"{said(path, key, value)}, which is not a version of {versions.name}: it was ignored."
            warnings[sentence] = None
    for asked in versions.unread:
        if not (asked.otherwise and found):
            warnings |= dict.fromkeys(_not_read(tree, folder, asked))
    return list(found), list(warnings)


def is_elsewhere(tree: Tree, folder: str, versions: Versions) -> bool:
    """Whether a folder is of a part that is made for other platforms only."""
    return any(_excludes(tree, place(folder, asked.file), asked) for asked in versions.platforms)


def _excludes(tree: Tree, path: str, asked: Platform) -> bool:
    try:
        value = _at(tree, path, asked) if _is_file(tree, path) else None
    except Unreadable:
        return False
    names = {one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)}
    wanted = {one for one in names if not one.startswith("!")}
    return bool(wanted and wanted.isdisjoint(asked.has)) or names >= {f"!{one}" for one in asked.has}


def _not_read(tree: Tree, folder: str, asked: Unread) -> list[str]:
    """What a file asks for that nothing here does."""
    path = place(folder, asked.file)
    if not _is_file(tree, path):
        return []
    try:
        value = _at(tree, path, asked)
    except Unreadable:  # that was said
        return []
    listed = value if isinstance(value, list) else [value]
    left = [one for one in listed if isinstance(one, str) and one.strip() and one not in asked.has]
    if not left:
        return []
    key = ".".join(asked.key)
    return [f"{path} says {f'{key} = ' if key else ''}{shown(', '.join(left))}, which is not read: {asked.why}."]


def understand(file: str, key: str, value: object, kind: str, versions: Versions) -> Said | None:
    """What a value means in a syntax; None if nothing. A number with a point has lost its zeros (3.10)."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = str(value) if isinstance(value, str) or abs(value) < 10**9 else ""
    reading = syntax.read(text, kind, versions.words, versions.named)
    return None if reading is None else Said(file, key, syntax.tidy(text), reading.allows, reading.exact)


def _is_file(tree: Tree, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name in tree.files(folder)


def _value(tree: Tree, path: str, entry: Read) -> object:
    value = _at(tree, path, entry)
    return _of_tool(value, entry.tool) if entry.tool else value


def _of_tool(value: object, tool: str) -> object:
    """The version of a tool's entry; None if it is of another tool."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, Mapping):
            return one
        if one.get("name", tool) == tool:
            return one.get("version")
    return None


def _at(tree: Tree, path: str, entry: Read | Unread | Platform) -> object:
    text = tree.text(path)
    if text is None:
        raise Unreadable(f"longer than {MAX_KIB} KiB" if tree.is_too_long(path) else "not a text in UTF-8")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    for suffix, comment in _COMMENTS.items():
        text = comment.sub("", text) if path.endswith(suffix) else text
    if entry.pattern is not None:
        match = entry.pattern.search(text)
        return None if match is None else match[1]
    value: object = _load_json(text) if path.endswith(".json") else load_toml(text)
    for part in entry.key:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _load_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("not JSON") from error
