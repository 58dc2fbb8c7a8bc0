"""SSH ports: in turn, of nobody else."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UserError
from gateway.projects.ports import choose_port, listens_nowhere

PORTS = range(22200, 22205)


def everything_free(_: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("taken", "after", "chosen"),
    [
        ((), None, 22200),
        ((22200, 22201), None, 22202),
        ((22200,), 22200, 22201),
        ((), 22202, 22203),  # one given up a moment ago is still in somebody's editor
        ((), 22204, 22200),
        ((22200,), 22204, 22201),
        ((22203, 22204), 22202, 22200),
        ((), 4000, 22200),  # of a range that the configuration had before
        ((22200, 22201, 22202, 22204), 22202, 22203),
    ],
)
def test_the_next_in_turn(taken: tuple[int, ...], after: int | None, chosen: int) -> None:
    assert choose_port(PORTS, taken, after, everything_free) == chosen


def test_another_programs_port_is_passed_over() -> None:
    assert choose_port(PORTS, [], 22200, lambda port: port not in {22201, 22202}) == 22203


def test_a_full_range_says_what_to_do() -> None:
    for taken, is_free in ((PORTS, everything_free), ([], lambda _: False)):
        with pytest.raises(UserError) as caught:
            choose_port(PORTS, taken, 22203, is_free)
        for part in ("22200-22204 are used up", "projects.ssh_ports", "`delete <name> --purge`"):
            assert part in str(caught.value)


@given(taken=st.sets(st.sampled_from(PORTS)), after=st.none() | st.integers(22195, 22210))
def test_a_port_is_chosen_exactly_if_one_is_left(taken: set[int], after: int | None) -> None:
    if taken == set(PORTS):
        with pytest.raises(UserError):
            choose_port(PORTS, taken, after, everything_free)
    else:
        assert choose_port(PORTS, taken, after, everything_free) in set(PORTS) - taken


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_who_listens_is_found_whatever_the_address(host: str, unused_port: int) -> None:
    assert listens_nowhere(unused_port)
    with socket.create_server((host, unused_port)):
        assert not listens_nowhere(unused_port)
        with pytest.raises(UserError):
            choose_port(range(unused_port, unused_port + 1), [], None)
    assert listens_nowhere(unused_port)
    assert choose_port(range(unused_port, unused_port + 1), [], None) == unused_port


def test_a_port_whose_connections_have_just_ended_is_free(unused_port: int) -> None:
    with socket.create_server(("127.0.0.1", unused_port)) as server:
        client = socket.create_connection(("127.0.0.1", unused_port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    assert listens_nowhere(unused_port), "an engine can listen there"
