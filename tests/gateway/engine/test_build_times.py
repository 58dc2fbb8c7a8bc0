"""Estimates of builds: from what earlier ones took, and never in the way of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.engine.build_times import BuildTimes


def test_what_was_never_built_has_no_estimate() -> None:
    times = BuildTimes(None)
    times.note("base", 20)
    assert times.estimate(["base"]) == 20
    assert times.estimate(["base", "python"]) is None
    times.note("python", 1.23)
    times.note("base", 30)
    assert times.estimate(["base", "python"]) == 31.2, "the last time counts"


def test_they_outlive_the_gateway(tmp_path: Path) -> None:
    file = tmp_path / "build-times.json"
    times = BuildTimes(file)
    times.note("base", 20)
    times.save()
    assert BuildTimes(file).estimate(["base"]) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["build-times.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"base": "long"}', '{"base": {}}', "\0"])
def test_a_file_that_is_none_costs_the_estimate_only(tmp_path: Path, text: str) -> None:
    file = tmp_path / "build-times.json"
    file.write_text(text)
    times = BuildTimes(file)
    assert times.estimate(["base"]) is None
    times.note("base", 1)
    times.save()
    assert BuildTimes(file).estimate(["base"]) == 1


def test_a_disk_that_refuses_costs_nothing_more(tmp_path: Path) -> None:
    times = BuildTimes(tmp_path / "nothing" / "build-times.json")
    times.note("base", 1)
    times.save()
    assert times.estimate(["base"]) == 1
