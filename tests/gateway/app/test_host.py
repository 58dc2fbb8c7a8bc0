"""What doctor says of this host's own limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app.host import watchers


@pytest.mark.parametrize(
    ("instances", "watches", "told"),
    [
        ("128\n", "8192\n", "sysctl -w fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=131072"),
        ("128\n", "524288\n", "fs.inotify.max_user_instances is 128: tools that watch"),
        ("1024\n", "524288\n", ""),
        ("odd", "524288\n", ""),
    ],
)
def test_few_watchers_are_told_with_what_to_type(tmp_path: Path, instances: str, watches: str, told: str) -> None:
    (tmp_path / "max_user_instances").write_text(instances)
    (tmp_path / "max_user_watches").write_text(watches)
    found = watchers(tmp_path)
    assert [told in one.text and not one.broken for one in found] == ([True] if told else [])


def test_where_the_kernel_says_nothing_neither_do_we(tmp_path: Path) -> None:
    assert watchers(tmp_path / "none") == []
