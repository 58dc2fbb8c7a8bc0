"""What strangers and containers send again and again: it fills no log."""

from __future__ import annotations

import io
import logging

from gateway.config.log import Redactor, Throttle


class Log:
    """A log with the gateway's filters, on a clock that the test moves."""

    def __init__(self, *secrets: str) -> None:
        self.now = 0.0
        self.text = io.StringIO()
        handler = logging.StreamHandler(self.text)
        handler.addFilter(Throttle(lambda: self.now))
        handler.addFilter(Redactor(list(secrets)))
        self.log = logging.Logger("stranger")
        self.log.addHandler(handler)

    @property
    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()


def test_so_many_events_of_a_kind_are_logged_in_a_minute_and_the_others_counted() -> None:
    here = Log()
    for number in range(1000):
        here.log.warning("a request of %s was not signed", number)
    assert len(here.lines) == 60
    here.log.warning("something else")
    assert here.lines[-1] == "something else"
    here.now = 61
    here.log.warning("a request of %s was not signed", "Mallory")
    assert here.lines[-1] == "a request of Mallory was not signed (940 more like it were left out)"
    here.log.warning("a request of %s was not signed", "Eve")
    assert here.lines[-1] == "a request of Eve was not signed"


def test_what_is_told_of_an_end_is_never_left_out() -> None:
    here = Log()
    for _ in range(100):
        here.log.critical("the database is damaged")
        try:
            raise ValueError("x")
        except ValueError:
            here.log.exception("a defect")
    assert here.text.getvalue().count("the database is damaged") == 100
    assert here.text.getvalue().count("Traceback") == 60, "a container may find a way to cause it"


def test_kinds_without_end_take_no_memory_without_end() -> None:
    here = Log()
    for number in range(5000):
        here.log.warning(f"kind {number}")
    (throttle,) = [one for one in here.log.handlers[0].filters if isinstance(one, Throttle)]
    assert len(throttle._seen) <= 2000


def test_a_line_is_bounded_and_a_secret_at_the_cut_is_hidden() -> None:
    here = Log("sk-ant-canary")
    here.log.warning("%s%s", "x" * 7995, "sk-ant-canary" * 1000)
    (line,) = here.lines
    assert len(line) < 8100
    assert "sk-" not in line
    assert "more characters" in line
