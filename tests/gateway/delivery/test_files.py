"""Files for people: their names, and what becomes a file because it is too long to be read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gateway.delivery.files import FROM_PAGE, KEEP_DAYS, Files, safe_name
from sled.protocol import cut
from tests.conftest import World


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\a.txt", "a.txt"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("  ..  ", "file"),
        ("", "file"),
        ("x" * 300 + ".tar", "x" * 116 + ".tar"),
        ("ünï.txt", "ünï.txt"),
    ],
)
def test_names_of_files_are_only_names(given: str, safe: str) -> None:
    assert safe_name(given) == safe


async def test_a_full_disk_does_not_keep_a_long_answer_from_people(world: World, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    files = Files(tmp_path / "files", world.store, world.outbox)
    text, file = await files.abridge("long " * 4000, world.transport.message("", "").conversation)
    assert (len(text), file) == (20_000, None)


async def test_what_was_cut_is_not_called_the_whole(world: World, tmp_path: Path) -> None:
    files = Files(tmp_path / "files", world.store, world.outbox)
    here = world.transport.message("", "").conversation
    whole, file = await files.abridge("long " * 4000, here)
    assert whole.endswith("_The whole answer (20,000 characters) is in the file._")
    assert file is not None
    beginning, file = await files.abridge(cut("long " * 400_000), here)
    assert beginning.endswith("characters of the answer; the rest was too long to send._")
    assert "whole" not in beginning
    assert file is not None


async def test_old_files_go(world: World, tmp_path: Path) -> None:
    files = Files(tmp_path / "files", world.store, world.outbox)
    kept = files.keep("new.txt", b"new")
    old = files.keep("old.txt", b"old")
    (files.folder / FROM_PAGE).mkdir()
    sent, older, cut_off = (files.folder / FROM_PAGE / name for name in ("0a", "0b", "0c.part"))
    for path, days in ((old.path, 1), (sent, 1), (cut_off, 1), (older, 30)):
        path.touch()
        before = time.time() - (KEEP_DAYS + days) * 86400
        os.utime(path, (before, before))
    files.sweep(30)
    assert sent.exists(), "the gateway is the platform of what came from the page"
    assert not older.exists()
    assert not cut_off.exists()
    assert kept.path.exists()
    assert not old.path.exists()
