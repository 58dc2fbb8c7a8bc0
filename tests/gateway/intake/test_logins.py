"""Links that are good once, and the sessions that they begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config import Access, Role
from gateway.errors import StateError, UserError
from gateway.intake import logins as module
from gateway.intake.logins import LINK_FOR_S, MOST_LINKS, MOST_SESSIONS, SESSION_FOR_S, Logins, device_of
from gateway.store import Store, audit, web_sessions
from gateway.store.seal import Seal
from tests.support.databases import place
from tests.support.wall_clock import WallClock

ANA, BEN = "matrix:@ana:example.org", "slack:U0BEN"


@dataclass
class Where:
    url: str = "http://huskies.localhost:8700"
    is_public: bool = False


class Desk:
    """Logins on a real store; who is on the lists can be changed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.operators, self.members = [ANA], [BEN]
        self.logins = self.again()

    def again(self) -> Logins:
        """As another process would find them."""
        self.access = Access(self.operators, self.members)
        self.logins = Logins(self.store, self.access, Where())
        return self.logins

    def token(self, sender: str = ANA) -> str:
        return self.logins.link(sender, "Ana").rpartition("/")[2]


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = await Store.open(place(tmp_path), Seal(tmp_path))
    yield Desk(store)
    await store.close()


async def test_a_link_logs_in_the_very_person_once(desk: Desk) -> None:
    link = desk.logins.link(ANA, "Ana")
    assert link.startswith("http://huskies.localhost:8700/login/")
    token = link.rpartition("/")[2]
    for _ in range(3):  # a preview of the link, and a person who looks twice
        offered = desk.logins.offered(token)
        assert offered is not None
        assert (offered.sender, offered.name, offered.role) == (ANA, "Ana", Role.OPERATOR)
    kept = await desk.logins.begin(token, "")
    assert desk.logins.offered(token) is None
    with pytest.raises(UserError, match="used, or is too old"):
        await desk.logins.begin(token, "")
    found = desk.logins.who(kept)
    assert found is not None
    assert found[0] == offered


async def test_of_two_who_use_a_link_at_once_one_is_let_in(desk: Desk) -> None:
    token = desk.token()
    found = await asyncio.gather(*(desk.logins.begin(token, "") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, str) for one in found) == 1
    assert len(desk.logins.of(ANA)) == 1


@pytest.mark.parametrize("step", [LINK_FOR_S + 1, 7200.0])
async def test_a_link_is_good_for_five_minutes(desk: Desk, wall_clock: WallClock, step: float) -> None:
    token = desk.token()
    wall_clock.step(LINK_FOR_S - 10)
    assert desk.logins.offered(token) is not None
    wall_clock.step(step)
    assert desk.logins.offered(token) is None
    with pytest.raises(UserError):
        await desk.logins.begin(token, "")


async def test_a_clock_that_is_set_back_makes_no_link_good_for_longer(
    desk: Desk, wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = desk.token()
    wall_clock.step(-7200)
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + LINK_FOR_S + 1)
    assert desk.logins.offered(token) is None


async def test_what_is_stored_of_a_session_lets_nobody_in(desk: Desk) -> None:
    kept = await desk.logins.begin(desk.token(), "")
    (stored,) = await desk.store.read(web_sessions.everything)
    assert kept not in repr(stored)
    assert desk.logins.who(stored.token_hash) is None
    assert desk.logins.who(kept.swapcase()) is None
    assert desk.logins.who("\udc80" * 10) is None


async def test_a_session_outlives_a_restart_and_a_link_does_not(desk: Desk) -> None:
    kept, token = await desk.logins.begin(desk.token(), ""), desk.token()
    again = desk.again()
    await again.recover()
    assert again.who(kept) is not None
    assert again.offered(token) is None


async def test_it_ends_when_its_person_leaves_the_lists(desk: Desk) -> None:
    kept, token = await desk.logins.begin(desk.token(), ""), desk.token()
    desk.operators.remove(ANA)
    again = desk.again()
    await again.recover()
    assert again.who(kept) is None
    assert again.offered(token) is None
    await desk.store.probe()
    assert await desk.store.read(web_sessions.everything) == [], "and does not come back with them"


async def test_a_role_is_what_the_lists_say_now(desk: Desk) -> None:
    kept = await desk.logins.begin(desk.token(), "")
    desk.operators, desk.members = [], [ANA]
    again = desk.again()
    await again.recover()
    found = again.who(kept)
    assert found is not None
    assert found[0].role is Role.MEMBER


async def test_it_ends_when_nobody_used_it_for_a_month(desk: Desk, wall_clock: WallClock) -> None:
    kept = await desk.logins.begin(desk.token(), "")
    for number in range(1, 4):  # used now and then, it lasts
        wall_clock.step(number * (SESSION_FOR_S - 60))
        assert desk.logins.who(kept) is not None
    await desk.store.probe()  # what is not urgent is written with the next that is
    again = desk.again()
    await again.recover()
    assert again.who(kept) is not None, "that it was used is stored"
    wall_clock.step(3 * (SESSION_FOR_S - 60) + SESSION_FOR_S + 60)
    assert again.who(kept) is None


async def test_what_nobody_uses_any_more_ends_at_a_start(desk: Desk, wall_clock: WallClock) -> None:
    await desk.logins.begin(desk.token(), "")
    wall_clock.step(SESSION_FOR_S - 60)
    kept = await desk.logins.begin(desk.token(), "")
    wall_clock.step(SESSION_FOR_S + 60)
    again = desk.again()
    await again.recover()
    assert len(await desk.store.read(web_sessions.everything)) == 1
    assert again.who(kept) is not None


async def test_one_is_ended_and_the_others_are_not(desk: Desk) -> None:
    first, second = [await desk.logins.begin(desk.token(), "") for _ in range(2)]
    found = desk.logins.who(first)
    assert found is not None
    await desk.logins.end(found[1])
    assert desk.logins.who(first) is None
    assert desk.logins.who(second) is not None
    assert len(await desk.store.read(web_sessions.everything)) == 1


async def test_there_are_only_so_many_of_each(desk: Desk, wall_clock: WallClock) -> None:
    tokens = [desk.token() for _ in range(MOST_LINKS + 1)]
    assert [desk.logins.offered(token) is not None for token in tokens] == [False] + [True] * MOST_LINKS
    kept = []
    for number in range(MOST_SESSIONS + 1):
        kept.append(await desk.logins.begin(desk.token(), ""))
        wall_clock.step(number)
    assert [desk.logins.who(one) is not None for one in kept] == [False] + [True] * MOST_SESSIONS
    assert len(await desk.store.read(web_sessions.everything)) == MOST_SESSIONS


async def test_a_disk_that_refuses_costs_no_link(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    token = desk.token()

    def refused(*_: object, **__: object) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StateError("the disk is full"))
        return future

    with monkeypatch.context() as patched:
        patched.setattr(desk.store, "write", refused)
        with pytest.raises(StateError):
            await desk.logins.begin(token, "")
    assert await desk.logins.begin(token, "")


async def test_the_audit_tells_who_logged_in(desk: Desk) -> None:
    await desk.logins.begin(desk.token(), "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    (row,) = await desk.store.read(lambda c: audit.newest(c, 10))
    assert (row.actor, row.text) == (ANA, "logged in to the page with Firefox on Linux")


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/139.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/139.0 Safari/537.36 Edg/139.0", "Edge on Windows"),
        ("curl/8.1", "curl/8.1"),
        ("<script>alert(1)</script>", "scriptalert1/script"),
        ("", "a browser"),
        ("\x00\u202e" * 50, "a browser"),
    ],
)
def test_a_browser_is_called_in_a_few_words(agent: str, told: str) -> None:
    assert device_of(agent) == told


def test_the_bounds_are_what_people_are_told() -> None:
    assert (module.LINK_FOR_S, module.SESSION_FOR_S) == (300.0, 30 * 86400.0)
