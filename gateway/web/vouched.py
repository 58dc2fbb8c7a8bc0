"""Files of a project that its agent names: the gateway vouches for each one that is there, and shows no other."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from urllib.parse import quote

from aiohttp import web

from gateway.errors import UserError
from gateway.intake import Services
from gateway.projects.source_tree import is_file, read_bytes
from gateway.store.projects import Project
from gateway.web import markup, served, templates
from gateway.web.guard import Guard

#: Bytes of a file that is shown.
_MOST = 2**20
#: What may be a path, with the line that is meant, as tools write it.
_PATH = re.compile(r"(?:\./)?([^\s/\\:*?\"<>|][^\\:*?\"<>|]{0,198}?)(?::(\d{1,6})(?:[:-]\d{1,6})?)?")
_LONGEST = 200


class Vouched:
    """The route of files, and what leads there."""

    def __init__(self, services: Services, guard: Guard) -> None:
        self._services = services
        self._guard = guard
        self._key = secrets.token_bytes(32)

    def routes(self) -> list[web.RouteDef]:
        """For whoever is logged in, and was led there."""
        return [web.get("/project/{name}/file/{seal}/{path:.+}", self._guard.wrap(self._show))]

    def links(self, project: Project) -> Callable[[str], str]:
        """Where words lead that name a file of the project; empty if they name none. It looks at the disk."""

        def link(words: str) -> str:
            found = _PATH.fullmatch(words) if len(words) <= _LONGEST else None
            if found is None or ("." not in words and "/" not in words) or not is_file(project.path, found[1]):
                return ""
            line = f"#line-{found[2]}" if found[2] else ""
            return f"/project/{project.name}/file/{self._seal(project, found[1])}/{quote(found[1])}{line}"

        return link

    def _seal(self, project: Project, path: str) -> str:
        return hmac.new(self._key, f"{project.id}\0{path}".encode(), hashlib.sha256).hexdigest()[:32]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        """A file: as text with numbered lines, as a picture, or to be downloaded."""
        visitor = self._guard.visitor(request)
        if visitor is None:
            return templates.render("welcome.html", 401)
        project, path = self._services.projects.get(request.match_info["name"]), request.match_info["path"]
        if not hmac.compare_digest(self._seal(project, path).encode(), request.match_info["seal"].encode()):
            raise UserError(served.GONE)
        data = await asyncio.to_thread(read_bytes, project.path, path, _MOST)
        if data is None:
            raise UserError(served.GONE)
        name = path.rpartition("/")[2]
        kind = served.picture(data)
        if kind and "raw" in request.query:
            return web.Response(body=data, headers={"Content-Type": kind, "Content-Disposition": "inline"})
        try:
            text = "" if kind else data.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "raw" in request.query or "\0" in text:
            headers = {"Content-Type": "application/octet-stream", "Content-Disposition": served.download(name)}
            return web.Response(body=data, headers=headers)
        lines = [] if kind else (await asyncio.to_thread(markup.file, text, name)).split("\n")
        return templates.render(
            "file.html", person=visitor[0], name=project.name, path=path, is_picture=bool(kind), lines=lines
        )
