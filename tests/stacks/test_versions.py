"""Versions as people write them: what each text allows, and that none of them does harm."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stacks import versions
from stacks.versions import SYNTAXES, allows, allows_newest_of, allows_some_of, intersection, lowest, read

NAMED = re.compile(r"nightly(-[0-9-]+)?")


@pytest.mark.parametrize(
    ("syntax", "text", "inside", "outside"),
    [
        ("exact", "3.11", ["3.11.0", "3.11.14"], ["3.10.9", "3.12.0"]),
        ("exact", "3.11.4", ["3.11.4"], ["3.11.3", "3.11.5"]),
        ("exact", "20", ["20.0.0", "20.19.4"], ["19.9.9", "21.0.0"]),
        ("exact", "v20.11.1", ["20.11.1"], ["20.11.2"]),
        ("exact", " 17.0.12+7 ", ["17.0.12", "17.0.12+7"], ["17.0.11"]),
        ("exact", "8.0_292", ["8.0.292"], ["11.0.2"]),
        ("exact", "3.4.0-preview1", ["3.4.0-preview1"], ["3.4.0", "3.4.0-preview2"]),
        ("exact", "*", ["1.0.0"], ["no version"]),
        ("minimum", "1.22.3", ["1.22.3", "1.25.0", "2.0.0"], ["1.22.2"]),
        ("minimum", "1.25rc1", ["1.25.0", "1.25rc2"], ["1.24.9"]),
        ("npm", ">=18 <21", ["18.0.0", "20.19.4"], ["17.9.9", "21.0.0"]),
        ("npm", ">= 18.0.0", ["18.0.0", "26.1.0"], ["17.9.0"]),
        ("npm", ">=18,<21", ["20.1.0"], ["21.0.0"]),
        ("npm", ">=18<21", ["20.1.0"], ["21.0.0"]),
        ("npm", "^20", ["20.0.0", "20.9.1"], ["21.0.0", "19.0.0"]),
        ("npm", "^20.10.x", ["20.10.0", "20.99.0"], ["20.9.9", "21.0.0"]),
        ("npm", "^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0"]),
        ("npm", "~20.1", ["20.1.9"], ["20.2.0"]),
        ("npm", "~>20.1", ["20.1.9"], ["20.2.0"]),
        ("npm", "20.x", ["20.0.1"], ["21.0.0"]),
        ("npm", "20.*.*", ["20.0.1"], ["21.0.0"]),
        ("npm", "18 || 20", ["18.3.0", "20.1.0"], ["19.0.0", "21.0.0"]),
        ("npm", "18||>=22", ["18.3.0", "24.1.0"], ["20.0.0"]),
        ("npm", "18 - 20", ["18.0.0", "20.99.9"], ["17.9.0", "21.0.0"]),
        ("npm", "18.2.1 - 20.1.0", ["18.2.1", "20.1.0"], ["18.2.0", "20.1.1"]),
        ("npm", "<=20", ["20.99.0", "4.0.0"], ["21.0.0"]),
        ("npm", "<=20.1.1", ["20.1.1"], ["20.1.2"]),
        ("npm", ">20", ["21.0.0"], ["20.99.0"]),
        ("npm", ">20.1.1", ["20.1.2"], ["20.1.1"]),
        ("npm", "=20.11.1", ["20.11.1"], ["20.11.2"]),
        ("npm", "20.11", ["20.11.9"], ["20.12.0"]),
        ("npm", ">=20.0.0-0", ["20.0.0"], ["19.0.0"]),
        ("npm", "* >=18", ["18.0.0"], ["17.0.0"]),
        ("npm", "x", ["1.0.0"], []),
        ("npm", "18 ||", ["1.0.0"], []),
        ("pep440", ">=3.10,<4.0", ["3.10.0", "3.14.2"], ["3.9.9", "4.0.0"]),
        ("pep440", ">= 3.10 , < 3.13", ["3.12.9"], ["3.13.0"]),
        ("pep440", "~=3.11", ["3.11.0", "3.14.0"], ["3.10.0", "4.0.0"]),
        ("pep440", "~=3.11.2", ["3.11.9"], ["3.12.0", "3.11.1"]),
        ("pep440", "==3.11.*", ["3.11.9"], ["3.12.0"]),
        ("pep440", "==3.11", ["3.11.0"], ["3.11.1"]),
        ("pep440", "===3.11.2", ["3.11.2"], ["3.11.1"]),
        ("pep440", ">=3.6,!=3.7.*,", ["3.6.1", "3.8.0"], ["3.7.3", "3.5.0"]),
        ("pep440", ">=3.14.0rc1", ["3.14.0", "3.14.0rc2"], ["3.13.9"]),
        ("poetry", "^3.10", ["3.10.0", "3.14.0"], ["4.0.0", "3.9.0"]),
        ("poetry", "^3.10, <3.13", ["3.12.0"], ["3.13.0"]),
        ("poetry", "~3.11", ["3.11.9"], ["3.12.0"]),
        ("poetry", "3.11.*", ["3.11.9"], ["3.12.0"]),
        ("poetry", ">=3.9 <3.12", ["3.11.0"], ["3.12.0"]),
        ("poetry", "~3.9 || ^3.11", ["3.9.1", "3.12.0"], ["3.10.0"]),
        ("poetry", "*", ["3.9.1"], []),
        ("gem", '"3.2.2"', ["3.2.2"], ["3.2.3"]),
        ("gem", "'~> 3.2'", ["3.2.0", "3.4.9"], ["4.0.0", "3.1.9"]),
        ("gem", "'~> 3.2.1'", ["3.2.9"], ["3.3.0", "3.2.0"]),
        ("gem", '">= 3.1" , "< 3.4"', ["3.1.0", "3.3.9"], ["3.4.0"]),
    ],
)
def test_what_a_text_allows(syntax: str, text: str, inside: list[str], outside: list[str]) -> None:
    reading = read(text, syntax, {})
    assert reading is not None
    for version in inside:
        assert allows(reading.allows, version), (reading, version)
    for version in outside:
        assert not allows(reading.allows, version), (reading, version)


@pytest.mark.parametrize(
    ("syntax", "text", "exact"),
    [
        ("exact", "v20", "20"),
        ("exact", "3.11", "3.11"),
        ("exact", "3.11.4", "3.11.4"),
        ("exact", "17.0.12+7", "17.0.12"),
        ("exact", "1.25rc1", "1.25rc1"),
        ("exact", "*", ""),
        ("minimum", "1.22.3", ""),
        ("npm", "20.11.1", "20.11.1"),
        ("npm", "20.11", ""),
        ("npm", "^20.11.1", ""),
        ("pep440", "==3.11.4", "3.11.4"),
        ("pep440", "==3.11", "3.11.0"),
        ("pep440", "==3.11.*", ""),
        ("gem", "3", "3.0.0"),
        ("gem", "3.5.0.preview1", "3.5.0rc1"),
        ("poetry", ">=3.11.2,<=3.11.2", "3.11.2"),
    ],
)
def test_a_text_that_names_one_version_names_it_in_full(syntax: str, text: str, exact: str) -> None:
    reading = read(text, syntax, {})
    assert reading is not None and reading.exact == exact


@pytest.mark.parametrize("syntax", sorted(SYNTAXES))
@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "foo",
        ">=",
        "1..2",
        "1234567890",
        "9" * 5000,
        ">=3." + "9" * 5000,
        "1." * 60 + "1",
        "3.11, " * 50,
        "3.١١",
        "3.11\x00",
        "3.11\x1b[31m",
        "$(reboot)",
        "3.11; RUN true",
        "3.11\\nRUN true",
        "latest",
        "<>3",
        "|| ||x||y",
    ],
)
def test_what_is_no_version_is_none(syntax: str, text: str) -> None:
    assert read(text, syntax, {}) is None


def test_only_vendors_of_java_number_in_five_parts() -> None:
    for syntax in SYNTAXES:
        assert (read("1.2.3.4.5", syntax, {}) is None) is (syntax != "java")


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        ("exact", ">=3"),
        ("exact", "3.x"),
        ("exact", "pypy3.10-7.3.12"),
        ("exact", "22.3.0+java17"),
        ("minimum", "^1.2"),
        ("npm", "~=18"),
        ("npm", "!=18"),
        ("npm", "20.0.0-nightly2024"),
        ("npm", "lts/*"),
        ("pep440", "3.11"),
        ("pep440", "^3.11"),
        ("pep440", ">=3.9 || <3"),
        ("gem", "^3.2"),
        ("gem", "3.2 || 3.3"),
        ("poetry", "~> 3.2"),
        ("poetry", "~3.*"),
    ],
)
def test_what_another_syntax_would_take_is_none(syntax: str, text: str) -> None:
    assert read(text, syntax, {}) is None


def test_words_stand_for_constraints_and_names_for_themselves() -> None:
    words = {"lts/*": "24.*"}
    assert read(" 'lts/*' ", "npm", words) == versions.Reading("24.*")
    assert read("nightly-2025-06-01", "exact", {}, NAMED) == versions.Reading("*", "nightly-2025-06-01")
    assert read("nightly2", "exact", {}, NAMED) is None
    assert read("lts/-1", "exact", words, NAMED) is None
    anything = re.compile(".+")
    assert read("a; RUN true", "exact", {}, anything) is None, "a name reaches a Dockerfile as a version does"
    assert read("a" * 42, "exact", {}, anything) is None
    assert read("a" * 41, "exact", {}, anything) == versions.Reading("*", "a" * 41)


@pytest.mark.parametrize(
    ("constraint", "version", "expected"),
    [
        (">=3.11,<3.14", "3.13.5", True),
        (">=3.11,<3.14", "3.14.0", False),
        (">=17", "21.0.12+8-LTS", True),
        (">=1.85", "1.93.0-nightly", True),
        (">=1.94", "1.93.0-nightly", False),
        ("==8.*", "8.0_292", True),
        ("*", "", False),
        ("*", "unknown", False),
        ("*", "1.2.x", False),
        ("*", "1.2\n3", False),
        ("*", "9" * 5000, False),
        ("*", "1" + ".1" * 3000, False),
        ("no constraint", "1.2.3", False),
        ("", "1.2.3", False),
        (">=" + "9" * 5000, "1.2.3", False),
    ],
)
def test_whether_a_version_that_an_image_reports_is_allowed(constraint: str, version: str, expected: bool) -> None:
    assert allows(constraint, version) is expected


@pytest.mark.parametrize(
    ("constraints", "empty"),
    [
        ([], False),
        (["==20.11.1", "^20.10.0"], False),
        (["==20.11.1", ">=22"], True),
        (["==3.11.*", ">=3.12"], True),
        (["<3.13", "==3.13.*"], True),
        (["==18.* || ==20.*", "!=18.*"], False),
        (["==18.* || ==20.*", "!=18.*", "<20"], True),
        ([">=3.12,<3.11"], True),
        ([">=3.12,<3.11", ">=3"], True),
    ],
)
def test_what_several_texts_leave(constraints: list[str], empty: bool) -> None:
    assert intersection(constraints).is_empty() is empty


def test_a_line_is_judged_by_its_newest_release_and_by_any() -> None:
    def judge(constraint: str, line: str) -> tuple[bool, bool]:
        common = intersection([constraint])
        return allows_newest_of(common, line), allows_some_of(common, line)

    assert judge(">=3.13.2", "3.13") == (True, True)
    assert judge(">=3.13,<3.13.2", "3.13") == (False, True)
    assert judge("<3.13", "3.13") == (False, False)
    assert judge("<24.5", "24") == (False, True)
    assert judge("*", "24") == (True, True)


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (">=1.30", "1.30"),
        ("==2.7.*", "2.7"),
        ("==28.* || ^30", "28"),
        ("==3.99.1", "3.99.1"),
        ("<3", ""),
        ("*", ""),
        (">=3,<2", ""),
        (">=1.30rc1", "1.30rc1"),
    ],
)
def test_where_a_constraint_begins(constraint: str, text: str) -> None:
    assert lowest(intersection([constraint])) == text


FRAGMENTS = [
    "1",
    "20",
    "3.11",
    ".",
    "x",
    "*",
    ">=",
    "<",
    "~",
    "~>",
    "^",
    "=",
    "!",
    "||",
    "|",
    ",",
    " ",
    "-",
    "v",
    "rc1",
    "+",
    "_",
    "a",
]


@given(
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join) | st.text(max_size=40),
    st.sampled_from(sorted(SYNTAXES)),
)
@settings(deadline=None)  # the first one loads the library
@example("== 0.*, !=0", "pep440")
@example("!=0.* || 0", "poetry")
@example("1+1", "gem")
def test_no_text_breaks_anything(text: str, syntax: str) -> None:
    """What is read can be computed with, and what it names can be installed and is allowed by itself."""
    reading = read(text, syntax, {})
    if reading is None:
        return
    common = intersection([reading.allows, "*"])
    allows_newest_of(common, "3.11")
    allows_some_of(common, "20")
    assert versions.INSTALLABLE.fullmatch(lowest(common) or "none")
    if reading.exact:
        assert versions.INSTALLABLE.fullmatch(reading.exact)
        assert not intersection([reading.allows, f">={reading.exact}"]).is_empty()


def test_the_library_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, stacks.plan, stacks.catalog; sys.exit(any(name.startswith('poetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
