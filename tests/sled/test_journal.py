from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sled import journal as journal_module
from sled.channel import fit
from sled.journal import Journal
from sled.protocol import (
    MAX_FRAME,
    MAX_TEXT,
    Body,
    Event,
    File,
    Finished,
    Note,
    Option,
    Query,
    Question,
    Started,
    Steered,
    TextDelta,
    Tool,
    Withdrawn,
    decode_from_sled,
    encode,
)

KEPT: list[Body] = [
    Started(agent_session="s"),
    Question(id="q", kind="query", queries=[Query(text="Which?", options=[Option(label="A")])]),
    Withdrawn(question="q"),
    File(id="f", name="a.png"),
    Steered(message=4),
    Finished(ending="answered", text="é\u2028ü\x85 \r\n🐕"),
]


def bodies(journal: Journal, run: str, seq: int = 0) -> list[Body]:
    return [event.body for event in journal.since(run, seq)]


def filled(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.begin("r1")
    for body in KEPT:
        journal.append("r1", body)
    return journal


def test_it_survives_a_reopening(tmp_path: Path) -> None:
    first = filled(tmp_path)
    first.begin("r2")
    again = Journal(tmp_path)
    assert again.id == first.id
    assert bodies(again, "r1") == KEPT
    assert again.unfinished() == ["r2"]
    assert {state.run: state.finished for state in again.states()} == {"r1": True, "r2": False}
    assert [e.seq for e in again.since("r1", 2)] == [3, 4, 5, 6]
    assert again.states()[0].last == first.states()[0].last or again.states()[1].last == first.states()[0].last


def test_a_lost_folder_is_a_new_journal(tmp_path: Path) -> None:
    first = filled(tmp_path / "j")
    shutil.rmtree(tmp_path / "j")
    again = Journal(tmp_path / "j")
    assert again.id != first.id
    assert "r1" not in again


def test_an_empty_id_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    assert Journal(tmp_path).id


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_line_cut_at_any_byte_loads_to_a_prefix_and_takes_more(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled(folder)
        path = folder / "r1.jsonl"
        whole = path.read_bytes()
        position = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:position])

        again = Journal(folder)
        loaded = bodies(again, "r1")
        assert loaded == KEPT[: len(loaded)]
        assert len(loaded) == whole[:position].count(b"\n")

        if again.unfinished():
            end = again.append("r1", Finished(ending="interrupted", reason="crashed"))
            third = Journal(folder)
            assert third.unfinished() == []
            assert bodies(third, "r1") == [*loaded, end.body]
            assert third.since("r1", end.seq - 1) == [end]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_rubbish_behind_a_line_is_ignored(rubbish: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder)
        journal.begin("r1")
        journal.append("r1", KEPT[0])
        with (folder / "r1.jsonl").open("ab") as file:
            file.write(b"2 {" + rubbish)
        assert bodies(Journal(folder), "r1") == KEPT[:1]


def test_what_a_crash_is_told_with_is_newer_than_all_that_was_seen(tmp_path: Path) -> None:
    """Live events have numbers that no file remembers; the end of the run must not hide behind them."""
    first = Journal(tmp_path)
    first.begin("r1")
    first.append("r1", Started(agent_session="s"))
    for _ in range(1000):
        seen = first.append("r1", TextDelta(delta="x")).seq
    again = Journal(tmp_path)
    end = again.append("r1", Finished(ending="interrupted", reason="crashed"))
    assert again.since("r1", seen) == [end]


def test_live_events_are_bounded_and_the_others_stay(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin("r1")
    journal.append("r1", Started(agent_session="s"))
    for number in range(100_000):
        journal.append("r1", TextDelta(delta=str(number)))
        if number == 50_000:
            journal.append("r1", Steered(message=7))
    journal.append("r1", Finished(ending="answered", text="all"))
    events = journal.since("r1", 0)
    assert [e.seq for e in events] == sorted(e.seq for e in events)
    kinds = [type(e.body) for e in events]
    assert (kinds[0], kinds[1], kinds[-1]) == (Started, Steered, Finished)
    assert len(events) == journal_module._LIVE_EVENTS + 3
    assert events[-2].body == TextDelta(delta="99999")
    assert events[-1].seq == 100_003
    assert (tmp_path / "r1.jsonl").stat().st_size < 1000


def test_forget_removes_the_file(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.forget("r1")
    journal.forget("r1")
    assert "r1" not in journal
    assert [p.name for p in tmp_path.iterdir()] == ["id"]


def test_a_full_disk_costs_the_line_but_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full answers every write with ENOSPC."""
    journal = Journal(tmp_path)
    journal.begin("r1")
    journal.append("r1", Started(agent_session="s"))
    (tmp_path / "r1.jsonl").unlink()
    (tmp_path / "r1.jsonl").symlink_to("/dev/full")
    end = journal.append("r1", Finished(ending="answered", text="x"))
    assert journal.since("r1", 1) == [end]


@pytest.mark.parametrize(
    "body",
    [
        Finished(ending="answered", text="\x01" * MAX_TEXT),
        Finished(ending="answered", text="a" * (2 * MAX_TEXT)),
        Finished(ending="answered", text="🐕" * MAX_TEXT, error="\x01" * 5000),
        Finished(ending="answered", text="a" * (MAX_TEXT // 2) + "\x01" * (MAX_TEXT // 2)),
        TextDelta(delta="\x01" * MAX_TEXT),
        Tool(id="t", name="\x01" * 5000, detail="\x02" * 5000),
        Note(text="\x01" * 5000),
        Finished(ending="answered", text="half \ud83d of a pair"),
    ],
    ids=lambda body: f"{type(body).__name__}-{len(getattr(body, 'text', ''))}",
)
def test_every_event_fits_into_a_frame(body: Body) -> None:
    event = Event(run="r" * 80, seq=2**50, body=fit(body))
    assert len(encode(event).encode()) < MAX_FRAME
    assert decode_from_sled(encode(event)) == event
    for name in ("text", "delta", "detail", "error"):
        before, after = getattr(body, name, ""), getattr(event.body, name, "")
        assert after == before or after.endswith("is cut off]") or "?" in after


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=200), st.integers(0, 40_000))
def test_any_text_fits(text: str, times: int) -> None:
    event = Event(run="r", seq=1, body=fit(Finished(ending="answered", text=text * times)))
    assert len(encode(event).encode()) < MAX_FRAME
    arrived = decode_from_sled(encode(event))
    assert isinstance(arrived, Event) and isinstance(arrived.body, Finished) and isinstance(event.body, Finished)
    assert arrived.body.text == event.body.text.replace("\0", "\ufffd"), "NUL is no text that a database takes"
