"""A stack.toml, strictly checked: whoever adds a stack is told the file, the key and what to write there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gateway.errors import UserError
from stacks import versions as syntax

#: Where mise keeps what a project needs.
MISE = ("mise.toml", ".mise.toml", "mise/config.toml", ".mise/config.toml", ".config/mise.toml")


@dataclass(frozen=True, slots=True)
class Read:
    """Where a version is read from: a file's first match of `pattern` (group 1), or its `key` (TOML or JSON).

    `tool`: what is there is a tool's entry: a version, a table with a `version` and perhaps the tool's `name`, or a
    list of either.
    """

    file: str
    syntax: str
    pattern: re.Pattern[str] | None = None
    key: tuple[str, ...] = ()
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """What a file may ask for, and nothing here does: a warning names it. `has`: what an image has anyway.

    `otherwise`: only where no version was read.
    """

    file: str
    why: str
    pattern: re.Pattern[str] | None = None
    key: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    otherwise: bool = False


@dataclass(frozen=True, slots=True)
class Platform:
    """Where a file lists the platforms that its folder is for, "!x" for all but x. `has`: what an image is."""

    file: str
    has: tuple[str, ...]
    pattern: re.Pattern[str] | None = None
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a stack. `name` is what people call the tool.

    `packaged`: what Debian, PyPI or npm have, "1.24" for the line as such, "1.24.*" for its releases too, "*" for all.
    `lines`: release lines to choose from, the oldest first. `words` and `named`: see `stacks.versions.read`.
    `platforms`: a subfolder that is for none of ours says nothing.
    """

    name: str
    packaged: tuple[str, ...]
    lines: tuple[str, ...]
    words: Mapping[str, str]
    named: re.Pattern[str] | None
    reads: tuple[Read, ...]
    unread: tuple[Unread, ...] = ()
    platforms: tuple[Platform, ...] = ()

    def is_packaged(self, version: str) -> bool:
        """Whether a line or a release is available without its own upstream."""
        return any(
            entry in (syntax.ANY, version) or (entry.endswith(".*") and f"{version}.".startswith(entry[:-1]))
            for entry in self.packaged
        )


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What rebuilds a folder of `built` instead, where a file is there, or its first match of `pattern`."""

    folder: str
    file: str
    command: str
    pattern: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The content of a stack.toml."""

    summary: str
    order: int
    version: str
    versions: Versions | None
    built: Mapping[str, str]
    rebuild: tuple[Rebuild, ...]


class _Table:
    """A table whose keys are taken one by one; those left at the end are unknown."""

    def __init__(self, file: Path, name: str, values: Mapping[str, Any]) -> None:
        self._file, self._name, self._values = file, name, dict(values)

    def wrong(self, key: str, problem: str, example: str) -> UserError:
        return UserError(f"{self._file}: {self._name}{key} {problem}. Write, for example, `{example}`.")

    def text(self, key: str, example: str, default: str | None = None) -> str:
        value = self._values.pop(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.wrong(key, "is missing" if value is None else "is not a text", example)
        return value

    def whole(self, key: str, example: str) -> int:
        value = self._values.pop(key, None)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "is missing" if value is None else "is not a whole number", example)
        return value

    def texts(self, key: str, example: str, default: list[str]) -> tuple[str, ...]:
        value = self._values.pop(key, default)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            raise self.wrong(key, "is not a list of texts", example)
        return tuple(value)

    def mapping(self, key: str, example: str) -> Mapping[str, str]:
        value = self._values.pop(key, {})
        if not isinstance(value, dict) or not all(isinstance(one, str) and one for one in value.values()):
            raise self.wrong(key, "is not a table of texts", example)
        return value

    def table(self, key: str, example: str) -> _Table | None:
        value = self._values.pop(key, None)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "is not a table", example)
        return None if value is None else _Table(self._file, f"{self._name}{key}.", value)

    def tables(self, key: str, example: str) -> list[_Table]:
        value = self._values.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.wrong(key, "is not a list of tables", example)
        return [_Table(self._file, f"{self._name}{key}[{n}].", one) for n, one in enumerate(value, 1)]

    def flag(self, key: str, example: str) -> bool:
        value = self._values.pop(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "is neither true nor false", example)
        return value

    def pattern(self, key: str, example: str) -> re.Pattern[str] | None:
        text = self.text(key, example, "")
        try:
            return re.compile(text, re.MULTILINE) if text else None
        except re.error as error:
            raise self.wrong(key, f"is not a regular expression ({error})", example) from None

    def end(self, known: str) -> None:
        for key in self._values:
            raise UserError(f"{self._file}: {self._name}{key} is unknown. Remove it; the keys are: {known}.")


def read_settings(file: Path) -> Settings:
    """Read a stack.toml. Raises UserError."""
    try:
        values = tomllib.loads(file.read_text())
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}). Write one with `summary` and `order`.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not TOML ({error}). Correct it.") from None
    table = _Table(file, "", values)
    summary = table.text("summary", 'summary = "Zig with zls"')
    order = table.whole("order", "order = 15")
    version = table.text("version", 'version = "0.14"', "")
    if version and not syntax.INSTALLABLE.fullmatch(version):
        raise table.wrong("version", "is not a version", 'version = "0.14"')
    built = table.mapping("built", '[built] node_modules = "npm install"')
    rebuild = tuple(_rebuild(entry, built) for entry in table.tables("rebuild", "[[rebuild]]"))
    inner = table.table("versions", '[versions] lines = ["0.13", "0.14"]')
    versions = None if inner is None else _versions(table, inner, file.parent.name, version)
    table.end("summary, order, version, versions, built, rebuild")
    return Settings(summary, order, version, versions, built, rebuild)


def _rebuild(table: _Table, built: Mapping[str, str]) -> Rebuild:
    folder = table.text("folder", 'folder = "zig-out"')
    if folder not in built:
        raise table.wrong("folder", "is none of [built]", f'folder = "{next(iter(built), "zig-out")}"')
    file = _file(table)
    pattern = table.pattern("pattern", r"pattern = 'zig (\S+)'")
    command = table.text("command", 'command = "zig build"')
    table.end("folder, file, pattern, command")
    return Rebuild(folder, file, command, pattern)


def _versions(outer: _Table, table: _Table, stack: str, version: str) -> Versions:
    if not version:
        raise outer.wrong("version", "is missing, but there are [versions]", 'version = "0.14"')
    example = 'lines = ["0.13", "0.14"]'
    lines = table.texts("lines", example, [version])
    if any(re.fullmatch(r"[0-9]+(\.[0-9]+)*", line) is None for line in (version, *lines)):
        raise table.wrong("lines", "or version has something that is not a release line", example)
    if any(line.count(".") != version.count(".") for line in lines):
        raise table.wrong("lines", f"do not have as many parts as version, {version}", example)
    versions = Versions(
        name=table.text("name", 'name = "Zig"', stack),
        packaged=table.texts("packaged", 'packaged = ["0.14"]', [version]),
        lines=lines,
        words=_words(table, table.mapping("words", '[versions.words] stable = "*"')),
        named=table.pattern("named", "named = 'nightly'"),
        reads=(
            *(_read(entry) for entry in table.tables("read", "[[versions.read]]")),
            *_mise(table.text("mise", 'mise = "zig"', ""), table.text("mise_syntax", 'mise_syntax = "exact"', "exact")),
        ),
        unread=tuple(_unread(entry) for entry in table.tables("unread", "[[versions.unread]]")),
        platforms=tuple(_platform(entry) for entry in table.tables("platforms", "[[versions.platforms]]")),
    )
    table.end("name, packaged, lines, words, named, read, mise, mise_syntax, unread, platforms")
    return versions


def _mise(tool: str, kind: str) -> list[Read]:
    """Where mise keeps the version of a tool, by the name that it has for it."""
    places = [(file, ("tools", tool)) for file in MISE]
    return [Read(file, kind, key=key, tool=tool) for file, key in places] if tool else []


def _words(table: _Table, texts: Mapping[str, str]) -> Mapping[str, str]:
    words = {}
    for word, text in texts.items():
        meaning = syntax.read(text, "poetry", {})
        if meaning is None:
            raise table.wrong("words", f"has {word}, which stands for no known range", f'"{word}" = ">=1.2,<2"')
        words[word] = meaning.allows
    return words


def _read(table: _Table) -> Read:
    file = _file(table)
    syntaxes = ", ".join(sorted(syntax.SYNTAXES))
    name = table.text("syntax", 'syntax = "exact"')
    if name not in syntax.SYNTAXES:
        raise table.wrong("syntax", f"is not one of {syntaxes}", 'syntax = "exact"')
    pattern, key = _where(table)
    tool = table.text("tool", 'tool = "node"', "")
    table.end("file, syntax, pattern, key, tool")
    return Read(file, name, pattern, key, tool)


def _unread(table: _Table) -> Unread:
    file = _file(table)
    pattern, key = _where(table)
    why = table.text("why", 'why = "install it in the project\'s own layer"')
    has = table.texts("has", 'has = ["rustfmt"]', ["-"])
    otherwise = table.flag("otherwise", "otherwise = true")
    table.end("file, pattern, key, why, has, otherwise")
    return Unread(file, why, pattern, key, has, otherwise)


def _platform(table: _Table) -> Platform:
    file = _file(table)
    pattern, key = _where(table)
    has = table.texts("has", 'has = ["linux"]', [])
    table.end("file, pattern, key, has")
    return Platform(file, has, pattern, key)


def _file(table: _Table) -> str:
    file = table.text("file", 'file = ".zig-version"')
    if file.startswith("/") or ".." in PurePosixPath(file).parts:
        raise table.wrong("file", "leads outside the source", 'file = ".zig-version"')
    return file


def _where(table: _Table) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    """Where in a file: a pattern, or a key."""
    pattern = table.pattern("pattern", r"pattern = '^zig (\S+)'")
    if pattern is not None and not pattern.groups:
        raise table.wrong("pattern", "has no group, so it finds nothing", r"pattern = '^zig (\S+)'")
    dotted = table.text("key", 'key = "engines.node"', "")
    if (pattern is None) == (not dotted):
        raise table.wrong("pattern", "or key must say where in the file, but not both", 'key = "engines.node"')
    key = _key(dotted) if dotted else ()
    if key is None:
        raise table.wrong("key", "is not a TOML key", 'key = "engines.node"')
    return pattern, key


def _key(dotted: str) -> tuple[str, ...] | None:
    """The parts of a key as TOML writes it, where a part with a dot in it is quoted."""
    try:
        value: Any = tomllib.loads(f"{dotted} = 0")
    except ValueError:
        return None
    parts = []
    while isinstance(value, dict):
        if len(value) != 1:
            return None
        ((part, value),) = value.items()
        parts.append(part)
    return tuple(parts)
