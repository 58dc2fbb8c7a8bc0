"""A source is written by agents: what it says of itself is read with care, or not at all."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.projects.source_tree import MAX_BYTES, SourceTree, read_text
from stacks.catalog import catalog
from stacks.plan import make_plan
from stacks.reading import PROJECT_FILE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "src"
    (made / ".huskies").mkdir(parents=True)
    return made


def declared_stack(source: Path) -> str:
    """The stack that the source is taken to ask for; empty for none."""
    plan = make_plan(SourceTree(source), catalog())
    return plan.stack if plan.because == PROJECT_FILE else ""


def declare(source: Path, text: str | bytes) -> Path:
    file = source / PROJECT_FILE
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_the_stack_that_it_asks_for(source: Path) -> None:
    declare(source, '# ours\nstack = "python"\n[versions]\npython = "3.13"\n')
    assert declared_stack(source) == "python"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stack = ",
        "stack",
        "stack = 3",
        'stack = ["cobol", 3]',
        '[stack]\nname = "python"',
        'other = "python"',
        'stack = "python"\nstack = "go"',
        "\0",
        b'stack = "\xff"',
        b"\xff\xfes\0t\0",
        "date = 2024-13-45",
        f"number = {'9' * 5000}",
        f"deep = {'[' * 30_000}",
        f"deep = {'{a=' * 20_000}",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_cannot_be_read_asks_for_nothing(source: Path, text: str | bytes) -> None:
    declare(source, text)
    assert declared_stack(source) == ""


def test_no_source_and_no_file(tmp_path: Path, source: Path) -> None:
    assert declared_stack(source) == ""
    assert declared_stack(tmp_path / "nothing") == ""
    (source / ".huskies").rmdir()
    assert declared_stack(source) == ""
    (source / ".huskies").touch()
    assert declared_stack(source) == ""


def test_no_link_is_followed_to_the_file(source: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text('stack = "python"\n')
    (source / PROJECT_FILE).symlink_to(elsewhere)
    assert declared_stack(source) == ""
    (source / PROJECT_FILE).unlink()
    (source / "real.toml").write_text('stack = "python"\n')
    (source / PROJECT_FILE).symlink_to("../real.toml")
    assert declared_stack(source) == "", "nor one that stays inside"
    assert read_text(source, "real.toml") == 'stack = "python"\n'


def test_no_link_is_followed_to_the_folder(source: Path, tmp_path: Path) -> None:
    (source / ".huskies").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "project.toml").write_text('stack = "python"\n')
    (source / ".huskies").symlink_to(tmp_path / "elsewhere")
    assert declared_stack(source) == ""


@pytest.mark.timeout(5)
def test_what_is_no_regular_file_is_not_waited_for(source: Path) -> None:
    file = source / PROJECT_FILE
    os.mkfifo(file)
    assert declared_stack(source) == ""
    file.unlink()
    file.mkdir()
    assert declared_stack(source) == ""
    file.rmdir()
    here = Path.cwd()
    os.chdir(file.parent)  # a socket's path may be short only
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(file.name)
            assert declared_stack(source) == ""
    finally:
        os.chdir(here)


def test_a_long_file_is_none_of_ours(source: Path) -> None:
    head = 'stack = "python"\n'
    file = declare(source, head + "#" * (MAX_BYTES - len(head)))
    assert declared_stack(source) == "python"
    file.write_text(head + "#" * (MAX_BYTES - len(head) + 1))
    assert declared_stack(source) == ""
    assert SourceTree(source).is_too_long(PROJECT_FILE)
    file.write_bytes(b"\xff")
    assert not SourceTree(source).is_too_long(PROJECT_FILE)
    assert not SourceTree(source).is_too_long("nowhere")


def test_whatever_it_finds_it_leaves_nothing_open(source: Path, tmp_path: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    declare(source, "stack = 3")
    declared_stack(source)
    (source / PROJECT_FILE).unlink()
    (source / PROJECT_FILE).symlink_to(tmp_path)
    declared_stack(source)
    declared_stack(tmp_path)
    assert opened() == before


def test_a_tree_shows_real_files_and_folders_only(source: Path, tmp_path: Path) -> None:
    (source / "web").mkdir()
    (source / "web" / "package.json").write_text("{}")
    (source / "Cargo.toml").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "go.mod").touch()
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (source / "go.mod").symlink_to(tmp_path / "elsewhere" / "go.mod")
    os.mkfifo(source / "pipe")
    tree = SourceTree(source)
    assert tree.files() == {"Cargo.toml"}
    assert tree.folders() == {".huskies", "web"}
    assert tree.files("web") == {"package.json"}
    assert tree.text("web/package.json") == "{}"
    for nowhere in ("link", "nothing", "Cargo.toml", "pipe", "../elsewhere/nothing"):
        assert (tree.files(nowhere), tree.folders(nowhere)) == (set(), set())
    assert SourceTree(tmp_path / "nothing").files() == set()
