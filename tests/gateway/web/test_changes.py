"""What changed, by numbers."""

from __future__ import annotations

import asyncio

import pytest

from gateway.web import changes as module
from gateway.web.changes import Changes, Position, project_of


def test_each_topic_is_told_once() -> None:
    changes = Changes()
    before = changes.now
    for project_id in (1, 2, 1, 3, 2, 2):
        changes.project(project_id)
    assert {project_of(topic) for topic in changes.since(before) or []} == {1, 2, 3}
    assert len(changes.since(before) or []) == 3
    assert changes.since(changes.now) == []
    middle = Position(before.life, before.number + 4)
    assert changes.since(middle) == ["project/2"]


def test_a_position_that_is_good_for_nothing_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    changes, other = Changes(), Changes()
    before = changes.now
    assert changes.since(other.now) is None, "another life"
    assert changes.since(Position(before.life, 1)) is None, "one that is still to come"
    for number in range(module._MOST):
        changes.project(number)
    assert len(changes.since(before) or []) == module._MOST
    changes.project(0)
    assert len(changes.since(before) or []) == module._MOST, "however often the same things change"
    changes.project(module._MOST)
    assert changes.since(before) is None, "too old"
    assert changes.since(Position(before.life, 2)) is not None


@pytest.mark.parametrize("text", ["", ".", "abc", "abc.", "abc.-1", "abc.1e9", ".5", "abc." + "9" * 400, "abc.²"])
def test_what_is_no_position_is_one_of_no_life(text: str) -> None:
    assert Changes().since(Position.of(text)) is None


def test_a_position_is_read_as_it_was_written() -> None:
    changes = Changes()
    changes.project(1)
    assert Position.of(str(changes.now)) == changes.now


async def test_whoever_waits_hears_of_the_next_change_and_all_do() -> None:
    changes = Changes()
    waiting = [asyncio.create_task(changes.wait(changes.now)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    waiting[0].cancel()
    changes.project(1)
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)
    assert changes._news == set(), "nobody who went away is remembered"
    await changes.wait(Position(changes.now.life, 0))
