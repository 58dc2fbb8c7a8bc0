"""What a container asks of the model's API to harm the others: their key, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.events import Event, Events, KeyRefused
from gateway.testing import patience
from gateway.turns import CallGate
from gateway.turns.call_gate import NO_TURN, USED_UP
from sled.protocol import Run
from tests.conftest import World, close_world, make_world
from tests.gateway.turns.test_admission import answer, reads
from tests.support.claude_api import ClaudeApi, script
from tests.support.proxy import KEY, KEY_REFUSED, TOKEN, Proxy, body, project_of, served


@pytest.fixture
async def api() -> AsyncIterator[ClaudeApi]:
    async with ClaudeApi(require_key=KEY) as api:
        yield api


HEADERS = {
    "X-Evil": "1",
    "Anthropic-Organization-Id": "another",
    "X-Api-Key-Id": "another",
    "Proxy-Authorization": "Basic eDp5",
    "X-Forwarded-For": "10.0.0.1",
    "Cookie": "session=another",
    "Accept-Encoding": "br",
}


async def test_only_what_a_client_of_the_api_sends_goes_on(api: ClaudeApi) -> None:
    plain = {
        "anthropic-version": "2023-06-01",
        "x-stainless-lang": "js",
        "x-app": "cli",
        "content-type": "application/json",
    }
    sent = {**TOKEN, **HEADERS, **plain}
    async with project_of(Proxy(api.base_url)) as project, project.post(body("hi"), headers=sent) as response:
        assert response.status == 200
    (request,) = api.requests
    assert plain.items() <= request.headers.items()
    assert not {name.lower() for name in HEADERS} - {"accept-encoding"} & request.headers.keys()
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_request_that_is_refused_is_no_alarm_about_everybodys_key(api: ClaudeApi, status: int) -> None:
    """The gateway's own question decides; the project gets the provider's answer, and others never hear of it."""
    told = list[Event]()
    proxy = Proxy(api.base_url, heard=told.append)
    async with project_of(proxy) as project:
        for _ in range(5):
            async with project.post(body(script({"http": status}))) as response:
                assert response.status == status
        assert proxy.key_problem == ""
        async with project.post(body("hi")) as response:
            assert response.status == 200
    assert told == []
    assert sum(request.path == "/v1/models?limit=1" for request in api.requests) == 1, "and it does not ask each time"


async def test_a_key_that_the_gateway_is_refused_too_is_one() -> None:
    told = list[Event]()

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"type": "error", "error": {"type": "authentication_error"}}, status=401)

    async with served([web.route("*", "/{path:.*}", refuse)]) as base:
        proxy = Proxy(base, heard=told.append)
        async with project_of(proxy) as project:
            assert await project.error(body("hi")) == (401, "authentication_error", KEY_REFUSED)
    assert told == [KeyRefused(KEY_REFUSED)]


async def test_a_provider_that_does_not_answer_the_gateway_refuses_nothing() -> None:
    told = list[Event]()

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.path == "/v1/models" else 401)

    async with served([web.route("*", "/{path:.*}", refuse)]) as base:
        proxy = Proxy(base, heard=told.append)
        async with project_of(proxy) as project, project.post(body("hi")) as response:
            assert response.status == 401
    assert told == []


# --- money -----------------------------------------------------------------------------------------------------------


class Gate:
    """A gate that is asked, and what it was asked."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.entered: list[float] = []
        self.left: list[tuple[float, float]] = []

    async def enter(self, project: str, usd: float) -> str:
        assert project == "demo"
        self.entered.append(usd)
        return self.why

    def leave(self, project: str, reserved: float, cost: float) -> None:
        assert project == "demo"
        self.left.append((reserved, cost))


async def test_a_call_that_may_not_go_out_never_reaches_the_provider(api: ClaudeApi) -> None:
    gate = Gate("no run is open")
    async with project_of(Proxy(api.base_url, gate=gate)) as project:
        assert await project.error(body("hi")) == (403, "permission_error", "no run is open")
        assert (await project.error(body("hi"), "v1/messages/count_tokens"))[0] == 403
    assert api.requests == []
    assert gate.left == []


async def test_each_call_reserves_what_it_asks_for_and_pays_what_it_took(api: ClaudeApi) -> None:
    gate = Gate()
    asked = body("hi").replace(b'"model": "m"', b'"model": "claude-sonnet-4-5", "max_tokens": 1000')
    proxy = Proxy(api.base_url, gate=gate)
    async with project_of(proxy) as project:
        async with project.post(asked) as response:
            assert response.status == 200
            await response.read()
        async with project.post(asked, "v1/messages/count_tokens") as response:
            assert response.status == 200
    assert gate.entered == [pytest.approx(0.015), 0.0]
    (reserved, cost), second = gate.left
    assert reserved == pytest.approx(0.015)
    assert cost == pytest.approx(100 * 3e-6 + 200 * 3e-6 + 50 * 15e-6)
    assert second == (0.0, 0.0)
    assert proxy.usd == [cost]


async def at_work(world: World) -> tuple[CallGate, int, Run]:
    """A gate of a world in which a run is open."""
    await world.activate(await world.project())
    await world.say("work", "m1")
    project, run = await world.next_run()
    gate = CallGate(world.admission, world.dispatcher.at_work)
    gate.ready.set()
    return gate, project, run


async def test_nobody_calls_the_model_without_a_turn(world: World) -> None:
    gate, project, run = await at_work(world)
    assert await gate.enter(str(project), 1.0) == ""
    gate.leave(str(project), 1.0, 0.5)
    assert world.admission.left(project)[0] == 0.5
    await world.sleds.finish(project, run)
    await world.settled("m1")
    assert await gate.enter(str(project), 0.0) == NO_TURN


async def test_after_a_restart_calls_wait_until_it_is_known_which_turns_are_open(world: World) -> None:
    gate, project, _ = await at_work(world)
    gate.ready.clear()
    calling = asyncio.create_task(gate.enter(str(project), 0.0))
    await world.store.read(lambda c: None)
    assert not calling.done()
    gate.ready.set()
    assert await asyncio.wait_for(calling, 5 * patience()) == ""


@pytest.mark.parametrize(("said", "outcome"), [("yes", ""), ("no", USED_UP)])
async def test_once_the_budget_is_used_up_a_call_waits_for_people(tmp_path: Path, said: str, outcome: str) -> None:
    world = await make_world(tmp_path, budget_usd=5.0)
    gate, project, _ = await at_work(world)
    world.admission.events = Events(lambda _: gate.look_again())
    assert await gate.enter(str(project), 9.6) == "", "something is left"
    gate.leave(str(project), 9.6, 5.1)
    calling = asyncio.create_task(gate.enter(str(project), 0.1))
    await reads(world, "5.10 of 5.00 USD used today. Continue with +2?")
    assert not calling.done()
    assert world.admission.held_calls[project] == 1
    await answer(world, said, "a1")
    assert await asyncio.wait_for(calling, 5 * patience()) == outcome
    assert world.admission.held_calls[project] == 0
    await close_world(world)


async def test_calls_at_once_do_not_exceed_the_budget_together(tmp_path: Path) -> None:
    """A container that sends a hundred: as many go out as may be paid for, and nobody is asked for the others yet."""
    world = await make_world(tmp_path, budget_usd=5.0)
    gate, project, _ = await at_work(world)
    calls = [asyncio.create_task(gate.enter(str(project), 2.0)) for _ in range(100)]
    await world.store.read(lambda c: None)
    assert sum(call.done() for call in calls) == 3
    assert not any("Continue" in text for text in world.transport.texts)
    gate.leave(str(project), 2.0, 0.1)
    await world.store.read(lambda c: None)
    assert sum(call.done() for call in calls) == 4
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await close_world(world)


async def test_a_call_that_is_held_ends_with_its_turn(tmp_path: Path) -> None:
    """Else it would count as waiting for people in the project's next turns."""
    world = await make_world(tmp_path, budget_usd=5.0)
    gate, project, run = await at_work(world)
    world.admission.events = Events(lambda _: gate.look_again())
    assert await gate.enter(str(project), 1.0) == ""
    gate.leave(str(project), 1.0, 6.0)
    calling = asyncio.create_task(gate.enter(str(project), 0.1))
    await reads(world, "Continue")
    await world.sleds.finish(project, run)
    assert await asyncio.wait_for(calling, 5 * patience()) == NO_TURN
    assert world.admission.held_calls[project] == 0
    await close_world(world)
