"""usage: what runs took and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from gateway import clock
from gateway.chat.text import seconds
from gateway.config import Person, Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import Connection
from gateway.store.usage import Sum, sums

#: How many projects, and how many people, one period names; the rest is in its total.
_MOST = 10
_LONGEST_MONTH = 31

#: What the turns of a period used, by project and person.
Table = Mapping[tuple[str, str], Sum]


class Usage:
    """Runs, time, tokens and cost for today, this week and this month, by project and by person; with a project, for
    that one. A run counts in the period in which it began. Time leaves out waiting for people. "At least": a run is
    still under way, or was cut off before its model said what it used."""

    usage = "usage [project]"
    summary = "what runs took and cost: today, this week, this month"
    role = Role.MEMBER
    level: Level = "free"
    beyond = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        services = ctx.services
        name = ctx.get("project")
        project = None if name is None else services.projects.get(name)
        now = datetime.fromtimestamp(clock.now())
        starts = periods(now)

        def read(connection: Connection) -> list[Table]:
            at, project_id = clock.now(), project.id if project else None
            return [sums(connection, start.timestamp(), at, project_id) for start in starts.values()]

        found = await services.store.read(read)
        parts = [f"**Usage{f' of {project.name}' if project else ''}**"]
        for title, table in zip(starts, found, strict=True):
            parts.append(_period(title, table, services.settings.people, alone=project is not None))
        if services.settings.gateway.keep_days < _LONGEST_MONTH:
            parts.append(f"Anything older than {services.settings.gateway.keep_days} days is not kept.")
        return "\n\n".join(parts)


def periods(now: datetime) -> dict[str, datetime]:
    """When today, this week (from Monday) and this month began, in local time, by their titles."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    return {
        "Today": today,
        f"This week (from Monday, {monday.day} {monday:%b})": monday,
        f"This month (from 1 {first:%b})": first,
    }


def _period(title: str, table: Table, people: Mapping[str, Person], *, alone: bool) -> str:
    if not table:
        return f"**{title}**: no runs"
    by_project = _by(table, lambda project, _: f"`{project}`")
    by_person = _by(table, lambda _, person: _name(person, people))
    lines = [f"**{title}**: {_say(sum(table.values(), Sum()))}"]
    for group in (by_person,) if alone else (by_project, by_person):
        most = sorted(group.items(), key=lambda item: (-item[1].usd, -item[1].seconds, item[0]))
        lines += [f"- {name}: {_say(used)}" for name, used in most[:_MOST]]
        if len(most) > _MOST:
            lines.append(f"- and {len(most) - _MOST} more")
    return "\n".join(lines)


def _by(table: Table, label: Callable[[str, str], str]) -> dict[str, Sum]:
    found: dict[str, Sum] = {}
    for key, used in table.items():
        found[label(*key)] = found.get(label(*key), Sum()) + used
    return found


def _name(account: str, people: Mapping[str, Person]) -> str:
    """A configured name is one person, on however many platforms; a bare account is shown so that it pings nobody."""
    person = people.get(account)
    return " ".join(person.name.split()) if person else f"`{account}`"


def _say(used: Sum) -> str:
    least = "at least "
    tokens = f"{least if used.tokens_at_least else ''}{_count(used.input_tokens)} in, {_count(used.output_tokens)} out"
    if used.cache_read_tokens:
        tokens += f", {_count(used.cache_read_tokens)} from cache"
    if used.cache_write_tokens:
        tokens += f", {_count(used.cache_write_tokens)} to cache"
    runs = "1 run" if used.runs == 1 else f"{used.runs} runs"
    return f"{runs}, {seconds(used.seconds)}; {tokens}; {least if used.usd_at_least else ''}{_usd(used.usd)}"


def _count(tokens: int) -> str:
    """Three digits and a unit: 950, 12.4k, 2M."""
    unit = ""
    value = float(tokens)
    for larger in ("k", "M", "G"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g}{unit}"


def _usd(amount: float) -> str:
    return f"{amount:.4f} USD" if 0 < amount < 0.1 else f"{amount:.2f} USD"
