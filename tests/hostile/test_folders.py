"""What an agent leaves in its folders must not keep them from being removed, nor lead a removal elsewhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.projects import folders
from gateway.store import projects as rows
from tests.support.house import house
from tests.support.processes import until

#: Deeper than Python may recurse, and far longer than a path may be.
DEEP = 1_500


def nest(folder: Path, levels: int, name: str = "deep" * 10) -> None:
    """Make folders in folders, with a file in each."""
    folder.mkdir()
    place = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=place))
        os.mkdir(name, dir_fd=place)
        inner = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def test_folders_nested_deeper_than_paths_can_be_long(tmp_path: Path) -> None:
    nest(tmp_path / "home", DEEP)
    assert folders.remove(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


def test_as_many_files_beside_each_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in range(50):
        (home / f"folder{number}" / "inner").mkdir(parents=True)
        for file in range(20):
            (home / f"folder{number}" / "inner" / f"file{file}").touch()
    assert folders.remove(home)


def test_what_is_closed_is_opened(tmp_path: Path) -> None:
    closed = tmp_path / "home" / "a" / "b" / "c"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    for folder in (closed, closed.parent, closed.parent.parent, tmp_path / "home"):
        folder.chmod(0)
    assert folders.remove(tmp_path / "home")


@pytest.mark.parametrize("place", ["home", "home/link", "home/a/link"])
def test_no_link_is_followed(tmp_path: Path, place: str) -> None:
    """Neither where a folder should be, nor in one."""
    others = tmp_path / "others"
    others.mkdir(mode=0o500)
    (others / "file").write_text("kept")
    link = tmp_path / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(others)
    assert folders.remove(tmp_path / "home")
    assert (others / "file").read_text() == "kept"
    assert others.stat().st_mode & 0o777 == 0o500
    assert [path.name for path in tmp_path.iterdir()] == ["others"]


def test_what_is_no_folder_goes_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "pipe", "nothing"):
        assert folders.remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_stays_alone_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "a" / "b").mkdir(parents=True)
    (home / "c").mkdir()
    for file in ("stays", "a/b/stays", "a/b/goes", "a/goes", "c/goes"):
        (home / file).touch()
    unlink = os.unlink

    def refusing(name: Any, **how: Any) -> None:
        if Path(name).name == "stays":
            raise PermissionError(1, "Operation not permitted", name)
        unlink(name, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refusing)
        assert not folders.remove(home)
    assert [path.name for path in home.rglob("*") if path.is_file()] == ["stays", "stays"]
    assert folders.remove(home)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EBUSY], ids=["immutable", "mounted"])
@pytest.mark.parametrize("where", ["source", "home"])
async def test_a_receipt_tells_what_stayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: int
) -> None:
    """And a later start removes it, without being asked again."""
    unlink = os.unlink

    def refusing(name: Any, **how: Any) -> None:
        if Path(name).name == "stays":
            raise OSError(error, os.strerror(error), name)
        unlink(name, **how)

    async with house(tmp_path) as made:
        await made.ask("new project demo", contains="is ready")
        project = made.app.projects.get("demo")
        source, home = project.path, made.app.projects.paths(project).home
        place = {"source": source, "home": home}[where]
        (place / "a" / "b").mkdir(parents=True)
        for file in ("goes", "a/b/goes", "a/b/stays"):
            (place / file).touch()
        asked = await made.ask("delete demo --purge")
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refusing)
            receipt = await made.ask(asked.split("`")[1], contains="is deleted")
        told = {"source": f"source ({source})", "home": f"home with its sessions ({home})"}
        stayed, gone = told.pop(where), *told.values()
        assert receipt.splitlines() == [
            "**demo** is deleted.",
            f"- removed: sled, wire, {gone}",
            f"- kept: {stayed}, history",
            "",
            "`new project demo` picks up what was kept.",
        ]
        assert [path.name for path in tmp_path.rglob("*") if path.name in ("goes", "stays")] == ["stays"]
        assert made.app.projects.all() == []
    async with house(tmp_path) as made:
        await until(lambda: not source.exists() and not home.parent.exists())
        while await made.app.store.read(lambda c: rows.by_name(c, "demo")) is not None:
            """Until the name is forgotten, too."""


def test_everything_below_is_found_as_deep_as_paths_lead(tmp_path: Path) -> None:
    nest(tmp_path / "home", DEEP)
    (tmp_path / "home" / "link").symlink_to("/")
    found = list(folders.all_below(tmp_path / "home"))
    assert tmp_path / "home" / "link" in found
    assert 100 < len(found) < 300
    assert all(len(bytes(path)) < 4096 for path in found)
    assert folders.remove(tmp_path / "home"), "pytest itself could not"


def test_whatever_a_removal_raises_what_stays_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise RecursionError

    (tmp_path / "there").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(folders, "_empty", broken)
        assert not folders.remove(tmp_path / "there")
    assert folders.remove(tmp_path / "there")
