"""Commands: plain words, read by one small grammar that each command's usage line spells out.

    new project <new-name> [--stack <stack>] [--git <url>] [--submodules]

Bare words are literal, `<...>` is required, `[...]` may be left out. What a placeholder takes is decided by its name:
`project` is the name of an existing project, `number` a number, `word|word` one of these, `when` and `times` the words
for a time, `word=...` a setting, in any order. `name...` takes the rest of the message, `agent...` only if that is the
name of an agent; anything else is one token.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

from gateway.chat import wording
from gateway.errors import UserError
from gateway.hive import times


class Typed(Protocol):
    """What can be typed, as its usage line says."""

    usage: str


C = TypeVar("C", bound=Typed)


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


#: Characters; anything longer is not a command, and is not read as one.
MAX_COMMAND = 1000
_TOKEN = re.compile(r"\[--[^\]]*\]|<[^>]*>|\[[^\]]*\]|\S+")


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


@dataclass(frozen=True, slots=True)
class Parsed(Generic[C]):
    """A command and its arguments, by slot or flag name (`--git` is `git`)."""

    command: C
    arguments: Mapping[str, str]
    #: False: the message says it in other words, or with words around it.
    exact: bool = True


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Not a command, but `text` would be one."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Words for the agent, whatever they look like: what follows `prompt`."""

    text: str


#: Slots that take several words, and how those are told from the rest of a message.
_LEADING = {"when": times.leading_moment, "times": times.leading_times}
#: A message that begins like this is about a file.
_PATH = re.compile(r"(?:/|~/|\.{1,2}/)[^\s/]*[/.]|~/|\.{1,2}/|//")
_ADDRESS = re.compile(r"(?:https?|ssh|git)://\S|git@\S+:\S")
_DASHES = re.compile(r"(?<!\S)(?:[\u2014\u2013\u2212]+|-[\u2014\u2013\u2212]|--)(?=[A-Za-z])")
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
#: What other programs call things after a slash, and what we say for it.
SLASHES = {"clear": "reset", "new": "reset", "cost": "usage", "resume": "sessions", "continue": "sessions"}
_HOST = "That is set on the gateway's host: `huskies secrets set all api_key`."
FOREIGN = {
    "exit": "The agent stays. `stop` ends what it does, `reset` begins a new dialogue.",
    "quit": "The agent stays. `stop` ends what it does, `reset` begins a new dialogue.",
    "login": _HOST,
    "logout": _HOST,
    "config": "Use `model`, `permissions` and `agent` for that.",
    "settings": "Use `model`, `permissions` and `agent` for that.",
    "allowed-tools": "Use `permissions` for that.",
    "yolo": "Use `permissions allow` for that.",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.IGNORECASE)
_AGENT = re.compile(r"(?:claude|scripted|default)$|acp:\S", re.IGNORECASE)
_VERBATIM = re.compile(r"prompt\s+(\S.*)", re.IGNORECASE | re.DOTALL)


class Parser(Generic[C]):
    """Reads messages against a table of commands."""

    def __init__(self, commands: Sequence[C], aliases: Mapping[str, str]) -> None:
        self._table = [(read_usage(command.usage), command) for command in commands]
        # Longest first: `new project` before a command called `new`.
        self._table.sort(key=lambda row: -len(row[0].words))
        self._first_words = {grammar.words[0].lower() for grammar, _ in self._table}
        self._aliases = aliases
        # People begin with the same few hundred words.
        self._could_begin = lru_cache(maxsize=2**13)(self._near_a_first_word)

    def parse(
        self, text: str, projects: Collection[str], agents: Collection[str] | None = (), *, most: int = MAX_COMMAND
    ) -> Parsed[C] | NearMiss | Verbatim | None:
        """A command if the whole message is one; a near miss if a corrected one would be; else None: a prompt.

        `agents`: the words that the project's agent knows after a slash; None where that is not known. `most`:
        characters of a command; what is longer is a prompt.

        Raises:
            UserError: it is certainly a command (a leading `/`, an unknown flag), but not a valid one.
        """
        if _PATH.match(text) or text.startswith(">"):  # about a file, or somebody else's words
            return None
        forced = text.startswith("/")
        text = text.removeprefix("/").strip()
        if verbatim := _VERBATIM.fullmatch(text):
            return Verbatim(verbatim[1])
        if forced and self._is_agents(text, agents or ()):
            return None
        text = _ours(text) if forced else text
        typed, text = text, self._plainly(text, projects)
        if len(text) > most or (not forced and not self._could_be_command(text)):
            if forced:
                raise UserError(f"A command has at most {most} characters. Type `help` to see them all.")
            return None
        problems: list[str] = []
        for grammar, command in self._table:
            arguments = _match(grammar, text, projects, problems)
            if arguments is not None and self._is_command(arguments.get("command")):
                return Parsed(command, arguments, exact=text.lower() == typed.lower())
        if problems:
            raise UserError(problems[0])
        corrected = self._correct(text, projects)
        if corrected is not None:
            return NearMiss(corrected)
        if unknown := self._unknown_project(text):
            raise UserError(
                f"There is no project {unknown}. Type `projects` to see them all, or `prompt {text}` to send that to "
                "the agent."
            )
        if forced and (agents is not None or (text.split() or [""])[0].lower() in self._first_words):
            begun = text.lower().split()[:1]
            usages = [command.usage for grammar, command in self._table if begun == [grammar.words[0].lower()]]
            hint = f"Type `{usages[0]}`." if usages else "Type `help` to see them all."
            raise UserError(f"There is no command “{text[:60]}”. {hint}")
        return None

    def _is_agents(self, text: str, agents: Collection[str]) -> bool:
        """Whether the word after a slash is the agent's, and none that we have, or have something else for."""
        first = text.split(None, 1)[0] if text else ""
        return first in agents and first.lower() not in self._first_words | FOREIGN.keys() | SLASHES.keys()

    def _plainly(self, text: str, projects: Collection[str]) -> str:
        """A message as the command that it is without its marks and courtesy, if it is one; else as it is."""
        text = self._aliases.get(text.lower(), text)
        said = wording.plainly(text) if "\n" not in text else ""
        if said in wording.STOP:
            return "stop"
        return said if said and said != text.lower() and self._is_exact(said, projects) else text

    def _is_exact(self, said: str, projects: Collection[str]) -> bool:
        """Whether a message without its marks and courtesy is a command, all of whose words are fixed."""
        if not said or not self._could_be_command(said):
            return False
        found = (_match(grammar, said, projects, []) for grammar, _ in self._table if not grammar.rest)
        fixed = ("project", "number")
        return any(
            arguments is not None
            and all(name in fixed or (said.endswith(value) and "|" in name) for name, value in arguments.items())
            for arguments in found
        )

    def _is_command(self, words: str | None) -> bool:
        """An argument that names a command names one that exists: "help me" is a prompt."""
        if words is None:
            return True
        wanted = words.lower().split()
        return any([word.lower() for word in grammar.words[: len(wanted)]] == wanted for grammar, _ in self._table)

    def _could_be_command(self, text: str) -> bool:
        """A look at the first word: most messages are prompts, and need no more than this."""
        first = text[:40].split(None, 1)[:1]
        return bool(first) and self._could_begin(first[0].lower())

    def _near_a_first_word(self, typed: str) -> bool:
        return typed in self._first_words or any(_near(typed, word) for word in self._first_words)

    def _unknown_project(self, text: str) -> str:
        """What stands where a command must name a project, if it could be the name of one; else empty."""
        for grammar, _ in self._table:
            if [(slot.name, slot.required) for slot in grammar.slots] != [("project", True)]:
                continue
            *words, name = [token.lower() for token in text.split() if token not in grammar.flags] or [""]
            if words == [word.lower() for word in grammar.words] and _NAME.fullmatch(name):
                return name
        return ""

    def _correct(self, text: str, projects: Collection[str]) -> str | None:
        tokens = text.split()
        if not tokens or len(text) > 400 or "\n" in text:
            return None
        for grammar, _ in self._table:
            words = len(grammar.words)
            if len(tokens) < words:
                continue
            typed = (token.lower() for token in tokens)
            pairs = [(one, word.lower()) for one, word in zip(typed, grammar.words, strict=False)]
            if not all(one == word or (one not in wording.COMMON and _near(one, word)) for one, word in pairs):
                continue
            # One or two words are a command that went wrong; more of them are prose, unless one of ours is among them.
            if len(tokens) > 2 and not any(one == word for one, word in pairs):
                continue
            fixed = [*grammar.words, *_correct_arguments(grammar, tokens[words:], projects)]
            candidate = " ".join(fixed)
            problems: list[str] = []
            if candidate != text and _match(grammar, candidate, projects, problems) is not None:
                return candidate
        return None


def _ours(text: str) -> str:
    """What is ours for a word after a slash that other programs have. Raises UserError where that takes other words."""
    first = text.split(None, 1)[0].lower() if text else ""
    if (told := FOREIGN.get(first)) is not None:
        raise UserError(told)
    return SLASHES.get(text.lower(), text)


def _correct_arguments(grammar: Grammar, tokens: list[str], projects: Collection[str]) -> list[str]:
    known = [*grammar.flags, *(choice for slot in grammar.slots for choice in slot.choices)]
    if any(slot.name == "project" for slot in grammar.slots):
        known += projects
    return [next((k for k in known if token not in known and _near(token, k)), token) for token in tokens]


def _match(grammar: Grammar, text: str, projects: Collection[str], problems: list[str]) -> dict[str, str] | None:
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
                near = next((known for known in grammar.flags if _near(flag, known)), None)
                hint = f"Did you mean {near}?" if near else f"It takes {', '.join(grammar.flags)}."
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
    return True


def _near(typed: str, word: str) -> bool:
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
