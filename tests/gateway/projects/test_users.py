"""Users of this host that new sources get, and the account of a person who gets in beside them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gateway.config.sections import ProjectsSection
from gateway.errors import UserError
from gateway.projects import folders, users
from gateway.projects.users import account, choose_user

root_alone = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
OWNER, PERSON, STRANGER = 71000, 72000, 73000


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        ([], 70000),
        ([70000], 70001),
        ([1000, 70000, 70002], 70003),  # in turn: what a deleted one left may still be about
        ([70001, 70003], 70000),  # and from the start again
    ],
)
def test_the_next_user_that_no_project_has(taken: list[int], chosen: int) -> None:
    assert choose_user(range(70000, 70004), taken, lambda _: True) == chosen


def test_an_account_of_this_host_is_nobodys_project() -> None:
    assert choose_user(range(70000, 70004), [], lambda uid: uid != 70000) == 70001
    with pytest.raises(UserError, match=r"70000-70003 are used up.*projects\.user_ids.*`delete <name> --purge`"):
        choose_user(range(70000, 70004), [], lambda _: False)


def test_users_that_accounts_have_for_containers_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "subuid").write_text("ana:70000:2\n# odd\nben:x:y\n")
    monkeypatch.setattr(users, "_SUBORDINATE", tmp_path / "subuid")
    assert choose_user(range(70000, 70004), []) == 70002
    monkeypatch.setattr(users, "_SUBORDINATE", tmp_path / "none")
    assert choose_user(range(70000, 70004), []) == 70000


@pytest.mark.parametrize("given", ["70000", "1000-2000", "90000-70000", "a-b", "65535-70000"])
def test_a_range_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"range of user ids from 65536 on, e\.g\. 70000-89999"):
        ProjectsSection(user_ids=given)


def test_a_range_and_none() -> None:
    assert ProjectsSection(user_ids=" 70000-70001 ").user_range == range(70000, 70002)
    assert list(ProjectsSection(user_ids="").user_range) == []


def test_who_gets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(users, "_has_account", lambda uid: uid in {1000, 1001})
    monkeypatch.setenv("SUDO_UID", "1001")
    assert account("") == 1001
    monkeypatch.setenv("SUDO_UID", "0")
    assert account("") == 1000
    monkeypatch.delenv("SUDO_UID")
    monkeypatch.setattr(users, "_has_account", lambda _: False)
    assert account("") is None
    assert account("root") == 0
    with pytest.raises(UserError, match=r"projects\.host_user is nobody-here, and this host has no account"):
        account("nobody-here")
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert account("nobody-here") is None, "a gateway that is not root runs everything as itself"


def as_user(uid: int, folder: Path, command: str) -> int:
    """Run a command in a folder as somebody; its exit code. Its place is taken before the user is."""
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, user=uid, group=uid, extra_groups=[], umask=0o022, check=False
    ).returncode


@root_alone
def test_a_person_and_a_projects_user_work_in_one_folder_and_nobody_else(tmp_path: Path) -> None:
    source = tmp_path / "demo"
    assert folders.make_source(source, (OWNER, OWNER), PERSON) == ""
    assert as_user(OWNER, source, "mkdir -p deep/er && echo agent > deep/er/theirs") == 0
    assert as_user(PERSON, source, "echo person >> deep/er/theirs && mkdir mine && echo person > mine/file") == 0
    assert as_user(OWNER, source, "echo agent >> mine/file && rm -r mine && grep -q person deep/er/theirs") == 0
    assert as_user(STRANGER, source, "ls deep 2> /dev/null || cat deep/er/theirs 2> /dev/null || touch new") != 0
    assert not folders.is_open_to_others(source)
    # What is made to be private stays that.
    assert as_user(OWNER, source, "umask 077; install -m 600 /dev/null key; test $(stat -c %a key) = 600") == 0
    assert as_user(PERSON, source, "cat key 2> /dev/null") != 0


@root_alone
def test_a_file_system_without_lists_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    told = folders.make_source(tmp_path / "demo", (OWNER, OWNER), PERSON)
    assert told == (
        f"Only root gets into {tmp_path}/demo on this host: its file system has no access control lists "
        "(Operation not supported)."
    )
    assert (tmp_path / "demo").stat().st_uid == OWNER
    assert folders.make_source(tmp_path / "one", (PERSON, PERSON), PERSON) == "", "whose it is gets in anyway"
