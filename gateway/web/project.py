"""A project's own page: how to get in, what its agent did, what it may do, and what can be done with it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import WSCloseCode, web

from gateway.chat.text import quote, seconds
from gateway.config import AGENT, Role
from gateway.config.secrets import ALL
from gateway.errors import EngineError, SledError, UserError
from gateway.intake import Services
from gateway.intake.logins import Person
from gateway.projects import file_changes, recipes
from gateway.store import Connection, questions, timeline
from gateway.store.projects import Project
from gateway.store.timeline import Worked
from gateway.web import home, sides, templates
from gateway.web.changes import Changes
from gateway.web.guard import LOGGED_OUT, Guard
from stacks.words import lacking, stack_lines

#: Turns, and lines of a log, that a page begins with.
_TURNS, _LINES = 30, 300
_WORDS = 120
#: Seconds between two looks at a log.
_LOOK_S = 1.0
_LOGS = ("sled", "agent", "build")
_RUN = re.compile(r"[A-Za-z0-9-]{1,80}")


@dataclass(frozen=True, slots=True)
class Action:
    """What a button says to the bot: with a slash, so that it is never a prompt.

    `after`: what pressing it means; `asks`: what has to be written beside it.
    """

    label: str
    says: str
    after: str
    asks: str = ""


def actions(project: Project, commands: Mapping[str, Role], role: Role) -> list[Action]:
    """What this person can do with the project."""
    name = project.name
    known = [
        Action("Start", f"/up {name}", "It is started, and takes up what waits.")
        if project.desired != "up"
        else Action(
            "Take down", f"/down {name}", "What runs is ended, and its container with it. What is waiting waits on."
        ),
        Action("Restart", f"/restart {name}", "What runs is ended, and it begins in a new container."),
        Action("Rebuild", f"/rebuild {name}", "Its image is built anew; you are shown what changes, and asked."),
        Action("Stop", "/stop", "Your run there is ended, and what is waiting in your conversation is dropped."),
        Action("Try again", f"/retry {name}", "The last turn that was cut off, or failed, runs again."),
        Action("Undo", f"/undo {name}", "What the last turn changed in its files is put back."),
        Action("Set the model", "/model", "Leave it empty to see which one it is.", "model"),
        Action(
            "Set the agent",
            "/agent",
            "claude, scripted, default, or acp:<command>. Empty shows which one it is.",
            "agent",
        ),
        Action("Delete", f"/delete {name}", "You are asked again. Its source stays."),
    ]
    needed = {one: Role.OPERATOR if one.asks else commands[one.says.split()[0].removeprefix("/")] for one in known}
    return [one for one in known if needed[one] <= role]


class ProjectPage:
    """The routes of a project's page. `secrets`: the names of a scope's secrets."""

    def __init__(
        self, services: Services, guard: Guard, changes: Changes, secrets: Callable[[], Mapping[str, list[str]]]
    ) -> None:
        self._services = services
        self._guard = guard
        self._changes = changes
        self._secrets = secrets
        self._following: set[web.WebSocketResponse] = set()

    def routes(self) -> list[web.RouteDef]:
        """For whoever is logged in."""
        guarded = self._guard.wrap
        return [
            web.get("/project/{name}", guarded(self._show)),
            web.get("/project/{name}/changes", guarded(self._changed)),
            web.get("/project/{name}/logs/{of}", guarded(self._logs)),
            web.get("/project/{name}/logs/{of}/live", guarded(self._follow, "stream")),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        person, at = visitor[0], str(self._changes.now)
        project = self._services.projects.get(request.match_info["name"])
        before = request.query.get("before", "")
        until = int(before) if re.fullmatch(r"\d{1,9}", before) else None
        roles = {command.usage.split()[0]: command.role for command in self._services.commands}
        return templates.render(
            "project.html",
            person=person,
            at=at,
            is_past=until is not None,
            actions=actions(project, roles, person.role),
            **await self._about(project, person, until),
        )

    async def part(self, project: Project, person: Person) -> dict[str, str]:
        """What a tab that shows the project is to show, now that it is another than before."""
        return {"id": "about", "in": "", "html": templates.fragment("about.html", **await self._about(project, person))}

    async def _about(self, project: Project, person: Person, until: int | None = None) -> dict[str, Any]:
        def read(connection: Connection) -> tuple[list[Worked], list[questions.Rule]]:
            turns = timeline.turns_of(connection, project.id, _TURNS, until)
            return turns, questions.rules_of(connection, project.id)

        projects = self._services.projects
        turns, rules = await self._services.store.read(read)
        recipe, way = recipes.stored(project), projects.access(project)
        stacks = stack_lines(recipe.plan, recipe.told, built=projects.engine.isolated) if project.stack else []
        return {
            "project": home.project(self._services, project.id),
            "name": project.name,
            "path": project.path,
            "stacks": [*stacks, *lacking(recipe.told)],
            "agent": projects.agent(project),
            "model": projects.model(project),
            "permissions": project.permissions,
            "way": way,
            "include": projects.include_line if way else "",
            "engine": projects.engine.kind,
            "secrets": self._names(project, person),
            "rules": rules,
            "turns": [self._turn(turn, person) for turn in turns],
            "older": turns[-1].id if len(turns) == _TURNS else None,
        }

    def _names(self, project: Project, person: Person) -> dict[str, list[str]]:
        """The names of what its agents use without seeing it."""
        if person.role is not Role.OPERATOR:
            return {}
        return {scope: names for scope, names in self._secrets().items() if scope in (ALL, project.name) and names}

    def _turn(self, turn: Worked, person: Person) -> dict[str, Any]:
        people = self._services.settings.people
        known = people.get(turn.sender)
        if turn.sender.startswith(AGENT):
            who = f"{turn.sender.removeprefix(AGENT)}'s agent"
        else:
            who = known.name if known else turn.name or turn.sender
        # What somebody wrote elsewhere is theirs, and the operators'.
        may_read = person.role is Role.OPERATOR or turn.sender == person.sender
        more = f" and {turn.more} more" if turn.more else ""
        return {
            "id": turn.id,
            "run": turn.run,
            "at": turn.began_at,
            "who": who,
            "text": f"{quote(turn.text, _WORDS)}{more}" if may_read and turn.text else "",
            "took": "" if turn.seconds is None else seconds(turn.seconds),
            "tools": ", ".join(
                f"{name} {count}" for name, count in sorted(turn.tools.items(), key=lambda t: -t[1])[:6]
            ),
            "usd": turn.usd,
            "ending": turn.ending or "running",
            "error": turn.error if may_read else "",
            "model": turn.model or turn.agent,
        }

    async def _changed(self, request: web.Request) -> web.Response:
        """What a turn changed in the files, side by side; the last one, or that of `run`."""
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        project, run = self._services.projects.get(request.match_info["name"]), request.query.get("run", "")
        if run and not _RUN.fullmatch(run):
            raise UserError("There is no such turn.")
        projects = self._services.projects
        try:
            change = await (
                file_changes.of_run(projects, project, run) if run else file_changes.last(projects, project)
            )
        except SledError as error:
            return templates.message(409, f"What that turn changed cannot be shown: {error}.", visitor[0])
        files, is_all = sides.by_file(change.patch)
        whole = is_all and not change.truncated
        return templates.render(
            "changes.html", person=visitor[0], name=project.name, summary=change.summary, files=files, is_whole=whole
        )

    async def _logs(self, request: web.Request) -> web.Response:
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        project, of = self._services.projects.get(request.match_info["name"]), request.match_info["of"]
        if of not in _LOGS:
            raise UserError(f"There are three logs: {', '.join(_LOGS)}.")
        text = await self.log(project, of)
        return templates.render("logs.html", person=visitor[0], name=project.name, of=of, logs=_LOGS, text=text)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """Send a log whenever it is another than before, for as long as somebody looks."""
        socket = web.WebSocketResponse(heartbeat=20.0, max_msg_size=4096)
        project, of = self._services.projects.get(request.match_info["name"]), request.match_info["of"]
        await socket.prepare(request)
        if self._guard.visitor(request) is None or of not in _LOGS:
            await socket.close(code=LOGGED_OUT)
            return socket
        telling = asyncio.create_task(self._tell(request, socket, project, of))
        self._following.add(socket)
        try:
            async for _ in socket:  # it says nothing; this is how its end is heard
                break
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self._following.discard(socket)
        return socket

    async def _tell(self, request: web.Request, socket: web.WebSocketResponse, project: Project, of: str) -> None:
        """A log has no events: it is looked at every second."""
        before = None
        with contextlib.suppress(ConnectionError):
            while self._guard.visitor(request) is not None:
                text = await self.log(project, of)
                if text != before:
                    await socket.send_json({"text": text})
                    before = text
                await asyncio.sleep(_LOOK_S)
            await socket.close(code=LOGGED_OUT)

    async def close(self) -> None:
        """End what follows a log."""
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._following))

    async def log(self, project: Project, of: str) -> str:
        """The last lines of one of its logs; why there are none, if they cannot be read."""
        try:
            return await self._services.projects.logs(project, of, _LINES)
        except EngineError as error:
            return f"({error})"
