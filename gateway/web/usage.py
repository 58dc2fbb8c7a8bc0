"""What turns took and cost, in charts: by day, project, person or agent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway import clock
from gateway.chat.text import seconds
from gateway.config import AGENT
from gateway.intake import Services
from gateway.store import usage
from gateway.store.usage import Spent
from gateway.web import charts, templates
from gateway.web.guard import Guard

#: The periods and groups that can be asked for; the first is what is shown unasked.
DAYS, GROUPS = (30, 7, 90), ("day", "project", "person", "agent")
#: Turns that are looked at; of more, the newest.
_MOST = 50_000
#: Days from which on a row is a week.
_WEEKS = 60


class Usage:
    """The route `/usage`: as the command, all projects and people for everybody."""

    def __init__(self, services: Services, guard: Guard) -> None:
        self._services = services
        self._guard = guard

    def routes(self) -> list[web.RouteDef]:
        """For whoever is logged in."""
        return [web.get("/usage", self._guard.wrap(self._show))]

    async def _show(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        asked_days, by = request.query.get("days", str(DAYS[0])), request.query.get("by", GROUPS[0])
        if asked_days not in map(str, DAYS) or by not in GROUPS:
            could = f"days can be {', '.join(map(str, sorted(DAYS)))}, and by can be {', '.join(GROUPS)}"
            return templates.message(400, f"There is no such chart: {could}.", visitor[0])
        days, zone = int(asked_days), self._services.schedules.zone(visitor[0].sender)
        today = datetime.fromtimestamp(clock.now(), zone).replace(hour=0, minute=0, second=0, microsecond=0)
        first = today - timedelta(days=days - 1)
        found = await self._services.store.read(lambda c: usage.each(c, first.timestamp(), _MOST))
        groups = self._grouped(found, by, zone, first, days)
        return templates.render(
            "usage.html",
            person=visitor[0],
            days=days,
            by=by,
            all_days=sorted(DAYS),
            groups=GROUPS,
            zone=zone.key,
            charts=_charts(groups, by, days) if found else (),
            is_cut=len(found) == _MOST,
            kept=self._services.settings.gateway.keep_days,
        )

    def _grouped(
        self, found: Sequence[Spent], by: str, zone: ZoneInfo, first: datetime, days: int
    ) -> dict[str, list[Spent]]:
        """The turns by label: days in their order, each of them; everything else with the dearest first."""
        if by == "day":
            step = 7 if days > _WEEKS else 1
            starts = [first + timedelta(days=number) for number in range(0, days, step)]
            labels = [f"{start:%a} {start.day} {start:%b}" for start in starts]
            grouped: dict[str, list[Spent]] = {label: [] for label in labels}
            for turn in found:
                at = datetime.fromtimestamp(turn.at, zone).date()
                number = min(max(0, (at - first.date()).days) // step, len(labels) - 1)
                grouped[labels[number]].append(turn)
            return grouped
        grouped = {}
        for turn in found:
            label = turn.project if by == "project" else turn.agent if by == "agent" else self._name(turn.person)
            grouped.setdefault(label, []).append(turn)
        return dict(sorted(grouped.items(), key=lambda one: (-sum(t.usd for t in one[1]), -len(one[1]), one[0])))

    def _name(self, sender: str) -> str:
        known: Any = self._services.settings.people.get(sender)
        if known is not None:
            return str(known.name)
        return f"{sender.removeprefix(AGENT)}'s agent" if sender.startswith(AGENT) else sender


def _charts(groups: dict[str, list[Spent]], by: str, days: int) -> list[charts.Chart]:
    per = "week" if by == "day" and days > _WEEKS else by
    tokens = {label: (sum(t.input_tokens for t in g), sum(t.output_tokens for t in g)) for label, g in groups.items()}
    took = {label: [t.seconds for t in group if t.seconds is not None] for label, group in groups.items()}
    times = {label: (charts.share(these, 0.5), charts.share(these, 0.95)) for label, these in took.items()}
    cost = {label: (sum(turn.usd for turn in group),) for label, group in groups.items()}
    number = {label: (len(group),) for label, group in groups.items()}
    return [
        charts.draw("turns", f"Turns by {per}", ("turns",), number, charts.count),
        charts.draw("cost", f"Cost by {per}", ("cost",), cost, charts.usd),
        charts.draw("tokens", f"Tokens by {per}", ("in, with cache", "out"), tokens, charts.thousands),
        charts.draw(
            "time", f"Time of a turn by {per}", ("half take at most", "95 of 100 take at most"), times, seconds
        ),
    ]
