"""Runs and runners, in a real sled with real runners: what a supervisor promises, seen from the wire."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from sled import agents
from sled.channel import Channel
from sled.protocol import (
    WARM,
    Cool,
    Decision,
    Finished,
    Forget,
    Run,
    Started,
    Steer,
    Steered,
    Stop,
    TextDelta,
    Warm,
    Withdrawn,
)
from sled.runner import Runner
from sled.supervisor import MAX_WARM
from tests.support import odd_sled
from tests.support.processes import alive, until
from tests.support.yard import ODD, PROJECT, Yard, make_yard


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    async with make_yard() as made:
        yield made


@pytest.fixture
async def sled(yard: Yard) -> psutil.Process:
    process = yard.sled()
    await yard.arrival()
    return process


@pytest.fixture
async def odd(yard: Yard) -> psutil.Process:
    process = yard.sled(program=ODD)
    await yard.arrival()
    return process


async def test_a_run_starts_streams_and_ends(yard: Yard, sled: psutil.Process) -> None:
    run = await yard.run("hello\n@@stream 3\n@@say bye")
    end = await yard.gateway.finished(run)
    assert end.ending == "answered"
    assert end.text.splitlines() == ["You said:", "hello", "chunk 1", "chunk 2", "chunk 3", "bye"]
    events = yard.gateway.of(run)
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == end.text + "\n"
    assert [e.seq for e in yard.gateway.events] == list(range(1, len(events) + 1))
    assert end.agent_session == events[0].agent_session


async def test_the_same_run_twice_runs_once(yard: Yard, sled: psutil.Process) -> None:
    frame = Run(run="x", session="s", prompt="@@run echo once >> count\n@@sleep 0.2", agent="scripted", warm_s=60)
    for _ in range(3):
        await yard.send(frame)
    await yard.gateway.finished("x")
    await yard.send(frame)
    await yard.answer("@@say more")
    assert (yard.workspace / "count").read_text() == "once\n"


async def test_a_second_run_of_a_busy_session_is_refused(yard: Yard, sled: psutil.Process) -> None:
    first = await yard.run("@@sleep 60")
    await until(lambda: yard.gateway.of(first))
    assert (await yard.answer("@@say x")).ending == "failed"
    assert (await yard.stop(first)).ending == "interrupted"


async def test_an_unknown_agent_is_a_failure(yard: Yard, sled: psutil.Process) -> None:
    end = await yard.answer("x", agent="nobody")
    assert (end.ending, end.reason) == ("failed", "no_agent")
    assert (await yard.answer("@@say x")).text == "x"  # another agent, another runner


async def test_turns_share_a_warm_runner_until_it_is_cold(yard: Yard, sled: psutil.Process) -> None:
    await yard.answer("@@run echo $PPID > first")
    await yard.answer("@@run echo $PPID > second", warm_s=0.3)
    await until(lambda: not yard.runners(sled), 5)
    await yard.answer("@@run echo $PPID > third")
    assert yard.pid("first") == yard.pid("second") != yard.pid("third")


async def test_a_session_that_comes_back_while_its_runner_expires_is_answered(yard: Yard, sled: psutil.Process) -> None:
    for _ in range(15):
        assert (await yard.answer("@@say x", warm_s=0.0)).text == "x"


async def test_forget_ends_a_warm_runner_but_no_run(yard: Yard, sled: psutil.Process) -> None:
    await yard.answer("@@say x")
    await yard.send(Forget(session="s"))
    await until(lambda: not yard.runners(sled))
    run = await yard.run("@@sleep 0.3\n@@say done")
    await yard.send(Forget(session="s"))
    assert (await yard.gateway.finished(run)).text == "done"


async def test_warm_runners_are_bounded_and_the_oldest_goes(yard: Yard, sled: psutil.Process) -> None:
    for number in range(MAX_WARM + 2):
        await yard.answer(f"@@run echo $PPID > s{number}", session=f"s{number}")
    await until(lambda: len(yard.runners(sled)) == MAX_WARM)
    left = {p.pid for p in yard.runners(sled)}
    assert left == {yard.pid(f"s{number}") for number in range(2, MAX_WARM + 2)}


async def test_steering_reaches_a_run(yard: Yard, sled: psutil.Process) -> None:
    run = await yard.run("@@say go\n@@sleep 0.5")
    await yard.gateway.said(run, "go")
    await yard.send(Steer(run=run, message=7, text="@@say more"))
    end = await yard.gateway.finished(run)
    assert end.text == "go\nmore"
    assert Steered(message=7) in yard.gateway.of(run)


# --- questions -------------------------------------------------------------------------------------------------------


async def test_a_decision_reaches_the_run_that_asks(yard: Yard, sled: psutil.Process) -> None:
    runs = {name: await yard.run(f"@@ask {name}? | A | B", session=name) for name in ("x", "y")}
    asked = {name: await yard.asked(run) for name, run in runs.items()}
    wrong = Decision(run=runs["x"], question=asked["y"].id, allow=True, answers=[["B"]])
    late = Decision(run="gone", question=asked["x"].id, allow=True, answers=[["B"]])
    right = [Decision(run=runs[n], question=asked[n].id, allow=True, answers=[["A"]]) for n in runs]
    for decision in (wrong, late, *right, *right):
        await yard.send(decision)
    for name, run in runs.items():
        assert (await yard.gateway.finished(run)).text == f"{name}? -> A"
    await yard.send(right[0])
    assert (await yard.answer("@@say more", session="x")).text == "more"


async def test_a_question_is_told_again_to_a_gateway_that_was_away(yard: Yard, sled: psutil.Process) -> None:
    run = await yard.run("@@permission Bash ls\n@@sleep 0.1\n@@stream 400", permissions="ask")
    asked = await yard.asked(run)
    await yard.gateway.close()
    yard.gateway.seen.clear()
    yard.gateway.events.clear()
    await yard.gateway.open()
    await yard.arrival()
    assert await yard.asked(run) == asked
    await yard.send(Decision(run=run, question=asked.id, allow=True))
    assert (await yard.gateway.finished(run)).text.startswith("Bash ls: allowed\n")


async def test_stop_withdraws_what_was_asked(yard: Yard, sled: psutil.Process) -> None:
    run = await yard.run("@@ask Why?")
    asked = await yard.asked(run)
    await yard.stop(run)
    assert Withdrawn(question=asked.id) in yard.gateway.of(run)
    assert (await yard.answer("@@say x")).text == "x"


# --- stop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order",
    [
        "@@sleep 60",
        "@@run echo $$ > pid; sleep 300",
        "@@run setsid sh -c 'echo $$ > pid; exec sleep 300' & sleep 300",
        "@@run (setsid env -i sh -c 'echo $$ > pid; exec sleep 300' & ) ; sleep 300",
        "@@run setsid sh -c 'trap \"\" TERM INT HUP; echo $$ > pid; while :; do sleep 1; done' & sleep 300",
    ],
)
async def test_stop_ends_a_run_and_all_it_started_and_nothing_else(
    yard: Yard, sled: psutil.Process, order: str
) -> None:
    bystander = yard.animals.start("sleep", "300", cwd=yard.workspace)
    run = await yard.run(f"@@say go\n@@run echo $PPID > runner\n{order}")
    await yard.gateway.said(run, "go")
    started = await yard.process("pid") if "pid" in order else None
    await until(lambda: yard.pid("runner"))
    runner = psutil.Process(yard.pid("runner"))

    end = await yard.stop(run)

    assert (end.ending, end.reason, end.survivors, end.text) == ("interrupted", "stopped", [], "go")
    assert started is None or not alive(started.pid)
    assert not [p for p in runner.children(recursive=True) if alive(p.pid)]
    assert bystander.poll() is None
    await yard.answer("@@run echo $PPID > again")
    assert yard.pid("again") == runner.pid


async def test_what_an_answered_turn_left_survives_the_next_stop_but_not_its_own(
    yard: Yard, sled: psutil.Process
) -> None:
    await yard.answer("@@run setsid sh -c 'echo $$ > server; exec sleep 300' > /dev/null 2>&1 &")
    server = await yard.process("server")
    for prompt in ("@@say go\n@@run sleep 300", "@@say go\n@@sleep 300"):
        run = await yard.run(prompt)
        await yard.gateway.said(run, "go")
        await yard.stop(run)
        assert alive(server.pid)
    run = await yard.run(
        "@@run setsid sh -c 'echo $$ > other; exec sleep 300' > /dev/null 2>&1 &\n@@say go\n@@sleep 60"
    )
    other = await yard.process("other")
    await yard.gateway.said(run, "go")
    await yard.stop(run)
    assert not alive(other.pid)
    assert alive(server.pid)


async def test_stop_right_behind_a_run_is_heard(yard: Yard, sled: psutil.Process) -> None:
    """The runner has not even imported its agent."""
    for number in range(8):
        run = await yard.run("@@sleep 60", session=f"s{number % 2}")
        end = await yard.stop(run)
        assert (end.ending, end.reason) == ("interrupted", "stopped")


async def test_an_agent_that_sets_its_flags_anew_hears_a_stop_behind_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both frames are in the channel before the runner looks."""
    monkeypatch.setattr(odd_sled, "KIND", "flags")
    monkeypatch.setattr(agents, "create", lambda name, workspace: odd_sled.create(workspace))
    ours, theirs = [await Channel.open(end) for end in socket.socketpair()]
    for run in ("cold", "warm"):
        ours.post(Run(run=run, session="s", prompt="x", agent="flags"))
        ours.post(Stop(run=run))
    serving = asyncio.create_task(Runner(theirs, tmp_path).serve())
    ends: list[str] = []
    while len(ends) < 2:
        if isinstance(frame := await ours.from_runner(), Finished):
            ends.append(frame.text)
    assert ends == ["heard", "heard"]
    ours.close()
    await serving
    theirs.close()


async def test_two_stops_make_one_end(yard: Yard, sled: psutil.Process) -> None:
    run = await yard.run("@@say go\n@@run sleep 300")
    await yard.gateway.said(run, "go")
    for _ in range(5):
        await yard.send(Stop(run=run))
    await yard.gateway.finished(run)
    await yard.answer("@@say x")
    yard.gateway.end_of(run)


@pytest.mark.parametrize("kind", ["deaf", "stuck", "slow"])
async def test_an_agent_that_ignores_its_interrupt_is_killed(yard: Yard, odd: psutil.Process, kind: str) -> None:
    prompt = "@@say go\n@@run setsid sh -c 'echo $$ > pid; exec sleep 300' & sleep 300"
    run = await yard.run(prompt, agent=kind)
    process = await yard.process("pid") if kind == "deaf" else None
    await until(lambda: yard.gateway.of(run) or (yard.workspace / "begun").exists())
    end = await yard.stop(run)
    assert (end.ending, end.reason, end.survivors) == ("interrupted", "stopped", [])
    assert process is None or not alive(process.pid)
    assert not yard.runners(odd)
    assert (await yard.answer("@@say x")).text == "x"


async def test_an_agent_that_obeys_at_the_last_moment_ends_once(yard: Yard, odd: psutil.Process) -> None:
    for number in range(3):
        run = await yard.run("x", agent="late", session=f"s{number}")
        await until(partial(yard.gateway.of, run))
        assert (await yard.stop(run)).ending == "interrupted"
    await yard.answer("@@say x")
    assert not yard.gateway.replayed


async def test_a_frozen_runner_is_killed_even_with_a_full_channel(yard: Yard, sled: psutil.Process) -> None:
    run = await yard.run("@@say go\n@@run sleep 300")
    await yard.gateway.said(run, "go")
    (runner,) = yard.runners(sled)
    runner.suspend()
    for number in range(4):
        await yard.send(Steer(run=run, message=number, text="x" * 2**20))
    end = await yard.stop(run)
    assert (end.ending, end.reason, end.survivors) == ("interrupted", "stopped", [])
    assert not alive(runner.pid)


# --- death -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cleared", ["", "env -i "])
async def test_a_killed_runner_is_a_crash_and_leaves_no_orphan(yard: Yard, sled: psutil.Process, cleared: str) -> None:
    bystander = await yard.run("@@say go\n@@run echo $$ > tool; sleep 300", session="other")
    tool = await yard.process("tool")
    run = await yard.run(f"@@run setsid {cleared}sh -c 'echo $$ > pid; exec sleep 300' & sleep 300")
    orphan = await yard.process("pid")
    (runner,) = [p for p in yard.runners(sled) if orphan in p.children(recursive=True)]
    runner.kill()
    end = await yard.gateway.finished(run)
    assert (end.ending, end.reason, end.survivors) == ("interrupted", "crashed", [])
    assert not alive(orphan.pid)
    assert alive(tool.pid)
    assert yard.gateway.end_of(bystander) is None
    assert (await yard.answer("@@say x")).text == "x"


async def test_an_agent_that_dies_is_a_crash(yard: Yard, sled: psutil.Process) -> None:
    end = await yard.answer("@@say x\n@@die")
    assert (end.ending, end.reason) == ("interrupted", "crashed")
    assert (await yard.answer("@@say x")).text == "x"


async def test_the_end_of_one_runner_leaves_the_tools_of_another_alone(yard: Yard, sled: psutil.Process) -> None:
    """Tools start all the time while other runners are killed."""
    busy = await yard.run("@@run for i in $(seq 300); do sleep 0.01 || echo killed; done; echo all", session="busy")
    await until(lambda: yard.gateway.of(busy))
    while (end := yard.gateway.end_of(busy)) is None:
        await yard.answer("@@die")
    assert end.text == "all"


@pytest.mark.parametrize("line", ["{garbage", '{"type":"finished","ending":"won"}', "[" * 100_000, "\x00", '"\ud83d"'])
async def test_a_runner_that_sends_no_frames_is_ended(yard: Yard, odd: psutil.Process, line: str) -> None:
    if line == '"\ud83d"':
        line = '{"type":"text","delta":"\\ud83d"}'  # half a pair, escaped
    end = await yard.answer(line, agent="garbled")
    assert (end.ending, end.reason) == ("interrupted", "crashed")
    await until(lambda: not yard.runners(odd))
    assert (await yard.answer("@@say x")).text == "x"


async def test_texts_that_are_too_long_are_cut_and_say_so(yard: Yard, odd: psutil.Process) -> None:
    end = await yard.answer("x", agent="huge")
    assert end.ending == "answered"
    assert end.text.endswith("is cut off]")
    end = await yard.answer("x", agent="raising", session="t")
    assert end.ending == "failed" and len(end.error) == 2000
    assert not yard.gateway.replayed and len(yard.gateway.hellos) == 1


async def test_runs_of_many_sessions_at_once(yard: Yard, sled: psutil.Process) -> None:
    runs = [await yard.run(f"@@stream 50\n@@run echo {n}", session=f"s{n}") for n in range(6)]
    ends = await asyncio.gather(*(yard.gateway.finished(run, 40) for run in runs))
    assert [end.text.splitlines()[-1] for end in ends] == [str(n) for n in range(6)]


# --- started ahead ---------------------------------------------------------------------------------------------------


async def test_what_is_started_ahead_takes_the_run(yard: Yard, odd: psutil.Process) -> None:
    await yard.send(Warm(session="s", agent="ahead"))
    itself, hook = await yard.process("itself"), await yard.process("hook")
    [runner] = yard.runners(odd)
    assert (await yard.answer("@@say one", agent="ahead")).text == "one"
    assert yard.runners(odd) == [runner]
    assert (alive(itself.pid), alive(hook.pid)) == (True, True), "a turn that ends by itself leaves what runs"


async def test_stop_ends_what_was_started_ahead_of_a_turn_but_for_the_agent(yard: Yard, odd: psutil.Process) -> None:
    """A hook that ran when the agent came up is the turn's, though that had not begun then."""
    await yard.send(Warm(session="s", agent="ahead"))
    itself, hook = await yard.process("itself"), await yard.process("hook")
    run = await yard.run("@@sleep 60", agent="ahead")
    await until(lambda: yard.gateway.of(run))
    assert (await yard.stop(run)).ending == "interrupted"
    assert not alive(hook.pid)
    assert alive(itself.pid)
    assert (await yard.answer("@@say again", agent="ahead")).text == "again"


async def test_what_nothing_comes_of_is_ended(yard: Yard, odd: psutil.Process) -> None:
    await yard.send(Warm(session="s", agent="ahead"))
    itself, hook = await yard.process("itself"), await yard.process("hook")
    await yard.send(Cool(session="s"))
    await until(lambda: not alive(itself.pid) and not alive(hook.pid) and not yard.runners(odd))
    await yard.send(Warm(session="s", agent="ahead", for_s=0.5))
    await until(lambda: yard.runners(odd))
    await until(lambda: not yard.runners(odd))


async def test_a_run_under_way_is_not_touched_by_what_comes_ahead_of_another(yard: Yard, sled: psutil.Process) -> None:
    run = await yard.run("@@sleep 0.3\n@@say done")
    await yard.send(Warm(session="s", agent="scripted"))
    await yard.send(Cool(session="s"))
    assert (await yard.gateway.finished(run)).text == "done"


async def test_a_warm_runner_stays_when_nothing_comes_of_another_run(yard: Yard, sled: psutil.Process) -> None:
    """For as long as it was to stay: `Cool` ends only what `Warm` began."""
    await yard.answer("@@say one")
    await yard.send(Cool(session="s"))
    assert (await yard.answer("@@say two")).text == "two"
    [runner] = yard.runners(sled)
    await yard.send(Warm(session="s", agent="scripted", for_s=0.1))
    await asyncio.sleep(0.3)
    assert yard.runners(sled) == [runner]


async def test_a_sled_that_does_not_know_it_is_not_told(yard: Yard, sled: psutil.Process) -> None:
    """A frame that it does not know would close the wire: containers of an older image have such sleds."""
    connected = yard.gateway.sleds._connected[PROJECT]
    assert WARM in connected.features
    connected.features = ()
    assert not await yard.send(Warm(session="s", agent="scripted"))
    assert (await yard.answer("@@say one")).text == "one"


async def test_a_runner_stands_by_for_the_next_cold_session(yard: Yard, odd: psutil.Process) -> None:
    await yard.answer("@@run echo $PPID > first", agent="large", session="a")
    first = psutil.Process(yard.pid("first"))
    [by] = await until(lambda: [runner for runner in yard.runners(odd) if runner != first])
    assert (await yard.answer("@@run echo $PPID > parent\n@@say two", agent="large", session="b")).text == "two"
    assert yard.pid("parent") == by.pid
    assert len(await until(lambda: set(yard.runners(odd)) - {first, by})) == 1, "and another, for the one after it"


async def test_a_runner_stands_by_before_anybody_wrote_and_goes_with_its_sled(yard: Yard) -> None:
    yard.gateway.agent = "large"
    sled = yard.sled(program=ODD)
    [by] = await until(lambda: yard.runners(sled))
    await yard.gateway.close()
    await yard.gateway.open()
    await yard.arrival()
    assert (await yard.answer("@@run echo $PPID > parent\n@@say one", agent="large")).text == "one"
    assert yard.pid("parent") == by.pid
    [other] = await until(lambda: [runner for runner in yard.runners(sled) if runner != by])
    other.kill()
    await until(lambda: not alive(other.pid))
    assert (await yard.answer("@@say two", agent="large", session="other")).text == "two", "one that died is replaced"
    sled.terminate()
    await until(lambda: not alive(sled.pid))
    assert not alive(by.pid)


async def test_what_stands_by_has_the_agent_that_is_asked_for(yard: Yard) -> None:
    yard.gateway.agent = "large"
    sled = yard.sled(program=ODD)
    [by] = await until(lambda: yard.runners(sled))
    assert (await yard.answer("@@say one", agent="scripted")).text == "one"
    await until(lambda: not alive(by.pid))
