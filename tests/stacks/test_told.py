"""What an image tells of itself, and what people are told of that."""

from __future__ import annotations

import tomllib

from stacks.catalog import catalog
from stacks.own import Own
from stacks.plan import Asked, Plan, Toolchain
from stacks.project_file import ProjectFile, read_project_file
from stacks.reading import PROJECT_FILE
from stacks.recipe import Recipe, shortfalls
from stacks.told import Told, read_told
from stacks.tree import MemoryTree
from stacks.words import RECORD, head, lacking, record, stack_lines

RUBY = Toolchain("ruby", "Gemfile", "3.2.2", packaged=False, asked=(Asked(".ruby-version", "3.2.2", "==3.2.2"),))
NODE = Toolchain("node", "package.json", "24", packaged=True)
PLAN = Plan("ruby", "Gemfile", "", (RUBY, NODE))
OUTPUT = """\
ok shell
told ruby version 3.3.8
told ruby tool bundler 2.6.7
told ruby instead 3.2.2 upstream.example.org did not answer; Debian's 3.3.8 is installed
told ruby without ruby-lsp it did not come; typeprof --lsp --stdio answers
told node version 24.19.0
told node something new
told node
told
FAILED nothing
"""
TOLD = read_told(OUTPUT)


def test_only_its_own_lines_are_read() -> None:
    assert {
        "ruby": Told(
            version="3.3.8",
            tools=(("bundler", "2.6.7"),),
            instead=(("3.2.2", "upstream.example.org did not answer; Debian's 3.3.8 is installed"),),
            without=(("ruby-lsp", "it did not come; typeprof --lsp --stdio answers"),),
        ),
        "node": Told(version="24.19.0"),
    } == TOLD
    assert read_told("told x version \x1b[31m1\n") == {}
    assert len(read_told(f"told x version {'9' * 999}\n")["x"].version) == 200


def test_a_version_that_did_not_come_is_a_shortfall() -> None:
    (found,) = shortfalls(PLAN, TOLD)
    assert found.key == "ruby 3.2.2"
    assert found.why == (
        ".ruby-version (3.2.2) is not met: the image has ruby 3.3.8: "
        "upstream.example.org did not answer; Debian's 3.3.8 is installed"
    )
    assert shortfalls(PLAN, {"ruby": Told(version="3.2.2")}) == []
    assert shortfalls(PLAN, {}) == [], "an image that tells nothing is not blamed"


def test_a_version_by_name_that_did_not_come_is_one_too() -> None:
    nightly = Toolchain(
        "rust", "Cargo.toml", "nightly-2025-06-01", False, (Asked("rust-toolchain", "nightly-2025-06-01", "*"),)
    )
    plan = Plan("rust", "Cargo.toml", "", (nightly,))
    stable = Told(version="1.85.1", instead=(("nightly-2025-06-01", "it did not come"),))
    (found,) = shortfalls(plan, {"rust": stable})
    assert found.why == "rust-toolchain (nightly-2025-06-01) is not met: the image has rust 1.85.1: it did not come"
    assert shortfalls(plan, {"rust": Told(version="1.89.0-nightly")}) == []


def test_people_are_told_each_stack_and_where_it_was_read() -> None:
    assert stack_lines(PLAN, TOLD) == [
        "stack: ruby 3.3.8 (read from Gemfile; version: 3.2.2 in .ruby-version)",
        "also: node 24.19.0 (read from package.json)",
    ]
    assert stack_lines(PLAN, {}, built=False)[1] == "also: node (read from package.json)"
    assert stack_lines(Plan("minimal", "", "", ()), {}) == ["stack: minimal (no marker found)"]
    asked = Plan("node", "asked for", "", (NODE, RUBY))
    assert stack_lines(asked, TOLD)[0] == "stack: node 24.19.0 (asked for)"
    assert stack_lines(asked, {})[0] == "stack: node (asked for); it has no image: none of it is installed"
    assert lacking(TOLD) == [
        "not as asked: ruby 3.2.2: upstream.example.org did not answer; Debian's 3.3.8 is installed",
        "without ruby-lsp: it did not come; typeprof --lsp --stdio answers",
    ]


def test_the_record_is_toml_and_whole() -> None:
    text = head() + record(Recipe(PLAN, Own(), ("ruby 3.2.2",), told=TOLD))
    assert RECORD in text.splitlines()
    found = tomllib.loads(text)
    assert found["chosen"]["stack"] == "ruby"
    assert found["chosen"]["ruby"] == {
        "version": "3.3.8",
        "asked": [{"file": ".ruby-version", "says": "3.2.2"}],
        "instead_of": ["3.2.2: upstream.example.org did not answer; Debian's 3.3.8 is installed"],
        "without": ["ruby-lsp: it did not come; typeprof --lsp --stdio answers"],
        "tools": {"bundler": "2.6.7"},
    }
    assert found["chosen"]["node"] == {"version": "24.19.0", "asked": []}
    assert "stack" not in found, "what was found is no request: another file decides tomorrow"
    read = read_project_file(MemoryTree({PROJECT_FILE: text}), catalog())
    assert read == ProjectFile(), "nor does it warn"


def test_the_record_takes_whatever_a_file_says() -> None:
    odd = Toolchain("node", "package.json", "24", packaged=True, asked=(Asked(".nvmrc", '"\\\n\x7f\x1b\u2028é', "*"),))
    found = tomllib.loads(record(Recipe(Plan("node", 'a"b', "süb", (odd,)))))
    assert found["chosen"]["because"] == 'a"b'
    assert found["chosen"]["folder"] == "süb"
    assert found["chosen"]["node"]["asked"][0]["says"].startswith('"\\')
