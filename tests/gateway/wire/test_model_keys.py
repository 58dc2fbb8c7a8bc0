"""How the provider takes a key: refused or limited, one state each, that ends as soon as the provider says so."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from gateway.config import Credential
from gateway.events import Event, Events, KeyRefused, KeyWorks, ProviderLimited
from gateway.wire.model_keys import Keys
from tests.support.claude_api import ClaudeApi, script
from tests.support.proxy import KEY, KEY_REFUSED, Proxy, body, project_of


@pytest.fixture
async def api() -> AsyncIterator[ClaudeApi]:
    async with ClaudeApi(require_key=KEY) as api:
        yield api


async def test_a_refused_key_is_one_state_that_does_not_hammer_the_api(api: ClaudeApi) -> None:
    now, told = [1000.0], list[Event]()
    proxy = Proxy(api.base_url, clock=lambda: now[0], heard=told.append, probe_s=60)
    api.require_key = "another"
    async with project_of(proxy) as project:
        for _ in range(5):
            assert await project.error(body("hi")) == (401, "authentication_error", KEY_REFUSED)
        assert calls(api) == 1, "the storm stays here"
        assert proxy.key_problem.startswith(KEY_REFUSED)
        now[0] += 61
        for _ in range(5):
            assert (await project.error(body("hi")))[0] == 401
        assert calls(api) == 2, "one probe"
        assert told == [KeyRefused(KEY_REFUSED)]
        now[0] += 61
        api.require_key = KEY
        async with project.post(body(script({"http": 529}))) as response:
            assert response.status == 529
        assert proxy.key_problem.startswith(KEY_REFUSED), "that says nothing of the key"
        async with project.post(body("hi")) as response:
            assert response.status == 200, "so the next call asks again"
        assert told == [KeyRefused(KEY_REFUSED), KeyWorks()]
        assert proxy.key_problem == ""
        api.require_key = "another"
        assert await project.error(body("hi")) == (401, "authentication_error", KEY_REFUSED)
        assert proxy.key_problem.startswith(KEY_REFUSED)
        proxy.value = api.require_key = "new"
        proxy.keys.changed([])
        assert proxy.key_problem == ""
        async with project.post(body("hi")) as response:
            assert response.status == 200
    assert told == 2 * [KeyRefused(KEY_REFUSED), KeyWorks()]


def calls(api: ClaudeApi) -> int:
    """Without the gateway's own, which asks whether it is the key."""
    return sum(request.path != "/v1/models?limit=1" for request in api.requests)


def limited(**headers: str) -> tuple[Keys, list[Event]]:
    """Keys after a 429 with these headers, at time 1000."""
    told: list[Event] = []
    key = Credential("all", "api_key", KEY)
    keys = Keys(lambda _: key, Events(told.append), clock=lambda: 1000.0)
    for _ in range(2):
        keys.was_limited("demo", key, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}))
    return keys, told


@pytest.mark.parametrize(
    ("headers", "until"),
    [
        ({"anthropic_ratelimit_unified_status": "rejected", "anthropic_ratelimit_unified_reset": "5000"}, 5000),
        ({"Anthropic_Ratelimit_Unified_Status": " Rejected", "retry_after": "30"}, 1030),
        (
            {
                "anthropic_ratelimit_unified_status": "rejected",
                "anthropic_ratelimit_unified_reset": "900",
                "retry_after": "7",
            },
            1007,
        ),
        ({"anthropic_ratelimit_unified_status": "rejected", "anthropic_ratelimit_unified_reset": "9" * 12}, None),
        ({"anthropic_ratelimit_unified_status": "rejected", "anthropic_ratelimit_unified_reset": "soon"}, None),
        ({"anthropic_ratelimit_unified_status": "rejected"}, None),
        ({"anthropic_ratelimit_unified_status": "allowed_warning", "anthropic_ratelimit_unified_reset": "5000"}, None),
        ({"retry_after": "30"}, None),
    ],
)
def test_the_end_of_a_limit_is_known_from_the_headers(headers: dict[str, str], until: float | None) -> None:
    keys, told = limited(**headers)
    assert keys.limited_until == keys.limit_of("demo") == until
    assert told == ([] if until is None else [ProviderLimited(until)])


async def test_limits_pass_through_and_a_call_that_succeeds_ends_them(api: ClaudeApi) -> None:
    proxy = Proxy(api.base_url)
    ends = int(time.time()) + 500
    headers = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": str(ends)}
    async with project_of(proxy) as project:
        async with project.post(body(script({"http": 429}))) as response:
            assert response.status == 429
        assert proxy.limited_until is None, "a throttle that passes"
        async with project.post(body(script({"http": 429, "headers": headers}))) as response:
            assert response.status == 429
            assert response.headers["anthropic-ratelimit-unified-reset"] == str(ends)
        assert proxy.limited_until == ends
        async with project.post(body("hi")) as response:
            assert response.status == 200
        assert proxy.limited_until is None
    assert [used.limited for used in proxy.used] == [True, True, False]


def test_a_key_that_works_for_others_is_not_refused_for_one_projects_requests() -> None:
    now, told = [1000.0], list[Event]()
    key = Credential("all", "api_key", KEY)
    keys = Keys(lambda _: key, Events(told.append), clock=lambda: now[0])
    keys.was_accepted("good", key)
    keys.was_refused("odd", key)
    assert keys.ask("odd") == KEY_REFUSED, "that one is held"
    assert keys.ask("good") == keys.ask("good") == key
    assert (keys.problem, told) == ("", [])
    keys.was_refused("good", key)
    assert told == [KeyRefused(KEY_REFUSED)], "nobody is left for whom it works"


def test_what_a_replaced_key_does_means_nothing() -> None:
    old, new = Credential("all", "api_key", "old"), Credential("all", "api_key", "new")
    keys = Keys(lambda _: new, Events())
    keys.was_refused("demo", old)
    assert (keys.problem, keys.ask("demo")) == ("", new)
    keys.was_refused("demo", new)
    keys.was_accepted("demo", old)
    assert keys.problem


def test_whoever_sees_to_the_keys_ends_refusals_but_no_limits() -> None:
    stays, goes = Credential("all", "api_key", "stays"), Credential("demo", "api_key", "goes")
    keys = Keys(lambda project: goes if project == "demo" else stays, Events(), clock=lambda: 1000.0)
    headers = {"anthropic-ratelimit-unified-status": "rejected", "retry-after": "30"}
    for project, key in (("other", stays), ("demo", goes)):
        keys.was_limited(project, key, headers)
        keys.was_refused(project, key)
    assert keys.problem
    keys.changed([stays])
    assert keys.problem == ""
    assert (keys.limit_of("other"), keys.limit_of("demo")) == (1030, None)
    assert (keys.ask("other"), keys.ask("demo")) == (stays, goes)


def test_who_never_asked_may_find_a_refused_key_to_work_again() -> None:
    """The project that was refused may have given up."""
    now = [1000.0]
    key = Credential("all", "api_key", KEY)
    keys = Keys(lambda _: key, Events(), clock=lambda: now[0], probe_s=60)
    keys.was_refused("demo", key)
    assert keys.refusal("other") == keys.refusal("demo") == KEY_REFUSED
    now[0] += 60
    assert keys.refusal("other") == keys.refusal("demo") == ""
    assert keys.ask("other") == key
    assert keys.refusal("other") == KEY_REFUSED, "once a minute"
