"""The catalog: folders of data, those of the package and those that an operator adds."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

import pytest

from gateway.errors import UserError
from stacks.catalog import BUILT_IN, FALLBACK, FRAGMENT, Stack, catalog
from stacks.schema import MISE, Read
from stacks.versions import SYNTAXES

STACKS = catalog()
PAGE = (Path(__file__).parents[2] / "docs" / "stacks.md").read_text()
ZIG = 'summary = "Zig"\norder = 15\n'
VERSIONS = f'{ZIG}version = "0.14"\n[versions]\n'
READ = f"{VERSIONS}[[versions.read]]\n"


def make(folder: Path, text: str = ZIG, *, name: str = "zig", markers: str | None = "build.zig\n") -> Path:
    """A stack of an operator's; returns its folder."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "stack.toml").write_text(text)
    if markers is not None:
        (place / "markers").write_text(markers)
    return place


def added(folder: Path, name: str = "zig") -> Stack:
    return next(stack for stack in catalog(folder) if stack.name == name)


def test_every_stack_is_in_the_catalog_once_and_in_order() -> None:
    assert [stack.name for stack in STACKS] == ["rust", "go", "jvm", "ruby", "python", "node", "minimal"]
    assert [stack.order for stack in STACKS] == sorted({stack.order for stack in STACKS})
    markers = list(itertools.chain.from_iterable(stack.markers for stack in STACKS))
    assert len(set(markers)) == len(markers), "a file that asks for two stacks asks for the first only"


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_a_stack_is_whole(stack: Stack) -> None:
    assert stack.summary
    assert bool(stack.markers) == bool(stack.version) == bool(stack.versions) == (stack.name != FALLBACK)
    assert (stack.folder / FRAGMENT).is_file() == (stack.folder / "verify").is_file()
    if stack.versions is not None:
        numbers = [tuple(map(int, line.split("."))) for line in stack.versions.lines]
        assert numbers == sorted(set(numbers)), "the oldest first"
        assert stack.version in stack.versions.lines and stack.versions.is_packaged(stack.version)
        assert ".tool-versions" in {read.file for read in stack.versions.reads}


@pytest.mark.parametrize(
    ("stack", "version", "packaged"),
    [
        ("rust", "1.85", True),
        ("rust", "1.85.1", False),
        ("rust", "nightly", False),
        ("go", "1.24", True),
        ("go", "1.25.1", True),
        ("go", "1.2", False),
        ("go", "1.240", False),
        ("go", "1.28.0", False),
        ("jvm", "25", True),
        ("jvm", "17", False),
        ("node", "20.11.1", True),
        ("node", "99", True),
    ],
)
def test_which_versions_need_no_upstream(stack: str, version: str, packaged: bool) -> None:
    versions = next(one for one in STACKS if one.name == stack).versions
    assert versions is not None and versions.is_packaged(version) is packaged


def test_a_stack_is_added_by_a_folder_alone(tmp_path: Path) -> None:
    folder = make(tmp_path, markers="# Zig's own.\nbuild.zig\n\n  build.zig.zon\n*.zig\n")
    stacks = catalog(tmp_path)
    assert [stack.name for stack in stacks[:3]] == ["rust", "zig", "go"]
    only = stacks[1]
    assert only == Stack("zig", "Zig", 15, ("build.zig", "build.zig.zon", "*.zig"), "", folder)
    assert not only.has_image
    (folder / FRAGMENT).write_text("RUN true\n")
    assert only.has_image


def test_all_of_a_stack_toml(tmp_path: Path) -> None:
    make(
        tmp_path,
        """
        summary = "Zig with zls"
        order = 15
        version = "0.14"
        [versions]
        name = "the Zig compiler"
        packaged = ["0.13", "0.14.*"]
        lines = ["0.12", "0.13", "0.14"]
        named = 'master'
        [versions.words]
        stable = ">=0.12 <0.15"
        [[versions.read]]
        file = ".config/zig.json"
        key = 'tools."zig.version".wanted'
        syntax = "npm"
        [[versions.read]]
        file = "build.zig"
        pattern = '^// zig (.+)'
        syntax = "minimum"
        [[versions.platforms]]
        file = "zig.json"
        key = "os"
        has = ["linux"]
        [built]
        zig-out = "zig build"
        [[rebuild]]
        folder = "zig-out"
        file = "make.zig"
        pattern = '^all:'
        command = "make"
        """,
    )
    stack = added(tmp_path)
    assert (stack.version, stack.built) == ("0.14", {"zig-out": "zig build"})
    (rebuild,) = stack.rebuild
    assert (rebuild.folder, rebuild.file, rebuild.command) == ("zig-out", "make.zig", "make")
    assert rebuild.pattern is not None and rebuild.pattern.search("x:\nall:\n")
    versions = stack.versions
    assert versions is not None
    (platform,) = versions.platforms
    assert (platform.file, platform.key, platform.has) == ("zig.json", ("os",), ("linux",))
    assert (versions.name, versions.packaged) == ("the Zig compiler", ("0.13", "0.14.*"))
    assert versions.lines == ("0.12", "0.13", "0.14")
    assert versions.words == {"stable": ">=0.12,<0.15"}
    assert versions.named is not None and versions.named.fullmatch("master")
    key, pattern = versions.reads
    assert (key.file, key.key, key.syntax, key.pattern) == (
        ".config/zig.json",
        ("tools", "zig.version", "wanted"),
        "npm",
        None,
    )
    assert pattern.pattern is not None and pattern.pattern.search("//\n// zig 0.14")


def test_what_versions_leave_out(tmp_path: Path) -> None:
    make(tmp_path, VERSIONS)
    versions = added(tmp_path).versions
    assert versions is not None
    assert (versions.name, versions.packaged, versions.lines) == ("zig", ("0.14",), ("0.14",))
    assert (versions.words, versions.named, versions.reads) == ({}, None, ())


def test_an_operator_sees_changes_at_once_and_replaces_what_is_built_in(tmp_path: Path) -> None:
    assert catalog(tmp_path) == catalog(tmp_path / "none") == catalog() == catalog(BUILT_IN)
    mine = make(tmp_path, 'summary = "Ours"\norder = 50\n', name="python", markers="pyproject.toml\n")
    python = added(tmp_path, "python")
    assert (python.folder, python.version, python.versions, python.has_image) == (mine, "", None, False)
    (mine / "stack.toml").write_text('summary = "Ours, now first"\norder = 1\n')
    assert catalog(tmp_path)[0].summary == "Ours, now first"
    later = tmp_path / "later"
    make(later, 'summary = "Later"\norder = 2\n', name="python")
    (tmp_path / "first").mkdir()
    mine.rename(tmp_path / "first" / "python")
    assert added_by(tmp_path / "first", later) == "Later"
    assert added_by(later, tmp_path / "first") == "Ours, now first"
    assert "Python" in next(stack.summary for stack in catalog() if stack.name == "python")


def added_by(*folders: Path) -> str:
    return next(stack.summary for stack in catalog(*folders) if stack.name == "python")


def test_hidden_folders_and_plain_files_are_no_stacks(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("My stacks.")
    for name in (".git", "__pycache__", "_drafts"):
        (tmp_path / name).mkdir()
    assert catalog(tmp_path) == catalog()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("summary = ", ["is not TOML"]),
        ("a = " + "[" * 5000, ["is not TOML"]),
        ("order = 15", ["summary is missing", 'summary = "Zig']),
        ('summary = ""\norder = 15', ["summary", 'summary = "Zig']),
        ("summary = 1\norder = 15", ["summary is not a text"]),
        ('summary = "Zig"', ["order is missing", "order = 15"]),
        ('summary = "Zig"\norder = "first"', ["order is not a whole number", "order = 15"]),
        ('summary = "Zig"\norder = true', ["order is not a whole number"]),
        ('summary = "Zig"\norder = 1.5', ["order is not a whole number"]),
        ('summary = "Zig"\norder = 20', ["order 20", "the stack go", "order = 21"]),
        ('summary = "Zig"\norder = 10', ["order 10", "the stack rust", "order = 11"]),
        (f'{ZIG}colour = "red"', ["colour is unknown", "summary, order, version"]),
        (f"{ZIG}version = 3", ["version is not a text"]),
        (f'{ZIG}version = "a b"', ["version is not a version"]),
        (f"{ZIG}built = 3", ["built is not a table"]),
        (f"{ZIG}[built]\nout = 3", ["built is not a table of texts"]),
        (f"{ZIG}[[rebuild]]\nfolder = 'out'", ["rebuild[1].folder is none of [built]"]),
        (f"{VERSIONS}[[versions.platforms]]\nfile = 'a'\nkey = 'os'", ["platforms[1].has is not a list"]),
        (f"{ZIG}versions = 3", ["versions is not a table"]),
        (f"{ZIG}[versions]", ["version is missing", 'version = "0.14"']),
        (f'{VERSIONS}line = ["1"]', ["versions.line is unknown", "lines"]),
        (f"{VERSIONS}lines = []", ["versions.lines is not a list"]),
        (f"{VERSIONS}lines = [3]", ["versions.lines is not a list of texts"]),
        (f'{VERSIONS}lines = ["0.x"]', ["versions.lines", "not a release line"]),
        (f'{VERSIONS}lines = ["0.13.1"]', ["versions.lines", "parts"]),
        (f"{ZIG}version = 'new'\n[versions]", ["not a release line"]),
        (f"{VERSIONS}packaged = '*'", ["versions.packaged is not a list"]),
        (f"{VERSIONS}named = '('", ["versions.named is not a regular expression"]),
        (f"{VERSIONS}[versions.words]\nnew = 'soon'", ["versions.words has new", ">=1.2"]),
        (f"{VERSIONS}read = 3", ["versions.read is not a list of tables"]),
        (READ, ["versions.read[1].file is missing"]),
        (f"{READ}file = 'a'", ["versions.read[1].syntax is missing"]),
        (f"{READ}file = 'a'\nsyntax = 'semver'\nkey = 'b'", ["syntax is not one of exact, gem", "syntax ="]),
        (f"{READ}file = 'a'\nsyntax = 'exact'", ["pattern or key", "key ="]),
        (f"{READ}file = 'a'\nsyntax = 'exact'\nkey = 'b'\npattern = '(c)'", ["pattern or key"]),
        (f"{READ}file = 'a'\nsyntax = 'exact'\npattern = '('", ["pattern is not a regular expression", "pattern ="]),
        (f"{READ}file = 'a'\nsyntax = 'exact'\npattern = 'c'", ["pattern has no group"]),
        (f"{READ}file = 'a'\nsyntax = 'exact'\nkey = 'b..c'", ["key is not a TOML key"]),
        (f"{READ}file = 'a'\nsyntax = 'exact'\nkey = 'b = 1, c'", ["key is not a TOML key"]),
        (f"{READ}file = 'a'\nsyntax = 'exact'\nkey = '''b = 1\nc'''", ["key is not a TOML key"]),
        (f"{READ}file = '../a'\nsyntax = 'exact'\nkey = 'b'", ["file leads outside"]),
        (f"{READ}file = '/a'\nsyntax = 'exact'\nkey = 'b'", ["file leads outside"]),
        (f"{READ}file = 'a'\nsyntax = 'exact'\nkey = 'b'\nwhere = 1", ["versions.read[1].where is unknown"]),
    ],
)
def test_a_mistake_is_named_with_its_file_its_key_and_what_to_write(text: str, said: list[str], tmp_path: Path) -> None:
    folder = make(tmp_path, text)
    with pytest.raises(UserError) as caught:
        catalog(tmp_path)
    assert str(folder / "stack.toml") in str(caught.value)
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["Zig", "zig_lang", "9front", "auto", "zig lang", "-zig"])
def test_a_name_that_nobody_could_type_is_refused(name: str, tmp_path: Path) -> None:
    make(tmp_path, name=name)
    with pytest.raises(UserError, match=f"{re.escape(name)} is not a valid name for a stack. Rename"):
        catalog(tmp_path)


def test_a_stack_without_its_files_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path, markers=None)
    with pytest.raises(UserError, match=r"markers cannot be read. List in it"):
        catalog(tmp_path)
    (folder / "markers").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"markers cannot be read"):
        catalog(tmp_path)
    (folder / "markers").write_text("")
    (folder / FRAGMENT).write_text("RUN true\n")
    with pytest.raises(UserError, match=r"but no verify. Write one"):
        catalog(tmp_path)
    (folder / "verify").write_text("zig version\n")
    assert added(tmp_path).markers == ()
    (folder / "stack.toml").unlink()
    with pytest.raises(UserError, match=r"stack.toml cannot be read"):
        catalog(tmp_path)


def test_orders_are_compared_after_stacks_are_replaced(tmp_path: Path) -> None:
    make(tmp_path, 'summary = "Ours"\norder = 100\n', name="rust")
    make(tmp_path, 'summary = "Zig"\norder = 10\n')
    assert catalog(tmp_path)[0].name == "zig"


READS = [read for stack in STACKS if stack.versions for read in stack.versions.reads if read.pattern]


@pytest.mark.parametrize("read", READS, ids=lambda read: read.file)
def test_no_pattern_is_slow_on_whatever_a_file_holds(read: Read) -> None:
    """16 KiB take a pattern a millisecond where it is linear, and a second or more where it is not."""
    assert read.pattern is not None
    words = re.findall(r"[A-Za-z_]{2,}", re.sub(r"\\.", " ", read.pattern.pattern))
    starts = ["", *words, " ".join(words), f"<{'.'.join(words)}>", ".".join(words) + "("]
    ends = ["", " ", "=", " = ", "(", '"', ' "', '="', "<", ">", "-", ".", "1", '"1", ']
    parts = [" ", "\t", "a", "1", "1.", "a-", ".", '"1",', '"1" , ', "#", "\n", "/"]
    for start, end in itertools.product(starts, ends):
        for text in [start + end + part * (16_000 // len(part)) for part in parts] + [(start + end) * 1000]:
            began = time.process_time()
            read.pattern.search(text + "\x00")
            assert time.process_time() - began < 0.25, text[:100]


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading of the page, by its first cell."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_page_has_the_catalog_as_it_is() -> None:
    expected = {
        str(stack.order): [stack.name, ", ".join(f"`{marker}`" for marker in stack.markers) or "nothing"]
        for stack in STACKS
    }
    assert rows("How a stack is chosen") == expected


def test_the_page_names_every_place_where_a_version_is_read() -> None:
    places, lines = rows("Where versions are read"), rows("Which version is taken")
    for stack in STACKS:
        if stack.versions is not None:
            named = set(re.findall(r"`([^`]+)`", places[stack.name][0]))
            named |= set(MISE) if "mise's files" in places[stack.name][0] else set()
            assert named == {read.file for read in stack.versions.reads}
            assert lines[stack.name][:2] == [stack.version, ", ".join(stack.versions.packaged).replace("*", r"\*")]
    assert set(places) == set(lines) == {stack.name for stack in STACKS if stack.versions}


def test_the_page_names_every_syntax() -> None:
    assert set(rows("Adding a stack")) == {f"`{syntax}`" for syntax in SYNTAXES}
