"""What `/metrics` counts."""

from __future__ import annotations

from collections import Counter

from gateway.delivery import Fates, Outbox
from gateway.intake import Inbox
from gateway.projects import Projects
from gateway.store import Store
from gateway.turns import Dispatcher
from gateway.web.health import Family


class Metrics:
    """Reads the parts' own counters when somebody asks."""

    def __init__(
        self,
        *,
        store: Store,
        inbox: Inbox,
        outbox: Outbox,
        fates: Fates,
        dispatcher: Dispatcher,
        projects: Projects,
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._outbox = outbox
        self._fates = fates
        self._dispatcher = dispatcher
        self._projects = projects

    def collect(self) -> list[Family]:
        """All families, now."""
        running, in_line = self._dispatcher.load
        states = Counter(self._projects.state(project) for project in self._projects.all())
        fates = [({"fate": fate.value}, float(n)) for fate, n in self._fates.counts.items()]
        return [
            _counter("huskies_messages_accepted", "messages committed to the inbox", self._inbox.accepted),
            _counter("huskies_messages_repeated", "events that were already known", self._inbox.duplicates),
            ("huskies_message_fates", "changes of fate", "counter", fates),
            _counter("huskies_replies_sent", "messages that a platform took", self._outbox.sent),
            _gauge("huskies_runs", "runs under way", running),
            _gauge("huskies_sessions_in_line", "sessions that wait for a place", in_line),
            (
                "huskies_projects",
                "projects by state",
                "gauge",
                [({"state": state}, float(count)) for state, count in states.items()],
            ),
            _counter("huskies_commits", "database transactions", self._store.commits),
            _counter("huskies_commits_refused", "database transactions that were refused", self._store.refusals),
            _counter("huskies_units", "writes in these transactions", self._store.units),
        ]


def _counter(name: str, text: str, value: int) -> Family:
    return (name, text, "counter", [({}, float(value))])


def _gauge(name: str, text: str, value: int) -> Family:
    return (name, text, "gauge", [({}, float(value))])
