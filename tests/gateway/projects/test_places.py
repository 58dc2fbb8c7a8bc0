"""Whom a project's container runs as: chosen before anything is made, and never root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.errors import UserError
from gateway.projects.places import NEW_OWNER, Source, choose_owner


def run_as(monkeypatch: pytest.MonkeyPatch, uid: int, gid: int) -> None:
    """Have the gateway be somebody."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getegid", lambda: gid)


def owned_by(monkeypatch: pytest.MonkeyPatch, path: Path, uid: int, gid: int) -> Source:
    """A folder of somebody's; only root can make a real one."""
    path.mkdir()
    if os.getuid() == 0:
        os.chown(path, uid, gid)
        return Source(path, adopted=True, exists=True)
    values = list(path.stat())
    values[4:6] = uid, gid
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result(values))
    return Source(path, adopted=True, exists=True)


@pytest.mark.parametrize(
    ("gateway", "owner"),
    [
        ((0, 0), NEW_OWNER),
        ((1001, 1002), (1001, 1002)),
        ((1001, 0), (1001, 1001)),  # a group of root's is none for a container
    ],
)
def test_a_new_folders_owner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gateway: tuple[int, int], owner: tuple[int, int]
) -> None:
    run_as(monkeypatch, *gateway)
    assert choose_owner(Source(tmp_path / "new", adopted=False, exists=False)) == owner


@pytest.mark.parametrize(
    ("gateway", "folder", "owner"),
    [
        ((0, 0), (1234, 1235), (1234, 1235)),
        ((0, 0), (1234, 0), (1234, 1234)),
        ((1001, 1002), (1001, 1002), (1001, 1002)),
        ((1001, 1002), (1001, 50), (1001, 50)),
    ],
)
def test_a_folder_that_is_there_keeps_its_owner(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    gateway: tuple[int, int],
    folder: tuple[int, int],
    owner: tuple[int, int],
) -> None:
    source = owned_by(monkeypatch, tmp_path / "there", *folder)
    run_as(monkeypatch, *gateway)
    assert choose_owner(source) == owner


@pytest.mark.parametrize(
    ("gateway", "folder", "told"),
    [
        ((0, 0), (0, 0), ("belongs to root, and no container runs as root", "1000:1000")),
        ((0, 0), (0, 1000), ("belongs to root, and no container runs as root", "1000:1000")),
        ((1001, 1002), (0, 0), ("belongs to user 0, and its container would run as 1001", "1001:1002")),
        ((1001, 1002), (1003, 1002), ("belongs to user 1003, and its container would run as 1001", "1001:1002")),
        ((1001, 0), (1003, 1002), ("belongs to user 1003", "1001:1001")),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_with_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    gateway: tuple[int, int],
    folder: tuple[int, int],
    told: tuple[str, str],
) -> None:
    source = owned_by(monkeypatch, tmp_path / "there", *folder)
    run_as(monkeypatch, *gateway)
    with pytest.raises(UserError) as caught:
        choose_owner(source)
    assert told[0] in str(caught.value)
    assert f"`chown -R {told[1]} {tmp_path}/there`" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_line_to_type_helps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = owned_by(monkeypatch, tmp_path / "my folder", 0, 0)
    with pytest.raises(UserError) as caught:
        choose_owner(source)
    line = str(caught.value).split("`")[1]
    assert os.waitstatus_to_exitcode(os.system(line)) == 0
    assert choose_owner(source) == NEW_OWNER
