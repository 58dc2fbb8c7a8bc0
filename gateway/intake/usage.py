"""What one usage line takes: the arguments of a message that fits the whole of it.

    new project <new-name> [--stack <stack>] [--git <url>] [--submodules]

Bare words are literal, `<...>` is required, `[...]` may be left out. What a placeholder takes is decided by its name:
`project` is the name of an existing project, `number` a number, `question` and `rule` one of a question or of a rule
(`2`, `#12`), `word|word` one of these, `when` and `times` the words
for a time, `word=...` a setting, in any order. `name...` takes the rest of the message, `agent...` only if that is the
name of an agent; anything else is one token.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gateway.hive import times

_TOKEN = re.compile(r"\[--[^\]]*\]|<[^>]*>|\[[^\]]*\]|\S+")
#: Slots that take several words, and how those are told from the rest of a message.
_LEADING = {"when": times.leading_moment, "times": times.leading_times}
_ADDRESS = re.compile(r"(?:https?|ssh|git)://\S|git@\S+:\S")
_DASHES = re.compile(r"(?<!\S)(?:[\u2014\u2013\u2212]+|-[\u2014\u2013\u2212]|--)(?=[A-Za-z])")
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
#: Its number in a conversation, or after a # the one that it has everywhere.
_QUESTION = re.compile(r"\d{1,6}|#\d{1,9}")
_AGENT = re.compile(r"(?:claude|scripted|default)$|acp:\S", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one token."""

    name: str
    required: bool
    choices: tuple[str, ...] = ()
    setting: bool = False


@dataclass(frozen=True, slots=True)
class Grammar:
    """What one usage line says. `flags` maps `--name` to the slot it takes, or None for a bare switch."""

    words: tuple[str, ...]
    slots: tuple[Slot, ...]
    flags: Mapping[str, Slot | None] = field(default_factory=dict)
    rest: bool = False  # the last slot takes the rest of the message as it is


def read_usage(usage: str) -> Grammar:
    """The grammar of a usage line."""
    words: list[str] = []
    slots: list[Slot] = []
    flags: dict[str, Slot | None] = {}
    rest = False
    for token in _TOKEN.findall(usage):
        inner = token.strip("[]<>")
        if token.startswith("[--"):
            flag, _, value = inner.partition(" ")
            flags[flag] = _slot(value.strip("<>"), required=True) if value else None
        elif token[0] in "<[":
            rest = inner.endswith("...")
            slots.append(_slot(inner.removesuffix("..."), required=token[0] == "<"))
        else:
            words.append(token)
    return Grammar(tuple(words), tuple(slots), flags, rest)


def _slot(name: str, *, required: bool) -> Slot:
    name, setting, _ = name.partition("=")
    return Slot(name, required, tuple(name.split("|")) if "|" in name else (), setting=bool(setting))


def match(grammar: Grammar, text: str, projects: Collection[str], problems: list[str]) -> dict[str, str] | None:
    """The arguments, if the whole of `text` fits; what is wrong with an obvious command goes into `problems`."""
    pieces = text.split(None, len(grammar.words))
    words = [piece.lower() for piece in pieces[: len(grammar.words)]]
    if words != [word.lower() for word in grammar.words]:
        return None
    tail = pieces[len(grammar.words)] if len(pieces) > len(grammar.words) else ""
    if grammar.rest:
        return _take_rest(grammar, tail, projects, problems)
    if grammar.flags:  # phones make a long dash of two short ones, and quotes of their own
        tail = _DASHES.sub("--", tail)
    try:
        tokens = shlex.split(tail.translate(_QUOTES))
    except ValueError:
        return None  # an apostrophe: prose
    if not tokens and any(slot.required for slot in grammar.slots):
        wanted = next(slot.name for slot in grammar.slots if slot.required)
        problems.append(f"`{' '.join(grammar.words)}` needs a {wanted.replace('-', ' ')}.")
        return None
    return _take_tokens(grammar, tokens, projects, problems)


def _take_rest(grammar: Grammar, tail: str, projects: Collection[str], problems: list[str]) -> dict[str, str] | None:
    """The arguments of a command whose last slot takes the rest of the message as it is."""
    *before, last = grammar.slots
    arguments: dict[str, str] = {}
    for flag in grammar.flags:  # before the text, or behind it
        tail = _DASHES.sub("--", tail)
        if tail.endswith(f" {flag}") or f" {flag} " in tail:
            arguments[flag[2:]] = "yes"
            tail = tail.removesuffix(f" {flag}") if tail.endswith(f" {flag}") else tail.replace(f" {flag} ", " ", 1)
    for slot in before:
        if slot.name in _LEADING:
            if (found := _LEADING[slot.name](tail)) is None:
                return None
            arguments[slot.name], tail = found
            continue
        token, tail = [*tail.split(None, 1), "", ""][:2]
        if not token or not _takes(slot, token, projects):
            return None  # prose that begins with that word
        arguments[slot.name] = token.lower() if slot.choices or slot.name == "project" else token
    if not tail:
        if before and last.required:
            problems.append(f"`{' '.join([*grammar.words, *arguments.values()])}` needs more: `{_spelled(grammar)}`.")
        return None if last.required else arguments
    if last.name == "agent" and not _AGENT.match(tail):
        return None
    return {**arguments, last.name: tail}


def _spelled(grammar: Grammar) -> str:
    return " ".join([*grammar.words, *(f"<{slot.name}>" for slot in grammar.slots)])


def _take_tokens(
    grammar: Grammar, tokens: list[str], projects: Collection[str], problems: list[str]
) -> dict[str, str] | None:
    arguments: dict[str, str] = {}
    plain: list[str] = []
    name = " ".join(grammar.words)
    while tokens:
        token = tokens.pop(0)
        flag, _, given = token.partition("=")
        if "--git" in grammar.flags and "git" not in arguments and _ADDRESS.match(token):
            arguments["git"] = token
        elif not flag.startswith("--"):
            plain.append(token)
        elif flag not in grammar.flags:
            if grammar.flags:
                meant = next((known for known in grammar.flags if near(flag, known)), None)
                hint = f"Did you mean {meant}?" if meant else f"It takes {', '.join(grammar.flags)}."
                problems.append(f"`{name}` has no {flag}. {hint}")
            return None
        elif grammar.flags[flag] is None:
            arguments[flag[2:]] = "yes"
        elif given or (tokens and not tokens[0].startswith("--")):
            arguments[flag[2:]] = given or tokens.pop(0)
        else:
            problems.append(f"`{name}`: {flag} needs a value.")
            return None
    if len(plain) > len(grammar.slots):
        return None
    return arguments if _fill_slots(grammar, plain, projects, arguments) else None


def _fill_slots(grammar: Grammar, plain: list[str], projects: Collection[str], arguments: dict[str, str]) -> bool:
    """Give each token to the next slot that takes it, passing over optional ones that do not."""
    settings = [slot.name for slot in grammar.slots if slot.setting]
    waiting = []
    for token in plain:
        name, is_one, value = token.partition("=")
        if is_one and value and name.lower() in settings and name.lower() not in arguments:
            arguments[name.lower()] = value
        else:
            waiting.append(token)
    for slot in grammar.slots:
        if slot.setting:
            continue
        if waiting and _takes(slot, waiting[0], projects):
            token = waiting.pop(0)
            arguments[slot.name] = token.lower() if slot.choices or slot.name == "project" else token
        elif slot.required:
            return False
    return not waiting


def _takes(slot: Slot, token: str, projects: Collection[str]) -> bool:
    if slot.choices:
        return token.lower() in slot.choices
    if slot.name == "project":
        return token.lower() in projects
    if slot.name == "number":
        return token.isdigit() and len(token) < 7
    if slot.name in ("question", "rule"):
        return _QUESTION.fullmatch(token) is not None
    return True


def near(typed: str, word: str) -> bool:
    """Equal but for one slip: a letter left out, added, changed, or two swapped."""
    typed, word = typed.lower(), word.lower()
    if typed == word:
        return True
    # A slip changes at most one letter into another: cheap to see, and it rules out nearly everything.
    if abs(len(typed) - len(word)) > 1 or len(set(typed) ^ set(word)) > 2:
        return False
    return _distance(typed, word) <= 1


def _distance(a: str, b: str) -> int:
    """Damerau-Levenshtein distance (adjacent swaps count once)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
