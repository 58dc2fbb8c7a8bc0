"""What turns changed, seen and undone: real git on real trees, by way of a real sled."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, Unpack

import pytest
from msgspec.structs import replace

from gateway.errors import SledRefused
from gateway.testing import patience
from sled import snapshots as snapshots_module
from sled.diffs import diff
from sled.protocol import Call, Run
from sled.shadow import MAX_FILE_BYTES
from sled.snapshots import NO_GIT, NoSnapshot, Snapshots
from sled.undo import undo
from tests.support.order import Order
from tests.support.processes import until
from tests.support.yard import ODD, PROJECT, Yard, make_yard


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    async with make_yard() as made:
        made.sled()
        await made.arrival()
        yield made


async def job(yard: Yard, name: Literal["diff", "undo"], run: str = "") -> dict[str, Any]:
    call = Call(call=yard.gateway.sleds.new_call_id(), job=name, arguments={"run": run} if run else {})
    told: dict[str, Any] = json.loads(await yard.gateway.sleds.call(PROJECT, call, 20))
    return told


async def turn(yard: Yard, script: str, **how: Unpack[Order]) -> str:
    """A turn in which a shell script changes the workspace; its run."""
    file = yard.home / "script"
    file.write_text(script)
    run = await yard.run(f"@@run sh -e {file}", **how)
    end = await yard.gateway.finished(run)
    assert end.ending == "answered"
    return run


def git(folder: Path, *command: str) -> str:
    """Run git as a person would, with an identity."""
    identity = ("-c", "user.name=Ana", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ("git", "-C", str(folder), *identity, *command), check=True, capture_output=True, text=True
    ).stdout


def tree(root: Path) -> dict[str, object]:
    """All below `root` but `.git` and `.huskies`: content, link target, and whether it may be executed."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith((".git/", ".huskies/")) or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        else:
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


async def test_diff_shows_what_the_last_turn_changed(yard: Yard) -> None:
    (yard.workspace / "a.txt").write_text("one\ntwo\n")
    first = await turn(yard, "echo three >> a.txt; echo new > b.txt")
    await turn(yard, "true", session="other")
    nothing = await job(yard, "diff")
    assert (nothing["summary"], nothing["patch"], nothing["truncated"]) == ("nothing changed", "", False)
    shown = await job(yard, "diff", first)
    assert shown["run"] == first
    assert "a.txt | 1 +" in shown["summary"] and "2 files changed, 2 insertions(+)" in shown["summary"]
    assert "+three" in shown["patch"] and "+++ b/b.txt" in shown["patch"] and " two" in shown["patch"]
    with pytest.raises(SledRefused, match="no snapshot of turn nobody"):
        await job(yard, "diff", "nobody")


async def test_before_the_first_turn_there_is_nothing(yard: Yard) -> None:
    names: tuple[Literal["diff", "undo"], ...] = ("diff", "undo")
    for name in names:
        with pytest.raises(SledRefused, match="there has been no turn yet"):
            await job(yard, name)


async def test_a_long_diff_is_cut_at_a_line_and_says_so(yard: Yard) -> None:
    await turn(yard, "seq 200000 > numbers; head -c 300000 /dev/zero | tr '\\0' '\\001' | fold > control")
    shown = await job(yard, "diff")
    assert shown["truncated"] and shown["patch"].endswith("\n")
    assert "numbers" in shown["summary"]


UNDONE = """
echo more >> kept.txt
echo changed > 'naïve file.txt'
rm gone.txt
rm -r deep
chmod +x tool
chmod -x script
rm link; ln -s elsewhere link
rm becomes-folder; mkdir becomes-folder; echo x > becomes-folder/inner
rm -r becomes-link; ln -s deep becomes-link
rm was-link; echo file > was-link
mkdir -p new/er; echo made > new/er/made.txt
printf made > 'new
line'
echo made > ':(top)magic'
printf made > "$(printf 'bad\\377name')"
"""


async def test_undo_brings_back_what_was(yard: Yard) -> None:
    ws = yard.workspace
    for name, content in {"kept.txt": "kept\n", "naïve file.txt": "x\r\ny\n", "gone.txt": "gone", "tool": "#!"}.items():
        (ws / name).write_bytes(content.encode())
    for name in ("deep/er/file", "becomes-link/file", "script", "becomes-folder"):
        (ws / name).parent.mkdir(parents=True, exist_ok=True)
        (ws / name).write_text(name)
    (ws / "script").chmod(0o750)
    (ws / "kept.txt").chmod(0o600)
    (ws / "link").symlink_to("kept.txt")
    (ws / "was-link").symlink_to("/nowhere")
    before = tree(ws)

    run = await turn(yard, UNDONE)
    assert tree(ws) != before
    made = await job(yard, "undo")

    assert tree(ws) == before
    assert made["run"] == run and made["left"] == []
    assert set(made["removed"]) == {
        "becomes-folder/inner",
        "becomes-link",
        "new/er/made.txt",
        "new\\nline",
        ":(top)magic",
        "bad\\xffname",
    }
    assert "naïve file.txt" in made["restored"] and "deep/er/file" in made["restored"]
    assert not (ws / "new").exists()
    assert (ws / "kept.txt").stat().st_mode & 0o777 == 0o600
    assert "files that git ignores" in made["cannot"] and "commits" not in made["cannot"]
    with pytest.raises(SledRefused, match="no remembered turn"):
        await job(yard, "undo")
    with pytest.raises(SledRefused, match="is already undone"):
        await job(yard, "undo", run)


async def test_undo_leaves_alone_what_was_changed_since(yard: Yard) -> None:
    ws = yard.workspace
    for name in ("a.txt", "b.txt", "c.txt"):
        (ws / name).write_text("before")
    await turn(yard, "for f in a b; do echo turn > $f.txt; done; rm c.txt; echo made > d.txt; echo made > e.txt")
    (ws / "a.txt").write_text("mine")
    (ws / "c.txt").write_text("mine too")
    (ws / "d.txt").write_text("mine as well")
    made = await job(yard, "undo")
    assert {left["path"]: left["why"] for left in made["left"]} == dict.fromkeys(
        ("a.txt", "c.txt", "d.txt"), "it has changed since"
    )
    assert (made["restored"], made["removed"]) == (["b.txt"], ["e.txt"])
    assert (ws / "a.txt").read_text() == "mine" and (ws / "c.txt").read_text() == "mine too"
    assert (ws / "b.txt").read_text() == "before"


async def test_undo_goes_back_turn_by_turn_past_those_that_only_talked(yard: Yard) -> None:
    file = yard.workspace / "a.txt"
    file.write_text("0\n")
    first = await turn(yard, "echo 1 > a.txt")
    second = await turn(yard, "echo 2 > a.txt", session="other")
    await turn(yard, "true")
    assert (await job(yard, "undo"))["run"] == second
    assert file.read_text() == "1\n"
    assert (await job(yard, "undo"))["run"] == first
    assert file.read_text() == "0\n"


async def test_undo_writes_through_no_link(yard: Yard, tmp_path: Path) -> None:
    ws = yard.workspace
    (ws / "d").mkdir()
    (ws / "d" / "a.txt").write_text("before")
    await turn(yard, "rm d/a.txt; echo x > d/b.txt")
    (ws / "d" / "b.txt").unlink()
    (ws / "d").rmdir()
    (ws / "d").symlink_to(tmp_path)
    made = await job(yard, "undo")
    assert {left["path"] for left in made["left"]} == {"d/a.txt", "d/b.txt"}
    assert list(tmp_path.iterdir()) == []


async def test_undo_waits_for_no_run(yard: Yard) -> None:
    await turn(yard, "echo x > a.txt")
    run = await yard.run("@@sleep 60")
    with pytest.raises(SledRefused, match="a run is under way"):
        await job(yard, "undo")
    await yard.stop(run)
    assert (await job(yard, "undo"))["removed"] == ["a.txt"]


@pytest.mark.parametrize("end", ["stop", "die"])
async def test_a_turn_that_was_cut_off_can_be_undone(yard: Yard, end: str) -> None:
    run = await yard.run("@@write a.txt x\n@@run touch begun" + ("\n@@sleep 60" if end == "stop" else "\n@@die"))
    if end == "stop":
        await until((yard.workspace / "begun").exists)
        await yard.stop(run)
    else:
        await yard.gateway.finished(run)
    assert set((await job(yard, "undo"))["removed"]) == {"a.txt", "begun"}


async def test_a_repository_s_own_state_is_not_touched(yard: Yard) -> None:
    ws = yard.workspace
    git(ws, "init", "-q", "-b", "main")
    (ws / "a.txt").write_text("one\n")
    (ws / "staged.txt").write_text("s\n")
    git(ws, "add", "-A")
    git(ws, "commit", "-qm", "first")
    (ws / "staged.txt").write_text("staged\n")
    git(ws, "add", "staged.txt")
    status, first = git(ws, "status", "--porcelain"), git(ws, "rev-parse", "HEAD").strip()
    index = (ws / ".git" / "index").read_bytes()
    run = await turn(yard, "echo two > a.txt")
    assert (ws / ".git" / "index").read_bytes() == index
    await job(yard, "undo", run)
    assert git(ws, "status", "--porcelain") == status
    assert git(ws, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"

    await turn(yard, "git -c user.name=a -c user.email=a@b commit -qam second")
    assert (await job(yard, "diff"))["patch"] == ""
    await turn(yard, "echo three > a.txt; git -c user.name=a -c user.email=a@b commit -qam third")
    now = git(ws, "rev-parse", "HEAD").strip()
    made = await job(yard, "undo")
    assert made["restored"] == ["a.txt"] and git(ws, "rev-parse", "HEAD").strip() == now != first
    assert f"to {now[:10]})" in made["cannot"]


async def test_nothing_of_the_repository_is_run(yard: Yard, tmp_path: Path) -> None:
    ws, canary = yard.workspace, tmp_path / "canary"
    git(ws, "init", "-q", "-b", "main")
    evil = f"touch {canary}; cat"
    for key in (
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.textconv",
        "diff.evil.command",
    ):
        git(ws, "config", key, evil)
    git(ws, "config", "core.fsmonitor", f"touch {canary}")
    (yard.home / ".gitconfig").write_text(f'[filter "evil"]\n\tclean = {evil}\n\tsmudge = {evil}\n\trequired = true\n')
    for hook in ("post-index-change", "reference-transaction", "post-checkout", "pre-commit", "fsmonitor-watchman"):
        (ws / ".git" / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (ws / ".git" / "hooks" / hook).chmod(0o755)
    nested = ws / "nested"
    nested.mkdir()
    git(nested, "init", "-q")
    git(nested, "config", "core.fsmonitor", f"touch {canary}")
    (ws / ".gitattributes").write_text("* filter=evil diff=evil text eol=crlf ident working-tree-encoding=UTF-16\n")
    (ws / "a.txt").write_bytes(b"one\r\ntwo\n$Id$\n")
    before = tree(ws)
    await turn(yard, "printf x > a.txt; printf 'y\\r\\nz\\n' > b.txt; rm .gitattributes")
    shown = await job(yard, "diff")
    await job(yard, "undo")
    assert tree(ws) == before
    assert not canary.exists()
    assert "nested/" in shown["untracked_note"]


async def test_what_is_ignored_is_left_out_and_stays(yard: Yard) -> None:
    ws = yard.workspace
    (ws / ".gitignore").write_text("node_modules/\n*.secret\n")
    (ws / "key.secret").write_text("precious")
    await turn(yard, "mkdir node_modules; echo x > node_modules/x; echo > .gitignore; echo y > y.txt")
    made = await job(yard, "undo")
    assert (ws / "key.secret").read_text() == "precious"
    assert {left["path"] for left in made["left"]} == {"key.secret", "node_modules/x"}
    assert "git ignored it before" in made["left"][0]["why"]
    assert made["removed"] == ["y.txt"] and made["restored"] == [".gitignore"]


async def test_large_and_unreadable_files_and_nested_repositories_are_left_out(yard: Yard) -> None:
    ws = yard.workspace
    with (ws / "big.bin").open("wb") as big:
        big.truncate(MAX_FILE_BYTES + 1)
    os.mkfifo(ws / "fifo")
    (ws / "turns-fifo").write_text("a file")
    (ws / "sub").mkdir()
    git(ws / "sub", "init", "-q")
    (ws / "sub" / "inner.txt").write_text("x")
    await turn(yard, "echo y > a.txt; echo z > sub/inner.txt; rm turns-fifo; mkfifo turns-fifo")
    shown = await job(yard, "diff")
    assert "big.bin" in shown["untracked_note"] and "sub/" in shown["untracked_note"]
    made = await job(yard, "undo")
    assert made["removed"] == ["a.txt"]
    assert [left["path"] for left in made["left"]] == ["turns-fifo"]
    assert (ws / "sub" / "inner.txt").read_text() == "z\n"


async def test_a_pipe_where_git_reads_holds_up_no_turn_for_long(yard: Yard) -> None:
    git(yard.workspace, "init", "-q")
    os.mkfifo(yard.workspace / ".gitignore")
    (yard.workspace / ".git" / "HEAD").unlink()
    os.mkfifo(yard.workspace / ".git" / "HEAD")
    assert (await yard.answer("@@write a.txt x")).ending == "answered"
    with pytest.raises(SledRefused, match="took longer than"):
        await job(yard, "undo")


@pytest.fixture
async def unhurried() -> AsyncIterator[Yard]:
    """A yard whose sled looks at its workspace for as long as that takes on a machine as busy as this."""
    async with make_yard() as made:
        made.sled(program=ODD, LOOKS_S=str(snapshots_module.LIMIT_S * patience()))
        await made.arrival()
        yield made


async def test_ten_thousand_files(unhurried: Yard) -> None:
    yard = unhurried
    for number in range(10_000):
        folder = yard.workspace / f"d{number // 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(str(number))
    await turn(yard, "true")  # whatever this one finds, the next is quick
    await turn(yard, "echo x > d5/500.txt; rm d6/600.txt; for f in d7/*; do echo changed > $f; done")
    shown = await job(yard, "diff")
    assert "102 files changed" in shown["summary"]
    made = await job(yard, "undo")
    assert len(made["restored"]) == 102
    assert (yard.workspace / "d7" / "777.txt").read_text() == "777"


async def test_what_others_changed_is_told_once_at_the_session_s_next_turn(yard: Yard) -> None:
    ws = yard.workspace
    (ws / "a.txt").write_text("1")
    assert (await yard.answer("@@context", news="restarted")).text == "restarted"
    assert (await yard.answer("@@context")).text == ""
    (ws / "a.txt").write_text("2")
    (ws / "odd\nname").write_text("x")
    await yard.answer("@@write other.txt x", session="other")
    told = (await yard.answer("@@context", news="restarted")).text
    assert told == "restarted\nSince your last turn these files were changed by others: a.txt, odd\\nname, other.txt"
    assert (await yard.answer("@@context")).text == ""
    for number in range(30):
        (ws / f"{number:02}.txt").write_text("x")
    told = (await yard.answer("@@context")).text
    assert told.endswith("18.txt, 19.txt, and 10 more") and told.count(".txt") == 20


async def test_snapshots_outlive_the_sled_and_its_repository_s_ruin(yard: Yard) -> None:
    first = await turn(yard, "echo 1 > a.txt")
    yard.child.kill()
    yard.child.wait()
    yard.sled()
    await until(lambda: len(yard.gateway.hellos) == 2)
    await yard.arrival()
    assert "+1" in (await job(yard, "diff"))["patch"]
    shadow = yard.home / ".huskies" / "snapshots.git"
    (shadow / "index").write_bytes(b"ruined")
    (shadow / "index.lock").touch()
    await turn(yard, "echo 2 > a.txt")
    with pytest.raises(SledRefused, match="no snapshot"):
        await job(yard, "undo")
    await turn(yard, "echo 3 > a.txt")
    await job(yard, "undo")
    assert (yard.workspace / "a.txt").read_text() == "2\n"
    assert "+1" in (await job(yard, "diff", first))["patch"], "older trees are still there"
    shutil.rmtree(shadow / "objects")
    (shadow / "objects").write_text("no folder")
    for number in range(5):
        await turn(yard, f"echo {number} > a.txt")
    assert "+4" in (await job(yard, "diff"))["patch"]
    with pytest.raises(SledRefused, match="its snapshot was lost"):
        await job(yard, "diff", first)


async def test_old_turns_are_forgotten_and_tidied_away_but_not_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "MAX_TURNS", 3)
    monkeypatch.setattr(snapshots_module, "_TIDY_EVERY", 1)
    ws, state = tmp_path / "ws", tmp_path / "state"
    ws.mkdir()
    state.mkdir()

    def opened() -> Snapshots:
        return Snapshots(state, ws, dict(os.environ), asyncio.create_subprocess_exec)

    made = opened()
    for number in range(5):
        run = Run(run=f"r{number}", session="s", prompt="", agent="scripted")
        await made.begin(run)
        (ws / "a.txt").write_text(f"{number}\n")
        await made.after(run.run)
        assert made._tidying is not None
        await made._tidying
    await made.shadow.git("gc", "--quiet", "--prune=now")
    again = opened()
    assert [record.run for record in again.records] == ["r2", "r3", "r4"]
    refs = (await made.shadow.git("for-each-ref", "--format=%(refname)")).decode().split()
    assert refs == [f"refs/turns/r{n}/{end}" for n in (2, 3, 4) for end in ("after", "before")]
    for name in ("r4", "r3", "r2"):
        assert f"+{name[1]}" in json.loads(await diff(again, name))["patch"]
        assert json.loads(await undo(again, ""))["run"] == name
    assert (ws / "a.txt").read_text() == "1\n"
    await again.close()


async def test_where_git_is_missing_or_slow_there_is_no_snapshot_and_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = tmp_path / "ws"
    ws.mkdir()
    gate = asyncio.Event()

    async def slow(*command: str, **how: Any) -> asyncio.subprocess.Process:
        await gate.wait()
        return await asyncio.create_subprocess_exec(*command, **how)

    monkeypatch.setattr(snapshots_module, "LIMIT_S", 0.05)
    made = Snapshots(tmp_path, ws, dict(os.environ), slow)
    run = Run(run="r", session="s", prompt="", agent="scripted")
    assert await made.begin(run) == ""
    (ws / "a.txt").write_text("x")
    await made.after("r")
    with pytest.raises(NoSnapshot, match="took longer than"):
        made.find("")
    gate.set()
    monkeypatch.setattr(snapshots_module, "LIMIT_S", 30)
    await made.begin(replace(run, run="next"))
    assert made.records[-1].before, "what took too long was not in vain"
    monkeypatch.setenv("PATH", str(tmp_path))
    await made.begin(replace(run, run="last"))
    assert made.records[-1].why == NO_GIT
    with pytest.raises(NoSnapshot, match="git is not installed"):
        made.find("")
    await made.close()
