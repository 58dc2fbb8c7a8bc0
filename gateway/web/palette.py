"""Every command, and where there is something to see: what the palette offers and the chat completes."""

from __future__ import annotations

from aiohttp import web

from gateway.intake import Services
from gateway.intake.usage import read_usage
from gateway.web.guard import Guard


class Palette:
    """The route `/palette`."""

    def __init__(self, services: Services, guard: Guard) -> None:
        self._services = services
        self._guard = guard

    def routes(self) -> list[web.RouteDef]:
        """For the page's own scripts."""
        return [web.get("/palette", self._guard.wrap(self._offer))]

    async def _offer(self, request: web.Request) -> web.Response:
        """The commands that this person may use, and all projects.

        `says`: the words of a command; `takes`: what kind of thing follows them, empty if nothing does.
        """
        visitor = self._guard.visitor(request)
        if visitor is None:
            return web.json_response({"commands": [], "projects": []}, status=401)
        commands = []
        for command in self._services.commands:
            if command.role <= visitor[0].role:
                grammar = read_usage(command.usage)
                takes = grammar.slots[0].name if grammar.slots else "flags" if grammar.flags else ""
                says = " ".join(grammar.words)
                commands.append({"says": says, "takes": takes, "usage": command.usage, "summary": command.summary})
        return web.json_response(
            {"commands": commands, "projects": [one.name for one in self._services.projects.all()]}
        )
