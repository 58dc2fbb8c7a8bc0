"""The page's templates, rendered, and its static files. Jinja2 is loaded by the first request, not by the start."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from jinja2 import Environment

    from gateway.intake.logins import Person

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["static"] = static
    made.filters["stamp"] = _stamp
    made.filters["bytes"] = _bytes
    made.globals["identifier"] = lambda: secrets.token_hex(12)
    return made


def _stamp(seconds: float) -> str:
    """Seconds since the epoch, as `<time>` has them; the browser shows them in its own zone."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bytes(count: int) -> str:
    """A number of bytes, as people read it."""
    return (
        f"{count:,} bytes"
        if count < 2**10
        else f"{count / 2**10:,.0f} KiB"
        if count < 2**20
        else f"{count / 2**20:,.1f} MiB"
    )


def render(template: str, status: int = 200, **values: Any) -> web.Response:
    """A whole page."""
    text = _environment().get_template(template).render(**{"person": None, **values})
    return web.Response(status=status, text=text, content_type="text/html", charset="utf-8")


def fragment(template: str, **values: Any) -> str:
    """A part of a page, from the template that the whole page uses for it, too."""
    return _environment().get_template(template).render(**values)


def message(status: int, told: str, person: Person | None = None) -> web.Response:
    """A page that says one thing; with the ways to others, for whoever is logged in."""
    return render("message.html", status, title="huskies", told=told, person=person)


def elsewhere(url: str, path: str) -> web.Response:
    """The page lives under another name, and opens there by itself; what to do if it does not."""
    return render("elsewhere.html", url=url, address=url + path, name=url.partition("://")[2].partition(":")[0])


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """What is served from the package, by its name and what is in it: a new version is another address."""
    found = {}
    for file in sorted((_HERE / "static").iterdir()):
        data = file.read_bytes()
        name = f"{file.stem}.{hashlib.sha256(data).hexdigest()[:12]}{file.suffix}"
        found[name] = (data, _TYPES[file.suffix])
    return found


@cache
def static(name: str) -> str:
    """The address of a static file."""
    stem, _, suffix = name.rpartition(".")
    (found,) = [one for one in _files() if one.startswith(f"{stem}.") and one.endswith(f".{suffix}")]
    return f"/static/{found}"


async def serve_manifest(_: web.Request) -> web.Response:
    """`/manifest.webmanifest`: what a phone needs to put the page among its apps."""
    icons = [
        {"src": static("icon-512.png"), "sizes": "512x512", "type": "image/png"},
        {"src": static("icon.svg"), "sizes": "any", "type": "image/svg+xml"},
    ]
    told = {"name": "huskies", "short_name": "huskies", "start_url": "/", "scope": "/", "display": "standalone"}
    colours = {"background_color": "#fbfbf9", "theme_color": "#1b5e96"}
    return web.json_response({**told, **colours, "icons": icons}, content_type="application/manifest+json")


async def serve_static(request: web.Request) -> web.Response:
    """`/static/{name}`: kept by browsers for a year."""
    found = _files().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    data, kind = found
    answer = web.Response(body=data, content_type=kind, charset="utf-8" if kind.startswith("text/") else None)
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    answer.enable_compression()
    return answer
