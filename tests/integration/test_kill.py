"""kill -9 of the gateway at every moment that matters: nothing lost, nothing twice (invariants 1 to 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.testing import patience
from tests.support import databases
from tests.support.gateway_process import GatewayProcess

FAST: dict[str, dict[str, Any]] = {"dispatcher": {"coalesce_window_ms": 50}, "agent": {"kind": "scripted"}}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, FAST) as made:
        yield made


async def replies(gateway: GatewayProcess, *, text: str, external_id: str) -> list[str]:
    told: list[str] = (await gateway.send_surely(text, external_id))["replies"]
    return told


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inbox.committed", "turn.claimed", "turn.finished", "outbox.sent"])
async def test_killed_at_a_point_each_message_is_answered_once(gateway: GatewayProcess, point: str) -> None:
    await gateway.start()
    assert "is ready" in "".join(await replies(gateway, text="new project demo", external_id="p"))
    await gateway.stop()
    await gateway.start(kill_at=point)
    count = gateway.projects / "demo" / "count"
    asking = asyncio.create_task(replies(gateway, text="@@run echo ran >> count", external_id="m1"))
    await gateway.died()
    await gateway.start()
    answer = await asyncio.wait_for(asking, 30 * patience())
    assert answer == ["(The agent finished without saying anything.)"]
    assert count.read_text() == "ran\n", "the run happened once"
    assert await replies(gateway, text="hello", external_id="m2") == ["You said:\nhello"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["project.reserved", "project.folder", "project.started", "project.prepared", "project.ready"]
)
async def test_killed_during_new_project_it_converges(gateway: GatewayProcess, point: str) -> None:
    """The command is taken up again by the next process: the person who asked gets their project, once."""
    await gateway.start(kill_at=point)
    asking = asyncio.create_task(gateway.send_surely("new project demo", "p"))
    await gateway.died()
    await gateway.start()
    answer = await asyncio.wait_for(asking, 60 * patience())
    assert "".join(answer["replies"]).count("is ready") == 1

    async def ready() -> bool:
        return [p["state"] for p in await gateway.get("/projects")] == ["ready"]

    await until(ready)
    assert len(gateway.sleds()) == 1
    assert await replies(gateway, text="hello", external_id="m") == ["You said:\nhello"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["stop", "restart", "down", "reset", "rebuild"])
async def test_killed_when_waiting_messages_were_discarded_each_is_named(gateway: GatewayProcess, command: str) -> None:
    await gateway.start()
    await gateway.send("new project demo", "p")
    await gateway.stop()
    await gateway.start(kill_at="waiting.discarded")
    running = asyncio.create_task(gateway.send_surely("@@run sleep 300", "m1"))
    await until(lambda: gateway_running(gateway))
    waiting = [asyncio.create_task(gateway.send_surely(f"queued {n}", f"w{n}")) for n in range(2)]
    await until_accepted(gateway, 3)
    asking = asyncio.create_task(gateway.send_surely(command, "s"))
    await gateway.died()
    await gateway.start()
    told = [await asyncio.wait_for(one, 30 * patience()) for one in waiting]
    assert [one["fate"] for one in told] == ["discarded", "discarded"]
    for number, one in enumerate(told):
        assert "".join(one["replies"]).count(f"not run: “queued {number}”") == 1, one
    said = "".join((await asyncio.wait_for(asking, 30 * patience()))["replies"])
    assert ("restarted during" in said) if command in ("stop", "reset") else ("Stopped the run" in said), said
    await gateway.send("stop", "s2")
    await running
    # It is told once, however often the gateway starts.
    await gateway.stop()
    await gateway.start()
    again = (await gateway.send_surely("queued 0", "w0"))["replies"]
    assert again == told[0]["replies"]


async def test_killed_mid_run_the_run_goes_on_and_answers_once(gateway: GatewayProcess) -> None:
    await gateway.start()
    await gateway.send("new project demo", "p")
    done = gateway.projects / "demo" / "done"
    running = asyncio.create_task(
        gateway.send_surely(f"@@run while [ ! -e go ]; do sleep 0.05; done; echo once >> {done}\n@@say finished", "m1")
    )
    await until(lambda: gateway_running(gateway))
    queued = asyncio.create_task(gateway.send_surely("queued behind it", "m2"))
    await asyncio.sleep(0.3)  # time for it to be accepted; the queue is what is to be killed
    gateway.kill()
    (gateway.projects / "demo" / "go").touch()
    await until(done.exists)
    await gateway.start()
    first, second = await asyncio.wait_for(asyncio.gather(running, queued), 30 * patience())
    assert first["replies"] == ["finished"]
    assert second["replies"] == ["You said:\nqueued behind it"]
    assert done.read_text() == "once\n"


async def test_killed_in_the_window_all_of_it_goes_as_one_batch(tmp_path: Path) -> None:
    slow = {**FAST, "dispatcher": {"coalesce_window_ms": 1500}}
    with GatewayProcess(tmp_path, slow) as gateway:
        await gateway.start()
        await gateway.send("new project demo", "p")
        asking = [asyncio.create_task(gateway.send_surely(f"part {n}", f"m{n}")) for n in range(3)]
        await until_accepted(gateway, 4)
        gateway.kill()
        await gateway.start()
        answers = await asyncio.wait_for(asyncio.gather(*asking), 30 * patience())
        together = {tuple(answer["replies"]) for answer in answers}
        assert len(together) == 1
        assert sorted(together.pop()[0].split("\n")[1:]) == ["part 0", "part 1", "part 2"]


async def test_killed_sled_interrupts_and_offers_a_retry(gateway: GatewayProcess) -> None:
    await gateway.start()
    await gateway.send("new project demo", "p")
    asking = asyncio.create_task(gateway.send("@@run setsid sleep 300 & echo ran >> count; sleep 300", "m1"))
    count = gateway.projects / "demo" / "count"
    await until(count.exists)
    (sled,) = gateway.sleds()
    family = sled.children(recursive=True)
    sled.kill()
    answer = await asyncio.wait_for(asking, 30 * patience())
    assert answer["fate"] == "interrupted"
    assert "`retry`" in answer["replies"][0]
    await until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family))
    assert count.read_text() == "ran\n", "never silently repeated"
    retry = asyncio.create_task(gateway.send("retry", "r"))
    await until(lambda: count.read_text() == "ran\nran\n")
    stopped = await gateway.send("stop", "s")
    assert "Stopped the run" in stopped["replies"][0]
    await retry


async def test_sigterm_drains_and_exits_cleanly_while_a_run_goes_on(gateway: GatewayProcess) -> None:
    await gateway.start()
    await gateway.send("new project demo", "p")
    asking = asyncio.create_task(gateway.send_surely("@@run while [ ! -e go ]; do sleep 0.05; done\n@@say late", "m1"))
    await until(lambda: gateway_running(gateway))
    assert await gateway.stop() == 0
    (gateway.projects / "demo" / "go").touch()
    await gateway.start()
    assert (await asyncio.wait_for(asking, 30 * patience()))["replies"] == ["late"]


async def test_two_gateways_on_one_state_directory(gateway: GatewayProcess, tmp_path: Path) -> None:
    await gateway.start()
    first = gateway.process
    gateway.spawn()
    second = gateway.process
    assert first is not None and second is not None
    assert await asyncio.to_thread(second.wait, 20) == 1
    assert f"another gateway (process {first.pid})" in gateway.log.read_text()
    assert "Traceback" not in gateway.log.read_text()
    gateway.process = first


async def gateway_running(gateway: GatewayProcess) -> bool:
    return any(project["running"] for project in await gateway.get("/projects"))


async def until_accepted(gateway: GatewayProcess, count: int) -> None:
    def accepted() -> bool:
        return int(databases.rows(gateway.state, "SELECT count(*) FROM messages")[0][0]) >= count

    await until(accepted)


async def until(holds: Callable[[], bool | Awaitable[bool]], within_s: float = 20) -> None:
    """Poll what has no event of its own."""
    async with asyncio.timeout(within_s * patience()):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)
