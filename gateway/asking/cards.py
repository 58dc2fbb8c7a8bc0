"""Cards: how an agent's question reads, which answers it takes, and what its card says in the end. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

from gateway.chat import wording
from gateway.chat.text import code, escaped, fenced, inline, quote, seconds, shorten, visible
from gateway.errors import UserError
from gateway.store.questions import OWN, Asked, Outcome
from sled.protocol import Query, Question

#: What answers a permission besides the commands, while one is asked; what follows a no is its reason.
YES = frozenset({"y", "yes", "ok", "okay", "allow"})
NO_WORDS = frozenset({"n", "no", "nope", "deny"})
NO = re.compile(r"(?:n|no|nope|deny)(?:\s+(?P<number>\d{1,2}))?(?:[\s,.:;!–-]+(?P<why>.*))?", re.IGNORECASE | re.DOTALL)
#: Which of several questions is meant.
ANSWER = re.compile(r"answer\s+(?P<number>\d{1,2})\s+(?P<words>\S.*)", re.IGNORECASE | re.DOTALL)
#: An answer to a question that is asked in another room, by the number that `open` shows.
ELSEWHERE = re.compile(
    r"(?P<verb>answer|no|deny)\s+#(?P<id>\d{1,9})[\s,.:;!–-]+(?P<words>\S.*)", re.IGNORECASE | re.DOTALL
)

#: What answers a question about a budget: an amount, or yes or no, followed by a word or a reason.
AMOUNT = re.compile(r"\+?\s*(\d{1,6}(?:\.\d+)?)\s*(?:usd|\$)?", re.IGNORECASE)
_CONSENT = re.compile(r"(?:(?P<yes>y|yes|ok|okay)|n|no|nope)(?:\s+\w+)?\s*(?:[,.:;!–-].*)?", re.IGNORECASE | re.DOTALL)
#: The most that is compared: lines of one text times lines of the other. More would hold up everybody.
_MAX_COMPARED = 40_000
#: The tool of a question about a command that an agent would have carried out.
COMMAND = "huskies"
#: The same about agents that have told each other much.
NOTES = "notes"
#: How deep arguments may be nested to be shown one by one.
_MAX_DEPTH = 50


def card(asked: Asked, *, who: str, several_open: bool, attached: bool = False) -> str:
    """The question, for people; `who` may answer it. `attached`: its arguments are in a file above it."""
    body = asked.body
    number = f" {asked.number}" if several_open else ""
    within = seconds(asked.deadline - asked.asked_at)
    if body.kind == "permission":
        session = f", `allow session{number}` (from now on: {code(body.rule)})" if body.rule else ""
        words = f"Reply `allow{number}`{session} or `deny{number}`."
        if attached:
            above = f"All of its arguments ({len(body.arguments):,} characters) are in the file above."
            told = f"{_asks(asked)}\n\n{summary(body)}\n{above}\n\n{words}"
        else:
            told = f"{whole(asked)}\n\n{words}"
    else:
        told = whole(asked)
        if several_open:
            told += f"\n\nTo answer this one: `answer {asked.number} …`"
    return f"{told}\n_{who} can answer within {within}._"


def whole(asked: Asked) -> str:
    """All that is asked, and nothing of how to answer."""
    body, at = asked.body, len(asked.answers)
    if body.kind == "permission":
        return f"{_asks(asked)}\n\n{arguments(body)}"
    return f"❓ {_query(body.queries[at], at + 1, len(body.queries))}"


def _asks(asked: Asked) -> str:
    # What a sled asks cannot read like this, whatever it calls its tool.
    asks = f"The gateway asks: {_own(asked.body)}?" if asked.own else f"May I use {escaped(asked.body.tool)}?"
    return f"🔐 **{asks}**"


def _own(body: Question) -> str:
    if body.tool == NOTES:
        return "may they go on"
    if body.tool == COMMAND:
        return f"may {(_given(body) or {}).get('agent', '')}'s agent do this"
    return f"may the agent use {escaped(body.tool)}"


def reminder(asked: Asked, left_s: float) -> str:
    """What is said at half the time of a card."""
    left, number = seconds(left_s), f" {asked.number}"
    how = f"`allow{number}` or `deny{number}`" if asked.body.kind == "permission" else f"`answer{number} …`"
    return f"⏰ {summary(asked.body)}\nThat is still asked: {how}, within {left}."


def choices(asked: Asked) -> tuple[str, ...]:
    """What can be tapped instead of typed; each is understood as if it were typed, whatever else is asked."""
    body = asked.body
    if body.kind == "permission":
        return ("allow", "allow session", "deny") if body.rule else ("allow", "deny")
    query = body.queries[len(asked.answers)]
    return () if query.several else tuple(str(number) for number in range(1, len(query.options) + 1))


def _given(body: Question) -> dict[str, Any] | None:
    """The arguments, if they are an object that can be walked through: a sled may nest them as deep as it likes."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", body.arguments):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    try:
        given = json.loads(body.arguments or "{}") if deepest <= _MAX_DEPTH else None
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def arguments(body: Question) -> str:
    """All that the tool would be called with."""
    given = _given(body)
    if given is None:
        return fenced(body.arguments)
    left = dict(given)
    parts: list[str] = []
    if body.tool == NOTES and body.id.startswith(OWN):
        return visible(str(left.get("told", "")))
    if body.tool == COMMAND and body.id.startswith(OWN):
        told = f"{fenced(str(left.get('command', '')))}\nThat is: {visible(str(left.get('effect', '')))}"
        return f"{told}\n{fenced(str(left['difference']), 'diff')}" if left.get("difference") else told
    if body.tool == "Bash" and isinstance(left.get("command"), str):
        parts.append(fenced(left.pop("command"), "sh"))
    elif isinstance(left.get("old_string"), str) and isinstance(left.get("new_string"), str):
        parts += [code(left.pop("file_path", "")), _change(left.pop("old_string"), left.pop("new_string"))]
    elif isinstance(left.get("content"), str) and "file_path" in left:
        parts += [code(left.pop("file_path")), fenced(left.pop("content"))]
    if isinstance(left.get("description"), str):
        parts.append(f"It says: {code(left.pop('description'))}")
    if left:
        parts.append(fenced(json.dumps(left, indent=1, ensure_ascii=False), "json"))
    return "\n".join(parts) or "(without arguments)"


def attachment(body: Question) -> str:
    """The arguments as a file: each text as it is, with what is invisible spelled out."""
    given = _given(body)
    if given is None:
        return visible(body.arguments)
    parts = [
        f"--- {name} ---\n{value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)}"
        for name, value in given.items()
    ]
    return visible("\n\n".join(parts)) + "\n"


def summary(body: Question, limit: int = 100) -> str:
    """One line of it."""
    if body.kind == "query":
        return quote(visible(body.queries[0].text), limit)
    values = [value for value in (_given(body) or {}).values() if isinstance(value, str)]
    return f"{escaped(body.tool)} `{shorten(inline(values[0]), limit)}`" if values else escaped(body.tool)


def outcome(asked: Asked, result: Outcome, *, by: str = "", word: str = "") -> str:
    """What takes the card's place."""
    what = summary(asked.body)
    icon = "🔐" if asked.body.kind == "permission" else "❓"
    match result:
        case "allowed":
            return f"{icon} {what}\n✅ Allowed by {by}{f', and from now on: {code(word)}' if word else ''}."
        case "denied":
            return f"{icon} {what}\n⛔ Denied by {by}{f': {visible(word)}' if word else ''}."
        case "answered":
            return f"{icon} {what}\n✅ {by}: {'; '.join(visible(', '.join(answer)) for answer in asked.answers)}"
        case "expired":
            rest = "denied" if asked.body.kind == "permission" else "the agent continues without an answer"
            return f"{icon} {what}\n⌛ Nobody answered in time: {rest}."
        case "closed":
            return f"{icon} {what}\n✖ Closed: the agent is no longer waiting."


def could_answer(body: Question, text: str) -> bool:
    """Whether words that were not addressed to the bot are certainly an answer: one of those that the card names."""
    if body.kind == "permission":
        said = wording.plainly(text)
        words = YES | wording.SOFT_YES | {"allow session", "deny", "no"}
        return said in words or re.fullmatch(r"(?:allow|deny) \d{1,2}", said) is not None
    word = text.strip().lower().rstrip(".!")
    numbers = {str(number) for query in body.queries for number in range(1, len(query.options) + 1)}
    labels = {option.label.strip().lower() for query in body.queries for option in query.options}
    pieces = [piece for piece in re.split(r"[,\s]+", word) if piece]
    return word in labels or (bool(pieces) and all(piece in numbers for piece in pieces))


def read_answer(query: Query, text: str) -> list[str]:
    """What a person's words answer: options by their number or label, or else the words themselves.

    Raises:
        UserError: there is no option with that number.
    """
    text = text.strip()
    labels = {option.label.strip().lower(): option.label for option in query.options}
    if text.lower() in labels:
        return [labels[text.lower()]]
    begun = [label for lower, label in labels.items() if len(text) > 1 and lower.startswith(text.lower())]
    if len(begun) == 1:
        return begun
    if _numbers(text) and any(_pick(query, labels, number) is None for number in re.findall(r"\d+", text)):
        if query.options:
            raise UserError(f"There are {len(query.options)} options; reply with their numbers, or in words.")
        return [text]
    pieces = [piece.strip() for piece in re.split(r"[,;\s]+(?:and\s+)?" if _numbers(text) else r"[,;]", text)]
    picked = [_pick(query, labels, piece) for piece in pieces if piece]
    if picked and all(picked) and (query.several or len(picked) == 1):
        return list(dict.fromkeys(label for label in picked if label))
    return [text]


def consent(text: str) -> bool | None:
    """Whether words mean yes or no; None: neither."""
    found = _CONSENT.fullmatch(text.strip())
    return None if found is None else found["yes"] is not None


def decides(text: str) -> bool:
    """Whether words answer a question of the gateway's own; others in its conversation are meant for the agent."""
    return consent(text) is not None or AMOUNT.fullmatch(text.strip()) is not None


def _change(old: str, new: str) -> str:
    before, after = old.splitlines(), new.splitlines()
    if len(before) * len(after) <= _MAX_COMPARED:
        lines = list(difflib.unified_diff(before, after, lineterm="", n=10**6))[3:]
    else:
        lines = [f"-{line}" for line in before] + [f"+{line}" for line in after]
    return fenced("\n".join(lines) or "(only the ends of lines change)", "diff")


def _query(query: Query, number: int, of: int) -> str:
    head = f"({number} of {of}) " if of > 1 else ""
    lines = [f"**{head}{visible(query.text)}**"]
    for at, option in enumerate(query.options, 1):
        more = f" – {visible(option.description)}" if option.description else ""
        lines.append(f"{at}. {visible(option.label)}{more}")
    if not query.options:
        how = "Reply with your answer."
    elif query.several:
        how = "Reply with numbers (`1, 3`), or in your own words."
    else:
        how = "Reply with a number, or in your own words."
    return "\n".join([*lines, "", how])


def _numbers(text: str) -> bool:
    return re.fullmatch(r"[\d\s,;]+(?:and\s*\d+)?", text) is not None


def _pick(query: Query, labels: dict[str, str], piece: str) -> str | None:
    if piece.isdigit() and len(piece) < 4:
        at = int(piece) - 1
        return query.options[at].label if 0 <= at < len(query.options) else None
    return labels.get(piece.lower())


def told_of(answers: Sequence[Sequence[str]]) -> list[list[str]]:
    """The answers as they go to the agent."""
    return [list(answer) for answer in answers]
