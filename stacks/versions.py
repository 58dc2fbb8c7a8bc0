"""How people write versions, in the syntax of each tool, translated into one: that of poetry.

All text here comes from outside: only short texts are read, and what cannot be read is None, never an error. What can
be read has only the characters of versions and operators. poetry-core does the arithmetic; it is imported in the
functions, since that takes 25 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poetry.core.constraints.version import Version, VersionConstraint

#: The constraint that every version satisfies.
ANY = "*"
#: What a version must look like to reach a Dockerfile.
INSTALLABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,40}")
#: A longer text is not a version.
_MAX_TEXT = 200
#: Stands for the last release that a line will ever have.
_LAST = 99999

_NUMBERS = r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}"
# A version, perhaps a preview of one; what follows a "+" or "_" says who built it.
_RELEASE = re.compile(
    rf"[vV]?(?P<numbers>{_NUMBERS})(?P<preview>[-.]?(?:alpha|beta|preview|pre|rc|a|b|c)[-.]?[0-9]{{0,9}})?"
    r"(?:[+_][0-9][0-9A-Za-z._+-]*)?"
)
_CLAUSE = re.compile(
    r"[ ,]*(?P<operator>===|~=|~>|==|!=|<=|>=|<|>|=|~|\^|) ?[vV]?"
    rf"(?P<numbers>{_NUMBERS}|[xX*])(?P<wild>(?:\.[xX*])*)"
    r"(?P<suffix>(?:[-+][0-9A-Za-z.+-]+|\.?[A-Za-z][0-9A-Za-z.+-]*)?)(?=[ ,<>=!~^]|$)"
)
_COMPARE = {operator: operator for operator in ("!=", "<=", ">=", "<", ">")}
_PEP440 = {**_COMPARE, "==": "==", "===": "==", "~=": "~="}
_GEM = {**_COMPARE, "": "==", "=": "==", "~>": "~="}
_POETRY = {**_PEP440, "": "==", "=": "==", "^": "^", "~": "~"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text means. `allows` is a constraint in poetry's syntax.

    `exact` is the version that it names, as it will be installed; empty for a range.
    """

    allows: str
    exact: str = ""


def read(text: str, syntax: str, words: Mapping[str, str], named: re.Pattern[str] | None = None) -> Reading | None:
    """The meaning of a text; None if it has none. `syntax` is a key of SYNTAXES.

    `words` are names and the constraints they stand for; what `named` matches is a version without a number, which is
    installed under that name.
    """
    text = tidy(text)
    if not text or len(text) > _MAX_TEXT:
        return None
    if text in words:
        return Reading(words[text])
    if named is not None and named.fullmatch(text):
        reading: Reading | None = Reading(ANY, text)
    else:
        reading = Reading(ANY) if text == ANY else SYNTAXES[syntax](text)
    if reading is None or (reading.exact and not INSTALLABLE.fullmatch(reading.exact)):
        return None
    return reading


def tidy(text: str) -> str:
    """A text on one line and without quotes, which are not part of a version."""
    return " ".join(text.replace('"', " ").replace("'", " ").split()).replace(" ,", ",")


def allows(constraint: str, version: str) -> bool:
    """Whether a constraint in poetry's syntax allows a full version, as a tool reports its own.

    False for anything that is not a version.
    """
    number = re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9})*", version)
    parsed = _parse(constraint)
    if number is None or parsed is None:
        return False
    release = _version(version)
    if release is None and version.startswith(("-", "+", "_"), number.end()):  # "1.93.0-nightly", "21.0.12+8-LTS"
        release = _version(number[0])
    return release is not None and parsed.allows(release)


def intersection(constraints: Iterable[str]) -> VersionConstraint:
    """What all constraints allow; `is_empty()` if there is no such version. Raises ValueError for an unreadable one."""
    from poetry.core.constraints.version import VersionRange, parse_constraint

    common: VersionConstraint = VersionRange()
    for constraint in constraints:
        common = common.intersect(parse_constraint(constraint))
    return common


def allows_newest_of(constraint: VersionConstraint, line: str) -> bool:
    """Whether the newest release of a line ("3.13") is allowed, whichever it is: that one gets installed."""
    newest = _version(f"{line}.{_LAST}")
    return newest is not None and constraint.allows(newest)


def allows_some_of(constraint: VersionConstraint, line: str) -> bool:
    """Whether some release of a line is allowed."""
    releases = _parse(f"{line}.*")
    return releases is not None and constraint.allows_any(releases)


def lowest(constraint: VersionConstraint) -> str:
    """The version that a constraint begins with; empty if it has no lower end."""
    ranges = constraint.flatten()
    if not ranges or ranges[0].min is None:
        return ""
    text = ranges[0].min.without_devrelease().text  # "3.11.*" begins with the previews of 3.11
    return text if INSTALLABLE.fullmatch(text) else ""


def _parse(constraint: str) -> VersionConstraint | None:
    from poetry.core.constraints.version import parse_constraint

    try:
        return parse_constraint(constraint)
    except ValueError:
        return None


def _version(text: str) -> Version | None:
    from poetry.core.constraints.version import Version

    if len(text) > _MAX_TEXT:
        return None
    try:
        return Version.parse(text)
    except ValueError:
        return None


def _exact(text: str) -> Reading | None:
    """ "3.11" is every 3.11.x, "3.11.4" that release alone."""
    found = _RELEASE.fullmatch(text)
    if found is None:
        return None
    release = found["numbers"] + (found["preview"] or "")
    whole = found["preview"] or found["numbers"].count(".") >= 2
    return Reading(f"=={release}" if whole else f"=={release}.*", release)


#: After the name of who built it: Java's own number, and the rest of theirs.
_JAVA = re.compile(
    r"(?:[a-z][a-z0-9_]*-)*(?:1\.(?=[2-8](?![0-9])))?(?P<numbers>[0-9]{1,4}(?:\.[0-9]{1,9}){0,2})"
    r"(?P<rest>(?:[._+u-][0-9a-z][0-9a-z._+-]{0,40})?)"
)
#: Those who number their builds in their own way, and the Java that some of them name at the end.
_OTHERS = re.compile(r"(?:zulu|mandrel|graalvm(?!-(?:community|oracle))|visualvm|jetbrains|trava)\b.*")
_OF_JAVA = re.compile(r"(?:[+-]java|\.r)(?P<numbers>[0-9]{1,3})\b")
_ZULU = re.compile(r"zulu(?:-[a-z][a-z_]*)*-(?P<numbers>[0-9]{1,3})\b.*")


def _java(text: str) -> Reading | None:
    """A JDK as version managers name it: only the first three parts, and not those of every vendor, are of Java."""
    text = text.lower()
    if (found := _OF_JAVA.search(text) or _ZULU.fullmatch(text)) is not None:
        return _exact(found["numbers"])
    found = _JAVA.fullmatch(text)
    if found is None or _OTHERS.match(text) is not None:
        return None
    numbers = found["numbers"]
    if (update := re.match(r"[u_]0*([0-9]{1,4})", found["rest"])) is not None and numbers in ("8", "8.0"):
        numbers = f"8.0.{update[1]}"  # 8u392, 1.8.0_392
    return _exact(numbers)


def _minimum(text: str) -> Reading | None:
    """A version and everything above it."""
    found = _RELEASE.fullmatch(text)
    return None if found is None else Reading(f">={found['numbers']}{found['preview'] or ''}")


def _range(clause: Callable[[re.Match[str]], str | None], alternatives: bool, text: str) -> Reading | None:
    """Clauses that must all hold, with alternatives if the syntax has them; `clause` translates one."""
    groups = []
    for group in text.split("||") if alternatives else [text]:
        clauses = _clauses(clause, group.strip(" ,"))
        if clauses is None:
            return None
        groups.append(",".join(one for one in clauses if one != ANY) or ANY)
    constraint = " || ".join(groups)
    parsed = _parse(constraint)
    if parsed is None:
        return None
    return Reading(constraint, _single(parsed))


def _clauses(clause: Callable[[re.Match[str]], str | None], group: str) -> list[str] | None:
    clauses: list[str] = []
    place = 0
    while place < len(group):
        found = _CLAUSE.match(group, place)
        translated = clause(found) if found is not None else None
        if found is None or translated is None:
            return None
        clauses.append(translated)
        place = found.end()
    return clauses


def _single(constraint: VersionConstraint) -> str:
    """The one release that a constraint allows ("==3.11" is 3.11.0, not 3.11.4); empty if there are more."""
    from poetry.core.constraints.version import Version

    if not isinstance(constraint, Version):
        return ""
    missing = 3 - constraint.precision
    # With a suffix, as in "1+1", it already names one release.
    return constraint.text + ".0" * missing if re.fullmatch(r"[0-9.]+", constraint.text) else constraint.text


def _plain(operators: Mapping[str, str], found: re.Match[str]) -> str | None:
    """A clause whose operator the table translates into poetry's syntax."""
    if found["operator"] not in operators:
        return None
    if found["numbers"] in "xX*":
        return ANY
    wild = ".*" if found["wild"] else ""
    return f"{operators[found['operator']]}{found['numbers']}{wild}{found['suffix']}"


def _npm(found: re.Match[str]) -> str | None:
    """One of npm's comparisons, where a version with parts left out stands for all that begin with it."""
    operator, numbers = found["operator"].replace("~>", "~"), found["numbers"]
    if operator not in {"", "=", "<", "<=", ">", ">=", "^", "~"} or (found["suffix"] and operator in {"", "="}):
        return None
    if numbers in "xX*":
        return ANY
    if operator not in {"", "=", "<=", ">"}:
        return f"{operator}{numbers}"
    *upper, last = numbers.split(".")
    whole = len(upper) >= 2 and not found["wild"]
    if operator in {"", "="}:
        return f"=={numbers}" if whole else f"=={numbers}.*"
    if whole:
        return f"{operator}{numbers}"
    following = ".".join([*upper, str(int(last) + 1)])  # "<=20" has every 20.x, ">20" has none
    return f"<{following}" if operator == "<=" else f">={following}"


def _npm_range(text: str) -> Reading | None:
    return _range(_npm, True, re.sub(r"([^ |]+) - ([^ |]+)", r">=\1 <=\2", text))


#: Every syntax that a stack.toml may name, and what reads it.
SYNTAXES: Mapping[str, Callable[[str], Reading | None]] = {
    "exact": _exact,
    "java": _java,
    "minimum": _minimum,
    "npm": _npm_range,
    "pep440": partial(_range, partial(_plain, _PEP440), False),
    "poetry": partial(_range, partial(_plain, _POETRY), True),
    "gem": partial(_range, partial(_plain, _GEM), False),
}
